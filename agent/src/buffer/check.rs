//! Verifies what the buffer holds as a collector would: order, previous heads, roots, seals, counters; and that the key
//! file stands where the buffer does.
//!
//! Read-only, in one snapshot, so that a running agent is not in the way.

use std::path::Path;

use edgetrail_disk::{KeyFile, Medium};
use edgetrail_proto::chain::{BatchKind, Head, Header, Verifier};
use serde::Serialize;

use super::scribe::end_seq;
use super::store::{self, StreamRow};
use super::unsealed::unsealed;
use super::{BufferError, KEY_FILE, addition};

/// How often a key file that differs from a running agent's buffer is looked at again.
const KEY_FILE_LOOKS: usize = 5;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub streams: u64,
    pub batches: u64,
    pub records: u64,
    /// One line each; empty when all is well.
    pub findings: Vec<String>,
}

/// Checks the buffer in `dir`.
pub fn check(dir: &Path) -> Result<Checked, BufferError> {
    let mut checked = rows(dir)?;
    // A running agent moves between two looks: what differs each time is a finding.
    let mut finding = None;
    for _ in 0..KEY_FILE_LOOKS {
        finding = key_file(dir)?;
        if finding.is_none() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    checked.findings.extend(finding);
    Ok(checked)
}

/// Compares the key file with the database's head, as a start would. docs/protocol.md §3.5.
fn key_file(dir: &Path) -> Result<Option<String>, BufferError> {
    let slot = KeyFile::peek(&Medium::real(), &dir.join(KEY_FILE))?;
    let db = store::open_reader(&Medium::real(), dir)?;
    let current = store::state(&db)?.current.map(|ordinal| store::stream_at(&db, ordinal)).transpose()?.flatten();
    let Some(row) = current else { return Ok(None) };
    let stream = row.open.stream;
    let (due, head) = row.head.as_ref().map_or((0, row.open.hash()), |(header, _)| (header.k.saturating_add(1), header.hash()));
    Ok(match slot {
        None => Some(format!("the key file holds no whole slot: the next start opens a successor of stream {stream}")),
        Some(slot) if slot.stream != stream => {
            Some(format!("the key file is of stream {}, the buffer of {stream}: the next start opens a successor", slot.stream))
        }
        Some(slot) if slot.next_k == due && slot.head == head => None,
        Some(slot) if slot.next_k.checked_add(1) == Some(due) => None,
        Some(slot) => Some(format!(
            "the key file is before batch {} of stream {stream}, the buffer before {due}: batches are gone or one of both is \
             an old copy; the next start reports it and opens a successor",
            slot.next_k
        )),
    })
}

fn rows(dir: &Path) -> Result<Checked, BufferError> {
    let db = store::open_reader(&Medium::real(), dir)?;
    db.execute_batch("BEGIN")?;
    let mut checked = Checked::default();
    let state = store::state(&db)?;
    if state.reach.is_none() {
        checked.findings.push("the state row is damaged: the next start reports it".to_owned());
    }
    for row in store::streams(&db, usize::MAX)? {
        checked.streams += 1;
        stream(&db, &row, &mut checked)?;
        let end = row.head.as_ref().map_or(0, |(header, _)| end_seq(header));
        let reach = state.reach.filter(|_| state.current == Some(row.ordinal)).map(|reach| reach.next_seq);
        let missing = unsealed(&db, row.ordinal, end, reach)?.missing;
        if missing.first().is_some() {
            checked.findings.push(format!("stream {}: unsealed records are damaged or gone: {missing}", row.open.stream));
        }
    }
    for _ in store::damaged_cursors(&db)? {
        checked.findings.push("a source's cursor is damaged: the next start reports it".to_owned());
    }
    Ok(checked)
}

fn stream(db: &rusqlite::Connection, row: &StreamRow, checked: &mut Checked) -> Result<(), BufferError> {
    let id = row.open.stream;
    let mut verifier = match &row.receipted {
        Some((header, ..)) => Verifier::resume(head_of(header)),
        None => Verifier::begin(&row.open),
    };
    while let Some(batch) = store::batch(db, row.ordinal, verifier.next_k())? {
        let header = &batch.header;
        let k = header.k;
        let mut body = Vec::new();
        for chunk in store::chunks(db, row.ordinal, header.first_seq, end_seq(header), usize::MAX)? {
            if let Err(error) = store::read_body(db, chunk.body, &mut body) {
                checked.findings.push(format!("stream {id}, batch {k}: {error}"));
            }
        }
        checked.batches += 1;
        checked.records += u64::from(header.count);
        let leaves = addition::leaves(&body, header.count).unwrap_or_default();
        if let Err(error) = Verifier::check_leaves(header, &leaves) {
            checked.findings.push(format!("stream {id}: {error}"));
        }
        let head = match verifier.check_header(header, &batch.seal) {
            Ok(head) => head,
            Err(error) => {
                checked.findings.push(format!("stream {id}: {error}"));
                head_of(header)
            }
        };
        if !head.counters.balance(head.next_seq) {
            checked.findings.push(format!("stream {id}, batch {k}: its counters don't balance"));
        }
        verifier = Verifier::resume(head);
    }
    let k = verifier.next_k();
    if store::any_batch(db, row.ordinal, k)? {
        checked.findings.push(format!("stream {id}: batch {k} is damaged or gone, and others are behind it"));
    }
    Ok(())
}

fn head_of(header: &Header) -> Head {
    Head {
        stream: header.stream,
        k: Some(header.k),
        hash: header.hash(),
        next_key: header.next_key,
        next_seq: end_seq(header),
        counters: header.counters,
        closed: header.kind == BatchKind::Close,
    }
}
