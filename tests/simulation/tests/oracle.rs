//! The oracle is tested too: each promise, broken on purpose, is seen to be broken within a few seeds.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use edgetrail_simulation::{Broken, run_broken};

/// Seeds in which a broken promise must be seen.
const SEEDS: u64 = 3;

fn seen(broken: Broken, said: &str) {
    for seed in 0..SEEDS {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| run_broken(seed, broken))) else { continue };
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.contains(said), "{broken:?} was seen as something else: {text}");
        eprintln!("{broken:?} was seen with EDGETRAIL_SEED={seed}: {text}");
        return;
    }
    panic!("{broken:?} was not seen in {SEEDS} seeds");
}

#[test]
fn a_ledger_that_forgets_is_seen() {
    seen(Broken::LedgerForgets, "was due");
}

#[test]
fn a_buffer_that_forgets_is_seen() {
    seen(Broken::BufferForgets, "streams");
}

#[test]
fn an_answer_before_the_commit_is_seen() {
    seen(Broken::AnsweredBeforeCommit, "lost");
}

#[test]
fn a_commit_that_is_done_twice_is_seen() {
    seen(Broken::CommittedTwice, "follows record");
}

#[test]
fn a_host_that_stays_cut_is_seen() {
    seen(Broken::StaysCut, "not recovered");
}

#[test]
fn a_relay_that_forgets_is_seen() {
    seen(Broken::RelayForgets, "not recovered");
}

#[test]
fn a_relay_that_stays_cut_is_seen() {
    seen(Broken::RelayStaysCut, "home lacks");
}
