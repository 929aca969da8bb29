//! How long a start takes with much in the buffer, in each of the ways in which it may have to begin.
//!
//! `EDGETRAIL_RECOVERY_MIB` sets how much: 16 here, 1,024 for the figure in docs/performance.md.

use std::time::{Duration, Instant};

use edgetrail_link::outbox::{CollectorPosition, Reconciled};

use super::super::repair::repair;
use super::super::writer::Limits;
use super::super::{BUFFER_FILE, KEY_FILE};
use super::*;

/// Source: the promise of docs/performance.md, for 1 GiB.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// A record of 1 KiB that compresses like a real one.
fn record(n: usize) -> String {
    format!("{{\"eventID\":\"{n:036}\",\"{}\":{}}}", "requestParameters".repeat(50), n.wrapping_mul(2_654_435_761))
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    eprintln!("{what}: {:.2} s", began.elapsed().as_secs_f64());
    (done, began.elapsed())
}

#[test]
fn a_start_with_a_large_buffer_takes_seconds_whatever_happened_to_it() {
    let mib: usize = std::env::var("EDGETRAIL_RECOVERY_MIB").ok().map_or(16, |text| text.parse().unwrap());
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    // Two batches behind no checkpoint: the tail of a busy run.
    for batch in 0..mib {
        let records: Vec<String> = (0..1000).map(|n| record(batch * 1000 + n)).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        rig.commit(&mut scribe, &records, false).unwrap();
        rig.seal(&mut scribe).unwrap();
    }
    let old_key_file = rig.keep(KEY_FILE);
    drop(scribe);
    let bytes = std::fs::metadata(rig.path().join(BUFFER_FILE)).unwrap().len();
    eprintln!("{} MiB in {mib} batches", bytes / 1024 / 1024);

    let (scribe, crash) = timed("after a crash", || rig.open());
    drop(scribe);
    rig.restore(old_key_file);
    let (mut scribe, lost_key) = timed("with an old key file: a successor", || rig.open());
    // What a collector that has lost it all says: everything is hashed again and moves.
    let oldest = store::streams(&scribe.desk.store.db, 9).unwrap()[0].open.stream;
    scribe.damaged(oldest, 1).unwrap();
    let position = CollectorPosition {
        stream: oldest,
        recorded: true,
        head: None,
        bound: None,
        superseded: true,
        frozen: false,
        missing: Vec::new(),
    };
    let now = rig.tick();
    let (moved, all) = timed("all of it rehomed and sealed again", || scribe.reconcile(None, &[position], now).unwrap());
    assert_eq!(moved, Reconciled::Successor);
    scribe.desk.store.fold_log().unwrap();
    drop(scribe);

    let path = rig.path().join(BUFFER_FILE);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x55; 16], 0).unwrap();
    drop(file);
    let (scribe, aside) = timed("with a damaged database: put aside", || rig.open());
    drop(scribe);
    let limits = Limits { min_free_bytes: 0, max_bytes: u64::MAX, ..Limits::default() };
    let (repaired, _) = timed("brought back by a repair", || repair(&Medium::real(), rig.path(), &limits).unwrap());
    assert!(repaired[0].records >= mib as u64 * 1000 - 1000, "{repaired:?}");
    for took in [crash, lost_key, aside] {
        assert!(took < RECOVERY_MAX, "{took:?}");
    }
    // Capture waits while it is done: in the order of the same, at the disk's own pace.
    assert!(mib > 64 || all < RECOVERY_MAX, "{all:?}");
}
