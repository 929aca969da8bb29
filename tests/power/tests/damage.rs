//! Files that were damaged while nobody looked: detected and said, or harmless, never silently wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};

use edgetrail_power::agent::{self, Agent};
use edgetrail_power::collector::Collector;
use edgetrail_power::damage::{DAMAGES, damage};
use edgetrail_power::promise::Promises;
use edgetrail_power::rng::Rng;
use edgetrail_power::{Disk, seeds};

const BUFFER_FILES: [&str; 3] = ["buffer.sqlite", "buffer.sqlite-wal", "ratchet.key"];

/// How often an event that found no place is brought again.
const TRIES_MAX: usize = 8;

/// Gives how many events lie in sealed batches.
fn live(agent: &Agent, promises: &mut Promises, collector: &mut Collector, rng: &mut Rng, steps: usize) -> usize {
    let mut sealed = 0;
    collector.resume(&agent.shelf).unwrap();
    for _ in 0..steps {
        let count = 1 + rng.below(40);
        let records = promises.make(count);
        let seal = rng.one_in(3);
        assert!(agent.commit(&records, seal));
        promises.answer(count);
        if seal {
            sealed = promises.made();
        }
        if rng.one_in(6) {
            collector.take(&agent.shelf, rng).unwrap();
        }
    }
    sealed
}

/// Files of which a repair brought a stream back, over all cases.
static BROUGHT: AtomicUsize = AtomicUsize::new(0);

fn damaged_buffer(seed: u64) {
    let disk = Disk::new(seed);
    let mut rng = Rng::new(seed);
    let (mut promises, mut collector) = (Promises::default(), Collector::default());
    agent::join(&disk).unwrap();
    let file = agent::dir(&disk).join(BUFFER_FILES[rng.below(BUFFER_FILES.len())]);
    let kind = DAMAGES[usize::try_from(seed).unwrap() % DAMAGES.len()];

    let agent = Agent::start(&disk).unwrap();
    let steps = rng.below(12);
    live(&agent, &mut promises, &mut collector, &mut rng, steps);
    let stale = disk.content(&file);
    let steps = 1 + rng.below(12);
    let sealed = live(&agent, &mut promises, &mut collector, &mut rng, steps);
    // The power fails, so that the log stays as it is.
    disk.cut_after(1);
    agent.stop(false);
    disk.reboot();
    let done = damage(&disk, &file, kind, stale, &mut rng);
    let case = format!("{}: {done}", file.display());

    let agent = match Agent::start(&disk) {
        Ok(agent) => agent,
        Err(error) => {
            // The one refusal: a schema that a newer agent seems to have written.
            assert!(error.to_string().contains("use the agent that wrote it"), "{case}: {error:?}");
            return;
        }
    };
    for _ in 0..3 {
        let records = promises.make(2);
        let taken = (0..TRIES_MAX).any(|_| agent.commit(&records, true));
        assert!(taken, "{case}: capture goes on");
        promises.answer(2);
    }
    collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    agent.stop(true);
    let agent = Agent::start(&disk).unwrap();
    collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    // What was put aside comes back, from a second time on nothing does.
    if rng.one_in(2) {
        let repaired = agent.buffer.repair().unwrap_or_else(|error| panic!("{case}: {error:?}"));
        BROUGHT.fetch_add(repaired.iter().filter(|file| file.streams > 0).count(), Ordering::Relaxed);
        collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}, repaired: {error:?}"));
        let again = agent.buffer.repair().unwrap_or_else(|error| panic!("{case}, repaired again: {error:?}"));
        assert!(again.iter().all(|file| file.batches == 0 && file.unsealed == 0), "{case}: {again:?}");
    }
    agent.stop(true);

    let (lost, doubled) = (promises.lost(&collector), Promises::doubled(&collector));
    // What was not sealed is in no key file: only that the run broke off tells of it.
    let (sealed_lost, open_lost): (Vec<usize>, Vec<usize>) = lost.iter().copied().partition(|&n| n < sealed);
    if let Some(declared) = collector.declared(&["buffer-damaged", "buffer-rollback"]) {
        assert!(declared >= sealed_lost.len() as u64, "{case}: {declared} are said to be missing, {sealed_lost:?} are");
    }
    if let Some(declared) = collector.declared(&["buffer-damaged", "buffer-rollback", "unclean-restart"]) {
        assert!(declared >= lost.len() as u64, "{case}: {declared} are said to be missing, {open_lost:?} are too");
    }
    assert!(doubled.is_empty() || collector.rehomed(), "{case}: twice and not rehomed: {doubled:?}");
}

/// What a sealed batch lies in. Where its chunks begin and what they count is beside it, under no hash.
const COLUMNS: [(&str, &str); 9] = [
    ("batch", "seal"),
    ("batch", "header"),
    ("batch", "hash"),
    ("batch", "k"),
    ("batch", "waits"),
    ("chunk", "count"),
    ("chunk", "bytes"),
    ("chunk", "body"),
    ("body", "records"),
];

/// Flips one bit of one value under a running agent; says where, or that there was nothing to flip.
fn flip(disk: &Disk, (table, column): (&str, &str), rng: &mut Rng) -> String {
    let db = edgetrail_disk::database::open_reader(&disk.medium(), &agent::dir(disk).join(BUFFER_FILES[0])).unwrap();
    db.pragma_update(None, "query_only", false).unwrap();
    let rows: u32 = db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    if rows == 0 {
        return format!("no row in {table}");
    }
    let row = rng.below(rows as usize);
    let chosen = format!("SELECT {column} FROM {table} LIMIT 1 OFFSET {row}");
    let value = db.query_row(&chosen, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
    let flipped = match value {
        rusqlite::types::Value::Integer(number) => rusqlite::types::Value::Integer(number ^ (1 << rng.below(8))),
        rusqlite::types::Value::Blob(mut bytes) => {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
            rusqlite::types::Value::Blob(bytes)
        }
        other => panic!("{table}.{column} holds {other:?}"),
    };
    let keys = match table {
        "batch" => "(stream, k)",
        "chunk" => "(stream, first_seq)",
        _ => "id",
    };
    let update = format!(
        "UPDATE OR IGNORE {table} SET {column} = ?1 WHERE {keys} IN (SELECT {} FROM {table} LIMIT 1 OFFSET {row})",
        keys.trim_matches(['(', ')'])
    );
    db.execute(&update, [flipped]).unwrap();
    format!("a bit of {table}.{column} in row {row} of {rows}")
}

fn flipped_under_a_running_agent(seed: u64) {
    let disk = Disk::new(seed);
    let mut rng = Rng::new(seed);
    let (mut promises, mut collector) = (Promises::default(), Collector::default());
    collector.expects_damage = true;
    agent::join(&disk).unwrap();
    let agent = Agent::start(&disk).unwrap();
    let steps = 2 + rng.below(16);
    live(&agent, &mut promises, &mut collector, &mut rng, steps);
    assert!(agent.commit(&promises.make(1), true), "everything is sealed");
    promises.answer(1);
    let column = COLUMNS[usize::try_from(seed).unwrap() % COLUMNS.len()];
    let case = flip(&disk, column, &mut rng);

    // Never refused for ever: the agent finds it by itself, and goes on.
    collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    for _ in 0..3 {
        let taken = (0..TRIES_MAX).any(|_| agent.commit(&promises.make(2), true));
        assert!(taken, "{case}: capture goes on");
        promises.answer(2);
    }
    collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    agent.stop(true);
    let (lost, doubled) = (promises.lost(&collector), Promises::doubled(&collector));
    if let Some(declared) = collector.declared(&["buffer-damaged", "buffer-rollback"]) {
        assert!(declared >= lost.len() as u64, "{case}: {declared} are said to be missing, {lost:?} are");
    }
    assert!(doubled.is_empty() || collector.rehomed(), "{case}: twice and not rehomed: {doubled:?}");
    let is_beside = ["seal", "hash", "waits"].contains(&column.1);
    assert!(!is_beside || lost.is_empty(), "{case}: header and records are whole, and {lost:?} are lost");
}

#[test]
fn a_bit_that_flips_in_a_running_buffer_is_found_and_said_and_nothing_is_refused_for_ever() {
    seeds::each("buffer, flipped bits", seeds::chosen(110), 8, flipped_under_a_running_agent);
}

#[test]
fn a_damaged_buffer_loses_nothing_in_silence() {
    let chosen = seeds::chosen(210);
    let many = chosen.end - chosen.start >= 210;
    seeds::each("buffer, damaged files", chosen, 16, damaged_buffer);
    let brought = BROUGHT.load(Ordering::Relaxed);
    eprintln!("{brought} files that were put aside gave streams back");
    assert!(!many || brought > 0, "no case had anything to repair");
}
