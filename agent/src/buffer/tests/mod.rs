//! What the buffer promises, tried by stopping it everywhere.

mod backlog;
mod clock;
mod crash;
mod host_root;
mod key_cases;
mod large;
mod offline;
mod outbox;
mod random;
mod repair;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgetrail_disk::Medium;
use edgetrail_proto::chain::{BatchKind, Binding, Cause, Counters, Open, Verifier};

use super::addition::{self, Addition, Counted};
use super::open::Opener;
use super::scribe::{Opening, Place, Published, STREAMS_READ_MAX, Scribe, Step, end_seq};
use super::{BufferError, store};
use crate::observation::{Cursor, SourceName};
use crate::report::Reporter;
use crate::report::tests::host;

/// Makes an opener as join would leave it.
pub(crate) fn opener(dir: &Path, name: &str) -> Opener {
    opener_by(dir, name, rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap())
}

/// One whose certificate ends.
fn opener_until(dir: &Path, year: i32) -> Opener {
    let mut params = rcgen::CertificateParams::new(vec!["web-1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    opener_by(dir, "web-1", params)
}

fn opener_by(dir: &Path, name: &str, params: rcgen::CertificateParams) -> Opener {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(dir.join(crate::enroll::KEY_FILE), key.serialize_pem()).unwrap();
    std::fs::write(dir.join(crate::enroll::CERTIFICATE_FILE), certificate.pem()).unwrap();
    let host = host();
    Opener::new(host.agent, Binding::one(host.account, host.region, name).unwrap(), dir).unwrap()
}

/// A state directory and a clock that only moves forward.
struct Rig {
    dir: tempfile::TempDir,
    place: Place,
    now: u64,
}

/// One stream as a verifier finds it.
#[derive(Debug)]
pub(super) struct Walked {
    open: Open,
    kinds: Vec<BatchKind>,
    records: Vec<String>,
    /// At its last head.
    counters: Counters,
}

impl Rig {
    /// As join leaves a state directory.
    fn joined() -> Self {
        let rig = Self::bare();
        super::prepare(&Medium::real(), rig.path()).unwrap();
        rig
    }

    fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            medium: Medium::real(),
            dir: dir.path().to_owned(),
            opener: Arc::new(opener(dir.path(), "web-1")),
            reporter: Reporter::new(host()),
            published: Arc::new(Published::new()),
        };
        Self { dir, place, now: 1_800_000_000_000_000_000 }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn tick(&mut self) -> u64 {
        self.now += 1_000_000;
        self.now
    }

    fn open(&mut self) -> Scribe {
        let now = self.tick();
        Scribe::open(&self.place, Opening::Start, now).unwrap().0
    }

    fn commit(&mut self, scribe: &mut Scribe, records: &[&str], waits: bool) -> Result<(), BufferError> {
        let now = self.tick();
        scribe.commit(&addition(records), waits, now)
    }

    fn seal(&mut self, scribe: &mut Scribe) -> Result<(), BufferError> {
        let now = self.tick();
        scribe.seal_open(now)
    }

    fn keep(&self, file: &str) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        ["", "-wal", "-shm"]
            .into_iter()
            .map(|suffix| self.path().join(format!("{file}{suffix}")))
            .map(|path| (path.clone(), std::fs::read(path).ok()))
            .collect()
    }

    fn restore(&self, kept: Vec<(PathBuf, Option<Vec<u8>>)>) {
        for (path, bytes) in kept {
            match bytes {
                Some(bytes) => std::fs::write(path, bytes).unwrap(),
                None if path.exists() => std::fs::remove_file(path).unwrap(),
                None => {}
            }
        }
    }
}

/// The records of a source whose cursor stands behind the last of them.
pub(super) fn addition(records: &[&str]) -> Addition {
    let mut addition = Addition::default();
    records.iter().for_each(|record| addition.record(record.as_bytes(), Counted::Observed));
    if let Some(last) = records.last() {
        addition.cursor(SourceName::File, Cursor { key: "place".to_owned(), value: last.as_bytes().to_vec() });
    }
    addition
}

/// Where the source goes on after a restart: behind this record.
pub(super) fn cursor(scribe: &Scribe) -> String {
    let cursors = store::cursors(&scribe.desk.store.db, SourceName::File.as_str()).unwrap();
    cursors.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect()
}

/// Checks every stream in the database with the verifier that ingest uses, batches without gaps, records against their
/// roots, counters at every head; gives what is in them. For buffers that never had a receipt.
pub(super) fn walk(scribe: &Scribe) -> Vec<Walked> {
    let db = &scribe.desk.store.db;
    store::streams(db, STREAMS_READ_MAX)
        .unwrap()
        .into_iter()
        .map(|row| {
            let mut verifier = Verifier::begin(&row.open);
            let (mut kinds, mut records, mut counters) = (Vec::new(), Vec::new(), Counters::default());
            for batch in store::batches(db, row.ordinal, 0, usize::MAX).unwrap() {
                let mut body = Vec::new();
                for chunk in store::chunks(db, row.ordinal, batch.header.first_seq, end_seq(&batch.header), usize::MAX).unwrap() {
                    store::read_body(db, chunk.body, &mut body).unwrap();
                }
                let leaves = addition::leaves(&body, batch.header.count).unwrap();
                let head = verifier.accept(&batch.header, &batch.seal, &leaves).unwrap();
                assert!(head.counters.balance(head.next_seq), "docs/protocol.md §3.3 at batch {:?}: {:?}", head.k, head.counters);
                kinds.push(batch.header.kind);
                counters = head.counters;
                records.extend(edgetrail_link::body::unframe(&body).map(|r| String::from_utf8(r.unwrap().to_vec()).unwrap()));
            }
            Walked { open: row.open, kinds, records, counters }
        })
        .collect()
}

/// The records that are not the agent's own, over all streams, in order.
pub(super) fn observed(streams: &[Walked]) -> Vec<String> {
    streams.iter().flat_map(|stream| &stream.records).filter(|record| !record.contains("agent.edgetrail")).cloned().collect()
}

pub(super) fn own(stream: &Walked) -> Vec<String> {
    stream.records.iter().filter(|record| record.contains("agent.edgetrail")).cloned().collect()
}

fn causes(streams: &[Walked]) -> Vec<Cause> {
    streams.iter().map(|stream| stream.open.cause).collect()
}
