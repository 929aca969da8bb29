//! Brings back what a damaged database, put aside at a start, still holds.
//!
//! Each stream that is readable there becomes a former stream of the buffer again: its batches that hash to their roots,
//! under their own seals, and what lay unsealed behind them. Nothing is dissolved here. On its next resume the agent
//! shows the stream; what the collector holds is released by its receipt, what it still takes is sent as it was sealed,
//! and only the rest is sealed again behind a report, its holes named. docs/protocol.md §8.
//!
//! A stream's rows are invisible until the last transaction records its open: a repair that breaks off begins that stream
//! anew, one that is repeated finds it recorded. The damaged file is evidence: it is only ever read and renamed.

use std::path::{Path, PathBuf};

use edgetrail_disk::{Access, Medium};
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::chain::verify_seal;
use edgetrail_proto::identity::StreamId;
use rusqlite::Connection;
use serde::Serialize;

use super::salvage::{Salvage, Whole};
use super::scribe::end_seq;
use super::store::{self, ChunkRow, Content, Store, StoreError, StreamRow};
use super::writer::Limits;
use super::{BUFFER_FILE, BufferError, KEY_FILE, addition};
use crate::buffer::space::Space;

/// What is brought in by one transaction, bytes of records.
const SLICE_BYTES: u64 = 4 * 1024 * 1024;

/// Behind [`BUFFER_FILE`]: put aside at a start, and repaired.
const DAMAGED: &str = ".damaged-";
const REPAIRED: &str = ".repaired-";

/// What came of one damaged file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    pub file: String,
    /// Its name now; absent where something in it could not be brought back, and it waits as it is.
    pub kept_as: Option<String>,
    pub streams: u64,
    /// Sealed batches without a receipt that are whole, and their records.
    pub batches: u64,
    pub records: u64,
    /// Records that were committed and not sealed.
    pub unsealed: u64,
    /// One line each: what is missing or could not be brought back.
    pub findings: Vec<String>,
}

/// What goes into the buffer in one transaction.
#[derive(Debug, Default)]
pub(super) struct Slice {
    ordinal: i64,
    whole: Vec<Whole>,
    unsealed: Vec<(ChunkRow, Vec<u8>)>,
    /// The last of a stream: makes it visible.
    stream: Option<StreamRow>,
    /// What is shown with the stream's receipt.
    receipt_key: Option<ReceiptKey>,
}

impl Slice {
    /// Whether a stream is whole with it.
    pub(super) const fn is_last(&self) -> bool {
        self.stream.is_some()
    }

    /// The same rows, a batch at a time.
    #[cfg(test)]
    pub(super) fn split(self) -> Vec<Self> {
        let Self { ordinal, whole, unsealed, stream, receipt_key } = self;
        let mut parts: Vec<Self> =
            whole.into_iter().map(|whole| Self { ordinal, whole: vec![whole], ..Self::default() }).collect();
        parts.push(Self { ordinal, unsealed, stream, receipt_key, whole: Vec::new() });
        parts
    }
}

/// The buffer that takes it in: a running agent's writer, or a file that nobody uses.
pub(super) trait Recipient {
    /// The ordinal of a stream that is older than all.
    fn begin(&mut self) -> Result<i64, BufferError>;
    fn take(&mut self, slice: Slice) -> Result<(), BufferError>;
}

/// The buffer of an agent that does not run.
#[derive(Debug)]
struct Still<'a> {
    medium: &'a Medium,
    dir: &'a Path,
    store: Store,
    limits: &'a Limits,
}

/// Repairs the buffer in `dir`, which no agent may be using.
pub fn repair(medium: &Medium, dir: &Path, limits: &Limits) -> Result<Vec<Repaired>, BufferError> {
    let key_file = dir.join(KEY_FILE);
    let handle = match medium.length(&key_file).map_err(StoreError::File)? {
        Some(_) => Some(medium.open(&key_file, Access::Read).map_err(StoreError::File)?),
        None => None,
    };
    // Held to the end: an agent that starts meanwhile is refused.
    if let Some(handle) = &handle
        && !handle.lock().map_err(StoreError::File)?
    {
        return Err(BufferError::Running);
    }
    let store = Store::open(medium, dir)?;
    repair_into(medium, dir, &mut Still { medium, dir, store, limits })
}

/// Repairs from every file that was put aside in `dir`, the newest first.
pub(super) fn repair_into(medium: &Medium, dir: &Path, into: &mut dyn Recipient) -> Result<Vec<Repaired>, BufferError> {
    let mut done = Vec::new();
    for name in put_aside(medium, dir)? {
        let path = dir.join(&name);
        let mut repaired = Repaired { file: name, ..Repaired::default() };
        let salvage = Salvage::read(medium, &path).map_err(StoreError::File)?;
        let mut complete = salvage.unreadable_streams == 0;
        if !complete {
            let findings = "a stream's open could not be read: `buffer export FILE` still writes what there is of its records";
            repaired.findings.push(findings.to_owned());
        }
        for row in salvage.streams().iter().rev() {
            if holds(medium, dir, row.open.stream)? {
                continue;
            }
            bring_back(&salvage, row, into, &mut repaired)?;
        }
        if salvage.streams().is_empty() {
            complete = false;
            repaired.findings.push("no stream could be read in it".to_owned());
        }
        if complete {
            repaired.kept_as = Some(keep(medium, &path)?);
        }
        done.push(repaired);
    }
    Ok(done)
}

/// Names of the databases that starts put aside, the newest first; of one whose log alone is left, too.
fn put_aside(medium: &Medium, dir: &Path) -> Result<Vec<String>, BufferError> {
    let prefix = format!("{BUFFER_FILE}{DAMAGED}");
    let mut times: Vec<u64> = medium
        .list(dir)
        .map_err(StoreError::File)?
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.strip_prefix(&prefix)?.trim_end_matches("-wal").parse().ok())
        .collect();
    times.sort_unstable();
    times.dedup();
    Ok(times.into_iter().rev().map(|time| format!("{prefix}{time}")).collect())
}

fn holds(medium: &Medium, dir: &Path, stream: StreamId) -> Result<bool, BufferError> {
    Ok(store::stream(&store::open_reader(medium, dir)?, stream)?.is_some())
}

/// The database last: a crash between leaves it where the next repair looks, with streams that are held already.
fn keep(medium: &Medium, path: &Path) -> Result<String, BufferError> {
    let renamed = |path: &Path| PathBuf::from(path.to_string_lossy().replacen(DAMAGED, REPAIRED, 1));
    for suffix in ["-shm", "-wal", ""] {
        let mut from = path.as_os_str().to_owned();
        from.push(suffix);
        let from = PathBuf::from(from);
        if medium.length(&from).map_err(StoreError::File)?.is_some() {
            medium.rename(&from, &renamed(&from)).map_err(StoreError::File)?;
        }
    }
    medium.sync_name(path).map_err(StoreError::File)?;
    Ok(renamed(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

fn bring_back(salvage: &Salvage, row: &StreamRow, into: &mut dyn Recipient, repaired: &mut Repaired) -> Result<(), BufferError> {
    let stream = row.open.stream;
    let receipted = row.receipted.as_ref().map(|(header, ..)| header);
    let first_k = receipted.map_or(0, |header| header.k.saturating_add(1));
    let mut next_key = Some(receipted.map_or(row.open.first_key, |header| header.next_key));
    let mut head = row.head.clone();
    // Where sending must end whatever the collector holds: a seal that does not hold, or a tail that is gone.
    let mut damaged = None;
    let mut next_k = first_k;
    let ordinal = into.begin()?;
    let mut slices = Slices { into, slice: Slice::default(), ordinal, bytes: 0 };
    for k in salvage.batch_numbers(row.ordinal).filter(|&k| k >= first_k) {
        let Some(batch) = salvage.batch(stream, row.ordinal, k) else { continue };
        if head.as_ref().is_none_or(|(header, _)| header.k < k) {
            head = Some((batch.header.clone(), batch.seal));
        }
        let Some(whole) = salvage.whole(row.ordinal, batch) else { continue };
        let header = &whole.batch.header;
        if k > next_k {
            repaired.findings.push(format!("stream {stream}: batches {next_k} to {} are missing", k - 1));
            next_key = None;
        }
        if next_key.is_some_and(|key| !verify_seal(&key, &whole.batch.hash, &whole.batch.seal)) {
            repaired.findings.push(format!("stream {stream}: the seal of batch {k} is damaged"));
            damaged.get_or_insert(k);
        }
        (next_key, next_k) = (Some(header.next_key), k.saturating_add(1));
        (repaired.batches, repaired.records) = (repaired.batches + 1, repaired.records + u64::from(header.count));
        slices.whole(whole)?;
    }
    let last_k = head.as_ref().map(|(header, _)| header.k);
    if let Some(last_k) = last_k.filter(|&last| last >= next_k) {
        repaired.findings.push(format!("stream {stream}: batches {next_k} to {last_k} are missing"));
        damaged.get_or_insert(next_k);
    }
    let sealed = head.as_ref().map_or(0, |(header, _)| end_seq(header));
    for chunk in salvage.chunks(row.ordinal, sealed..u64::MAX) {
        match salvage.body(&chunk).filter(|body| addition::leaves(body, chunk.count).is_some()) {
            Some(body) => {
                repaired.unsealed += u64::from(chunk.count);
                slices.unsealed(chunk, body)?;
            }
            None => {
                let last = chunk.first_seq.saturating_add(u64::from(chunk.count)).saturating_sub(1);
                repaired.findings.push(format!("stream {stream}: unsealed seq {} to {last} could not be read", chunk.first_seq));
            }
        }
    }
    slices.slice.receipt_key = row.receipted.as_ref().and_then(|(.., receipt)| salvage.receipt_key(receipt)).cloned();
    slices.end(StreamRow { ordinal, head, damaged, ..row.clone() })?;
    repaired.streams += 1;
    Ok(())
}

/// Collects rows for a transaction at a time.
struct Slices<'a> {
    into: &'a mut dyn Recipient,
    slice: Slice,
    ordinal: i64,
    bytes: u64,
}

impl Slices<'_> {
    fn whole(&mut self, whole: Whole) -> Result<(), BufferError> {
        self.bytes = self.bytes.saturating_add(whole.chunks.iter().map(|(chunk, _)| chunk.bytes).sum());
        self.slice.whole.push(whole);
        self.flush(false)
    }

    fn unsealed(&mut self, chunk: ChunkRow, body: Vec<u8>) -> Result<(), BufferError> {
        self.bytes = self.bytes.saturating_add(chunk.bytes);
        self.slice.unsealed.push((chunk, body));
        self.flush(false)
    }

    fn end(&mut self, row: StreamRow) -> Result<(), BufferError> {
        self.slice.stream = Some(row);
        self.flush(true)
    }

    fn flush(&mut self, now: bool) -> Result<(), BufferError> {
        if now || self.bytes >= SLICE_BYTES {
            self.bytes = 0;
            let slice = std::mem::take(&mut self.slice);
            self.into.take(Slice { ordinal: self.ordinal, ..slice })?;
        }
        Ok(())
    }
}

/// Puts a slice into the buffer, in one transaction.
pub(super) fn take_in(store: &Store, slice: &Slice) -> Result<(), BufferError> {
    let db = &store.db;
    db.execute_batch("BEGIN IMMEDIATE")?;
    for whole in &slice.whole {
        store::insert_batch(db, slice.ordinal, &whole.batch)?;
        for (chunk, body) in &whole.chunks {
            put_chunk(db, slice.ordinal, chunk, body)?;
        }
    }
    for (chunk, body) in &slice.unsealed {
        put_chunk(db, slice.ordinal, chunk, body)?;
    }
    if let Some(row) = &slice.stream {
        store::put_stream(db, row)?;
    }
    if let Some(key) = &slice.receipt_key {
        store::put_receipt_key(db, key)?;
    }
    db.execute_batch("COMMIT")?;
    // From here on a crash keeps the slice; a stream counts from its last one on.
    Ok(())
}

/// A file of before there were sums says nothing of what records hash to.
fn put_chunk(db: &Connection, ordinal: i64, chunk: &ChunkRow, body: &[u8]) -> Result<(), BufferError> {
    let content = Content::of(&addition::leaves(body, chunk.count).unwrap_or_default());
    store::insert_chunk(db, ordinal, &ChunkRow { content, ..chunk.clone() }, body)?;
    Ok(())
}

impl Recipient for Still<'_> {
    fn begin(&mut self) -> Result<i64, BufferError> {
        Ok(store::begin_before(&self.store.db)?)
    }

    fn take(&mut self, slice: Slice) -> Result<(), BufferError> {
        let most = self.limits.max_bytes.saturating_sub(self.limits.reserve_bytes);
        let space = Space::of(self.medium, self.dir);
        if self.store.used_bytes()? >= most || space.is_full(self.store.reusable_bytes()?, self.limits.min_free_bytes) {
            return Err(BufferError::NoRoom);
        }
        take_in(&self.store, &slice)
    }
}
