//! Verifies what the buffer holds as a collector would: order, previous heads, roots, seals, counters.
//!
//! Read-only, in one snapshot, so that a running agent is not in the way.

use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_proto::chain::{BatchKind, Head, Header, Verifier};
use serde::Serialize;

use super::scribe::end_seq;
use super::store::{self, StreamRow};
use super::{BufferError, addition};

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
    let db = store::open_reader(&Medium::real(), dir)?;
    db.execute_batch("BEGIN")?;
    let mut checked = Checked::default();
    for row in store::streams(&db, usize::MAX)? {
        checked.streams += 1;
        stream(&db, &row, &mut checked)?;
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
