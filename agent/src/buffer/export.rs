//! Writes every record that the buffer holds as JSON lines, with where it stands: for a look, or to save what a damaged
//! file still gives. Read-only, in one snapshot, a chunk at a time.

use std::io::Write;
use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_link::body::unframe;
use serde_json::value::RawValue;

use super::salvage::Salvage;
use super::scribe::end_seq;
use super::store::{self, ChunkRow, StreamRow};
use super::{BufferError, addition};

/// Chunks that are named in memory at a time.
const CHUNKS_MAX: usize = 256;

/// One line.
#[derive(Debug, serde::Serialize)]
struct Line<'a> {
    stream: &'a str,
    seq: u64,
    /// `sealed` or `unsealed`; neither has a receipt.
    state: &'a str,
    /// As it will lie in a log file; absent where it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a RawValue>,
    /// What is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Writes lines and counts.
struct Lines<'a, W> {
    into: &'a mut W,
    written: u64,
    unreadable: u64,
}

/// Exports the buffer in `dir`. Gives how many records were written and how many could not be read.
pub fn export(dir: &Path, into: &mut impl Write) -> Result<(u64, u64), BufferError> {
    let db = store::open_reader(&Medium::real(), dir)?;
    db.execute_batch("BEGIN")?;
    let mut lines = Lines { into, written: 0, unreadable: 0 };
    for row in store::streams(&db, usize::MAX)? {
        let mut from = 0;
        loop {
            let chunks = store::chunks(&db, row.ordinal, from, u64::MAX, CHUNKS_MAX)?;
            let Some(last) = chunks.last() else { break };
            from = last.first_seq.saturating_add(1);
            for chunk in &chunks {
                let mut body = Vec::new();
                let read = store::read_body(&db, chunk.body, &mut body).is_ok();
                lines.chunk(&row, chunk, read.then_some(&body))?;
            }
        }
    }
    Ok((lines.written, lines.unreadable))
}

/// Exports a file that a start put aside, page by page, whatever SQLite says of it.
pub fn export_file(file: &Path, into: &mut impl Write) -> Result<(u64, u64), BufferError> {
    let salvage = Salvage::read(&Medium::real(), file).map_err(store::StoreError::File)?;
    let mut lines = Lines { into, written: 0, unreadable: 0 };
    for row in salvage.streams() {
        let receipted = row.receipted.as_ref().map_or(0, |(header, ..)| end_seq(header));
        for chunk in salvage.chunks(row.ordinal, receipted..u64::MAX) {
            lines.chunk(row, &chunk, salvage.body(&chunk).as_ref())?;
        }
    }
    Ok((lines.written, lines.unreadable))
}

impl<W: Write> Lines<'_, W> {
    fn chunk(&mut self, row: &StreamRow, chunk: &ChunkRow, body: Option<&Vec<u8>>) -> Result<(), BufferError> {
        let Some(body) = body.filter(|body| addition::leaves(body, chunk.count).is_some()) else {
            self.unreadable += u64::from(chunk.count);
            return Ok(());
        };
        let stream = row.open.stream.to_string();
        let sealed = row.head.as_ref().map_or(0, |(header, _)| end_seq(header));
        for (seq, record) in (chunk.first_seq..).zip(unframe(body).filter_map(Result::ok)) {
            let json = serde_json::from_slice::<&RawValue>(record).ok();
            let text = json.is_none().then(|| String::from_utf8_lossy(record).into_owned());
            let state = if seq < sealed { "sealed" } else { "unsealed" };
            let line = Line { stream: &stream, seq, state, record: json, text };
            serde_json::to_writer(&mut *self.into, &line).map_err(|error| store::StoreError::File(error.into()))?;
            self.into.write_all(b"\n").map_err(store::StoreError::File)?;
            self.written += 1;
        }
        Ok(())
    }
}
