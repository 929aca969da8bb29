//! Files that were damaged while nobody looked: detected and said, or harmless, never silently wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edgetrail_agent::buffer::Limits;
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

/// What a sealed batch lies in.
const COLUMNS: [(&str, &str); 12] = [
    ("batch", "seal"),
    ("batch", "header"),
    ("batch", "hash"),
    ("batch", "k"),
    ("batch", "waits"),
    ("chunk", "count"),
    ("chunk", "bytes"),
    ("chunk", "body"),
    ("body", "records"),
    ("chunk", "first_seq"),
    ("chunk", "counters"),
    ("chunk", "committed"),
];

/// What records lie in that no batch holds yet, and what holds for the buffer as a whole.
const BOOKKEEPING: [(&str, &str); 17] = [
    ("chunk", "stream"),
    ("chunk", "first_seq"),
    ("chunk", "count"),
    ("chunk", "bytes"),
    ("chunk", "committed"),
    ("chunk", "counters"),
    ("chunk", "body"),
    ("chunk", "content"),
    ("chunk", "sum"),
    ("body", "records"),
    ("state", "running"),
    ("state", "current"),
    ("state", "committed"),
    ("state", "tail"),
    ("state", "receipt"),
    ("state", "reach"),
    ("cursor", "value"),
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
        "cursor" => "(source, key)",
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
    let is_beside = ["seal", "hash", "waits", "counters", "committed"].contains(&column.1);
    assert!(!is_beside || lost.is_empty(), "{case}: header and records are whole, and {lost:?} are lost");
}

/// Seqs that the agent says are damaged: each, not how many.
fn named(collector: &Collector) -> BTreeSet<usize> {
    let mut seqs = BTreeSet::new();
    for gap in collector.records.iter().filter(|record| record.contains(r#""cause":"buffer-damaged""#)) {
        for runs in gap.split("seq ").skip(1) {
            let run = |text: &str| {
                let (from, rest) = text.split_once(" to ")?;
                let to: String = rest.chars().take_while(char::is_ascii_digit).collect();
                Some(from.trim().parse::<usize>().ok()?..=to.parse::<usize>().ok()?)
            };
            seqs.extend(runs.split(',').map_while(run).flatten());
        }
    }
    seqs
}

fn flipped_while_nobody_ran(seed: u64) {
    let disk = Disk::new(seed);
    let mut rng = Rng::new(seed);
    let (mut promises, mut collector) = (Promises::default(), Collector::default());
    collector.expects_damage = true;
    agent::join(&disk).unwrap();
    // What is not sealed on a caller's account stays unsealed.
    let limits = Limits { reserve_bytes: 0, seal_interval: Duration::from_secs(3600), ..Limits::default() };
    let agent = Agent::start_with(&disk, limits).unwrap();
    let steps = rng.below(6);
    live(&agent, &mut promises, &mut collector, &mut rng, steps);
    for _ in 0..2 + rng.below(6) {
        let count = 1 + rng.below(5);
        assert!(agent.commit_up_to("here", &promises.make(count)));
        promises.answer(count);
    }
    agent.stop(false);
    let column = BOOKKEEPING[usize::try_from(seed).unwrap() % BOOKKEEPING.len()];
    let case = flip(&disk, column, &mut rng);

    // The first stream has events alone, so an event's number is its seq.
    let agent = Agent::start(&disk).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    for _ in 0..8 {
        assert!(agent.commit(&promises.make(3), rng.one_in(2)), "{case}: capture goes on");
        promises.answer(3);
    }
    collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    agent.stop(true);
    let agent = Agent::start(&disk).unwrap();
    collector.drain(&agent.shelf, &mut rng).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    agent.stop(true);

    let (lost, doubled) = (promises.lost(&collector), Promises::doubled(&collector));
    assert!(doubled.is_empty(), "{case}: twice: {doubled:?}");
    assert_eq!(named(&collector), lost.iter().copied().collect(), "{case}: other events are named than are missing");
    // That the run broke off says nothing of what was answered.
    assert_eq!(collector.gaps("unclean-restart"), 1, "{case}");
    let declared = collector.declared(&["buffer-damaged", "buffer-rollback"]);
    match column.0 {
        "state" | "cursor" => assert!(lost.is_empty(), "{case}: {lost:?} are lost with a row that holds none"),
        _ => assert_eq!(declared, Some(lost.len() as u64), "{case}"),
    }
    if column.0 == "cursor" {
        assert_eq!(collector.gaps("damaged cursors"), 1, "{case}: a source would go on from elsewhere");
    }
}

#[test]
fn a_bit_that_flips_in_bookkeeping_is_said_by_the_exact_seqs_that_it_costs() {
    seeds::each("buffer, flipped bookkeeping", seeds::chosen(170), 8, flipped_while_nobody_ran);
}

#[test]
fn a_bit_that_flips_in_a_running_buffer_is_found_and_said_and_nothing_is_refused_for_ever() {
    seeds::each("buffer, flipped bits", seeds::chosen(144), 8, flipped_under_a_running_agent);
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
