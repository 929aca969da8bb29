//! Who can do what: every row of the table of parties, shown. What a party can still do is visible; what it can't do
//! undetected is detected, by the check that the row names.
//!
//! Rows about a host's own files, about TLS and about what a collector answers are shown where those are: the table names
//! the test, and a test here makes sure that it exists. SECURITY.md tells the table in words.

mod collectors;
mod hosts;

use std::path::Path;

use collectors::*;
use hosts::*;

/// Whether a row says what a party can do, visibly, or can't, undetected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    CanStill,
    CanNot,
}
use Power::{CanNot, CanStill};

/// Where a row is shown.
enum Shown {
    /// The function panics unless it is so.
    Here(fn()),
    /// File and test.
    By(&'static [(&'static str, &'static str)]),
}
use Shown::{By, Here};

struct Row {
    party: &'static str,
    power: Power,
    act: &'static str,
    noticed_by: &'static str,
    shown: Shown,
}

const fn row(party: &'static str, power: Power, act: &'static str, noticed_by: &'static str, shown: Shown) -> Row {
    Row { party, power, act, noticed_by, shown }
}

const HOST_USER: &str = "host user";
const HOST_ROOT: &str = "host root from T";
const OLD_DISK: &str = "old disk or VM image";
const CLONE: &str = "cloned state, stolen key";
const NETWORK: &str = "network";
const COLLECTOR: &str = "collector or its CA seized at T";
const BUCKET: &str = "bucket operator";

const ROOT_TESTS: &str = "agent/src/buffer/tests/host_root.rs";
const KEY_CASES: &str = "agent/src/buffer/tests/key_cases.rs";
const OUTBOX_TESTS: &str = "agent/src/buffer/tests/outbox.rs";
const BRANCHES: &str = "collector/src/ledger/tests/branches.rs";
const OPENINGS: &str = "collector/src/ledger/tests/openings.rs";
const CHAIN: &str = "proto/src/chain/verifier.rs";

const TABLE: &[Row] = &[
    row(HOST_USER, CanStill, "flood so that records are lost", "gap", Here(a_flood_is_a_gap)),
    row(
        HOST_USER,
        CanNot,
        "alter anything: an event that it posts claims, the peer's own identity stands beside the claim",
        "normalize",
        By(&[("agent/src/normalize/posted.rs", "the_peer_is_the_actor_and_the_body_only_claims")]),
    ),
    row(HOST_ROOT, CanStill, "stop capture", "silence", Here(a_stopped_capture_is_silence)),
    row(HOST_ROOT, CanStill, "invent events after T", "nothing: it seals them as the agent would", Here(invented_events_pass)),
    row(
        HOST_ROOT,
        CanStill,
        "rewrite what is not yet sealed; after a crash, until the restart",
        "seal-late, gap unclean-restart",
        By(&[
            (ROOT_TESTS, "what_lay_unsealed_over_a_crash_says_so"),
            ("agent/src/buffer/tests/crash.rs", "a_crash_is_bounded_by_a_gap_and_an_orderly_stop_is_not"),
        ]),
    ),
    row(HOST_ROOT, CanStill, "the same, as the auditor sees it", "seal-late", Here(an_hour_unsealed_is_named)),
    row(
        HOST_ROOT,
        CanStill,
        "destroy batches without receipt and enter their records again",
        "rehomed, gap buffer-rollback, successor",
        By(&[
            (KEY_CASES, "a_rolled_back_database_is_succeeded_behind_the_key_files_head"),
            (OUTBOX_TESTS, "a_head_that_this_chain_lacks_opens_a_successor_with_rehomed_records"),
        ]),
    ),
    row(
        HOST_ROOT,
        CanStill,
        "the same, as the auditor sees it",
        "rehomed, stream-tail, stream-unclosed",
        Here(a_second_sealing_is_told),
    ),
    row(
        HOST_ROOT,
        CanNot,
        "change or insert in a batch sealed before T",
        "seal",
        By(&[
            (ROOT_TESTS, "no_file_holds_a_seed_of_what_was_sealed_before"),
            (ROOT_TESTS, "a_batch_sealed_before_can_not_be_changed_or_put_in"),
        ]),
    ),
    row(HOST_ROOT, CanNot, "the same, in a delivered trail", "stream-chain", Here(a_batch_sealed_before_stands)),
    row(
        HOST_ROOT,
        CanNot,
        "truncate and go on",
        "key file, seal",
        By(&[(ROOT_TESTS, "a_tail_deleted_behind_a_staged_crash_is_told"), (ROOT_TESTS, "a_stream_can_not_be_begun_again")]),
    ),
    row(HOST_ROOT, CanNot, "the same, in a delivered trail", "stream-chain", Here(a_cut_stream_does_not_go_on)),
    row(
        HOST_ROOT,
        CanNot,
        "touch what has a receipt",
        "FORK",
        By(&[
            (BRANCHES, "a_second_branch_freezes_every_stream_of_the_agent_and_is_kept"),
            (OUTBOX_TESTS, "a_receipt_for_another_head_changes_nothing"),
        ]),
    ),
    row(HOST_ROOT, CanNot, "back-date before its last receipt", "seal-time", Here(back_dating_is_found)),
    row(HOST_ROOT, CanNot, "back-date behind a receipt of its own making", "receipt-unknown", Here(an_invented_receipt_is_found)),
    row(
        OLD_DISK,
        CanStill,
        "rewrite its own window without receipt",
        "successor of cause rollback, rehomed",
        By(&[
            (OUTBOX_TESTS, "a_head_that_this_chain_lacks_opens_a_successor_with_rehomed_records"),
            (KEY_CASES, "an_old_key_file_is_a_lost_key"),
        ]),
    ),
    row(
        OLD_DISK,
        CanNot,
        "change anything at or below the collector's head",
        "FORK, tail",
        By(&[
            (BRANCHES, "a_second_branch_freezes_every_stream_of_the_agent_and_is_kept"),
            (BRANCHES, "beyond_a_bound_what_was_sealed_before_is_tail_and_what_was_sealed_after_is_a_fork"),
        ]),
    ),
    row(
        CLONE,
        CanStill,
        "race one open or batch: the first that comes is taken",
        "the second is told",
        By(&[
            (BRANCHES, "the_same_batch_twice_is_one_and_gets_the_same_receipt"),
            (OPENINGS, "a_second_successor_is_told_the_latest_stream_and_goes_on_behind_it"),
        ]),
    ),
    row(
        CLONE,
        CanNot,
        "run in parallel",
        "FORK, with evidence",
        By(&[
            (BRANCHES, "a_second_branch_freezes_every_stream_of_the_agent_and_is_kept"),
            (OPENINGS, "a_second_successor_that_a_relay_brings_is_a_fork"),
            ("verify/tests/tamper/forks.rs", "two_batches_under_one_key_prove_a_fork"),
        ]),
    ),
    row(NETWORK, CanStill, "delay and cut", "silence, head-stale", Here(a_cut_is_silence)),
    row(
        NETWORK,
        CanNot,
        "read or speak without a certificate of the CA",
        "the handshake",
        By(&[("tests/tests/bad_input/certificate.rs", "a_foreign_expired_or_absent_certificate_gets_no_handshake")]),
    ),
    row(
        NETWORK,
        CanNot,
        "forge, replay, reorder",
        "the rule of the ledger",
        By(&[
            (CHAIN, "a_batch_out_of_order_is_refused"),
            (CHAIN, "a_batch_behind_another_head_is_refused"),
            (CHAIN, "every_field_of_a_header_is_under_its_seal"),
            (BRANCHES, "a_hole_or_another_chain_is_told_the_head"),
            (BRANCHES, "the_same_batch_twice_is_one_and_gets_the_same_receipt"),
        ]),
    ),
    row(
        COLLECTOR,
        CanStill,
        "refuse, delay, withhold: agents without a receipt keep what they have",
        "agents' lag; range-unreported, proof-window",
        By(&[
            (OUTBOX_TESTS, "a_receipt_releases_what_it_covers_and_answers_who_waited"),
            (OUTBOX_TESTS, "a_close_ends_the_stream_and_is_held_until_its_receipt"),
        ]),
    ),
    row(
        COLLECTOR,
        CanStill,
        "the same, in a delivered trail",
        "range-unreported, proof-window",
        Here(what_is_withheld_is_missed),
    ),
    row(
        COLLECTOR,
        CanStill,
        "mint identities and open streams from T",
        "opens and certificates in the proofs",
        Here(a_minted_stream_is_shown),
    ),
    row(COLLECTOR, CanNot, "forge a batch of a stream opened before", "stream-chain", Here(the_collector_seals_for_nobody)),
    row(
        COLLECTOR,
        CanNot,
        "put records into a window under its own signature",
        "record-unproven, leaves-root",
        Here(the_collector_invents_no_record),
    ),
    row(
        COLLECTOR,
        CanNot,
        "alter a window whose digest is out",
        "previous-hash, digest-key-not-valid",
        Here(a_window_that_is_out_stands),
    ),
    row(BUCKET, CanStill, "delete objects", "digest-missing, log-missing, proof-missing", Here(deleted_objects_are_named)),
    row(BUCKET, CanNot, "delete the newest tail unseen", "newest-stale, proof-unlisted", Here(a_deleted_tail_is_missed)),
    row(
        BUCKET,
        CanNot,
        "alter, exchange or add an object",
        "every check of objects",
        By(&[("verify/tests/tamper/corruption.rs", "every_damage_to_delivered_objects_is_reported_or_changes_nothing")]),
    ),
];

fn show(party: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let rows: Vec<&Row> = TABLE.iter().filter(|row| row.party == party).collect();
    for power in [CanStill, CanNot] {
        assert!(rows.iter().any(|row| row.power == power), "{party} has no row of what it {power:?}");
    }
    for Row { party, power, act, noticed_by, shown } in rows {
        println!("{party:<32} {power:?}: {act} [{noticed_by}]");
        match shown {
            Here(show) => show(),
            By(tests) => tests.iter().for_each(|(file, test)| {
                let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
                assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
            }),
        }
    }
}

#[test]
fn a_host_user() {
    show(HOST_USER);
}

#[test]
fn the_hosts_root() {
    show(HOST_ROOT);
}

#[test]
fn an_old_disk() {
    show(OLD_DISK);
}

#[test]
fn a_clone() {
    show(CLONE);
}

#[test]
fn the_network() {
    show(NETWORK);
}

#[test]
fn a_seized_collector() {
    show(COLLECTOR);
}

#[test]
fn a_bucket_operator() {
    show(BUCKET);
}
