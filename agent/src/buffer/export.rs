//! Writes every record that the buffer holds as JSON lines, with where it stands: for a look, or to save what a damaged
//! file still gives. Read-only, in one snapshot, a chunk at a time.

use std::io::Write;
use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_link::body::unframe;
use serde_json::value::RawValue;

use super::scribe::end_seq;
use super::{BufferError, addition, store};

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

/// Gives how many records were written and how many could not be read.
pub fn export(dir: &Path, into: &mut impl Write) -> Result<(u64, u64), BufferError> {
    let db = store::open_reader(&Medium::real(), dir)?;
    db.execute_batch("BEGIN")?;
    let (mut written, mut unreadable) = (0, 0);
    for row in store::streams(&db, usize::MAX)? {
        let stream = row.open.stream.to_string();
        let sealed = row.head.as_ref().map_or(0, |(header, _)| end_seq(header));
        let mut from = 0;
        loop {
            let chunks = store::chunks(&db, row.ordinal, from, u64::MAX, CHUNKS_MAX)?;
            let Some(last) = chunks.last() else { break };
            from = last.first_seq.saturating_add(1);
            for chunk in &chunks {
                let mut body = Vec::new();
                let whole =
                    store::read_body(&db, chunk.body, &mut body).is_ok() && addition::leaves(&body, chunk.count).is_some();
                if !whole {
                    unreadable += u64::from(chunk.count);
                    continue;
                }
                for (seq, record) in (chunk.first_seq..).zip(unframe(&body).filter_map(Result::ok)) {
                    let json = serde_json::from_slice::<&RawValue>(record).ok();
                    let text = json.is_none().then(|| String::from_utf8_lossy(record).into_owned());
                    let state = if seq < sealed { "sealed" } else { "unsealed" };
                    let line = Line { stream: &stream, seq, state, record: json, text };
                    serde_json::to_writer(&mut *into, &line).map_err(|error| store::StoreError::File(error.into()))?;
                    into.write_all(b"\n").map_err(store::StoreError::File)?;
                    written += 1;
                }
            }
        }
    }
    Ok((written, unreadable))
}
