//! Every rule of the verifier, broken once: remove a check from it and one of these fails.
//!
//! Half of the tampering is a bucket operator's (objects are touched after the fact), half is that of somebody who holds the
//! collector's keys (a rule is broken before hashing and signing), so that each check is reached on its own.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod corruption;
mod foreign;
mod forks;
mod parties;
mod published;
mod trail;

use std::path::Path;

use std::cell::RefCell;

use edgetrail_proto::chain::Hash;
use edgetrail_proto::digest::Digest;
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::keys::TrailPaths;
use edgetrail_proto::proof::{Base64, Proof, ProofTakeUp};
use edgetrail_verify::report::{Check, Report, Verdict};
use edgetrail_verify::store::Store;
use edgetrail_verify::trail::{Progress, Window, verify};

use trail::{BUCKET, Hook, Hooks, T0, Trail, WINDOW, WINDOWS, certificate_authority, gzip, record};

struct Silent;

impl Progress for Silent {
    fn digest(&mut self, _done: usize, _of: usize) {}
}

fn report_of(trail: &Trail, window: Window) -> Report {
    let dir = tempfile::tempdir().unwrap();
    trail.write(dir.path());
    report_of_directory(dir.path(), trail, window)
}

fn report_of_directory(dir: &Path, trail: &Trail, window: Window) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::directory(dir).unwrap();
    runtime.block_on(verify(&store, &trail.keys, window, &mut Silent)).unwrap()
}

/// The end of the last window.
const END: u64 = T0 + WINDOW * WINDOWS as u64;

const WHOLE: Window = Window { from: None, to: None, as_of: Some(END), now: None };

/// How a trail is broken, the check that must say so, and whether it alone must.
struct Case {
    check: Check,
    trail: Trail,
    window: Window,
}

fn touched(check: Check, touch: impl FnOnce(&mut Trail)) -> Case {
    let mut trail = Trail::whole();
    touch(&mut trail);
    Case { check, trail, window: WHOLE }
}

fn hooked(check: Check, set: impl FnOnce(&mut Hooks)) -> Case {
    let mut hooks = Hooks::default();
    set(&mut hooks);
    Case { check, trail: Trail::with(&hooks), window: WHOLE }
}

/// The chain ends in a root that the auditor trusts, but that one did not sign the agent's certificate.
fn foreign_root() -> Case {
    let foreign = certificate_authority().der().to_vec();
    let root = foreign.clone();
    let mut case = hooked(Check::OpenCertificate, |h| h.chain = Box::new(move |chain, _| chain.push(Base64(root.clone()))));
    case.trail.keys.roots.push(foreign);
    case
}

fn bytes<'a>(trail: &'a mut Trail, key: &str) -> &'a mut Vec<u8> {
    &mut trail.objects.get_mut(key).unwrap().0
}

/// An edit that applies in window 2 only.
type InTwo<T> = Box<dyn Fn(usize, &mut T)>;

fn digest(edit: impl Fn(&mut Digest) + 'static) -> InTwo<Digest> {
    Box::new(move |window, digest| {
        if window == 2 {
            edit(digest)
        }
    })
}

fn proof(edit: impl Fn(&mut Proof) + 'static) -> InTwo<Proof> {
    Box::new(move |window, proof| {
        if window == 2 {
            edit(proof)
        }
    })
}

/// The same in the last window: nothing behind it can notice instead.
fn last_proof(edit: impl Fn(&mut Proof) + 'static) -> InTwo<Proof> {
    Box::new(move |window, proof| {
        if window == WINDOWS - 1 {
            edit(proof)
        }
    })
}

fn records(edit: impl Fn(&mut Vec<Vec<u8>>) + 'static) -> InTwo<Vec<Vec<u8>>> {
    Box::new(move |window, records| {
        if window == 2 {
            edit(records)
        }
    })
}

/// A starting digest where none is due.
fn starting(digest: &mut Digest) {
    digest.previous_digest_s3_bucket = None;
    digest.previous_digest_s3_object = None;
    digest.previous_digest_hash_value = None;
    digest.previous_digest_hash_algorithm = None;
    digest.previous_digest_signature = None;
}

fn digest_cases() -> Vec<Case> {
    vec![
        touched(Check::DigestFormat, |t| t.objects.get_mut(&t.digests[2].clone()).unwrap().0 = gzip(b"{}")),
        touched(Check::DigestFormat, |t| bytes(t, &t.digests[2].clone()).truncate(20)),
        hooked(Check::DigestFormat, |h| h.digest = digest(|d| d.digest_start_time = "no time".to_owned())),
        touched(Check::DigestTrailing, |t| bytes(t, &t.digests[2].clone()).extend(b"junk")),
        touched(Check::DigestMoved, |t| {
            let object = t.objects.remove(&t.digests[4]).unwrap();
            t.objects.insert(t.digests[4].replace("1205", "1206"), object);
        }),
        hooked(Check::DigestMoved, |h| h.digest = digest(|d| d.aws_account_id = "999999999999".to_owned())),
        hooked(Check::DigestKeyUnknown, |h| h.digest = digest(|d| d.digest_public_key_fingerprint = "00".repeat(16))),
        touched(Check::DigestKeyNotValid, |t| t.keys.digest.values_mut().for_each(|key| key.not_after = END)),
        touched(Check::DigestSignature, |t| {
            t.objects.get_mut(&t.digests[4].clone()).unwrap().1.insert("signature".to_owned(), "00".repeat(256));
        }),
        touched(Check::DigestSignature, |t| {
            t.objects.get_mut(&t.digests[4].clone()).unwrap().1.remove("signature");
        }),
        hooked(Check::DigestSignature, |h| h.digest = digest(|d| d.digest_signature_algorithm = "none".to_owned())),
        hooked(Check::PreviousHash, |h| h.digest = digest(|d| d.previous_digest_hash_value = Some("00".repeat(32)))),
        hooked(Check::PreviousSignature, |h| h.digest = digest(|d| d.previous_digest_signature = Some("00".repeat(256)))),
        touched(Check::DigestMissing, |t| drop(t.objects.remove(&t.digests[2].clone()))),
        touched(Check::DigestMissing, |t| drop(t.objects.remove(&t.digests[0].clone()))),
        touched(Check::DigestGap, |t| drop(t.objects.remove(&t.digests[2].clone()))),
        hooked(Check::DigestGap, |h| h.digest = digest(|d| d.digest_start_time = "2026-01-15T12:02:30Z".to_owned())),
        hooked(Check::ChainRestart, |h| {
            h.digest = digest(starting);
        }),
        touched(Check::NoDigests, |t| t.objects.retain(|key, _| !key.contains("CloudTrail-Digest"))),
        touched(Check::NewestStale, |t| t.objects.retain(|key, _| !key.contains("120500Z.json") && !key.contains("T1205Z_"))),
    ]
}

fn log_cases() -> Vec<Case> {
    let one_more = |t: &mut Trail| {
        let object = t.objects[&t.logs[2]].clone();
        t.objects.insert(t.logs[2].replace("AAAAAA", "BBBBBB"), object);
    };
    let no_name = |t: &mut Trail| {
        t.objects.insert("AWSLogs/111122223333/CloudTrail/dc-local-1/2026/01/15/extra.json.gz".to_owned(), Default::default());
    };
    vec![
        touched(Check::LogMissing, |t| drop(t.objects.remove(&t.logs[2].clone()))),
        touched(Check::LogFormat, |t| bytes(t, &t.logs[2].clone()).truncate(20)),
        touched(Check::LogFormat, |t| *bytes(t, &t.logs[2].clone()) = gzip(b"[]")),
        touched(Check::LogTrailing, |t| bytes(t, &t.logs[2].clone()).extend(b"junk")),
        touched(Check::LogHash, |t| *bytes(t, &t.logs[2].clone()) = gzip(b"{\"Records\":[]}")),
        hooked(Check::LogTwice, |h| h.digest = digest(|d| d.log_files.push(d.log_files[0].clone()))),
        touched(Check::LogUnlisted, one_more),
        touched(Check::LogPending, |t| {
            let object = t.objects[&t.logs[4]].clone();
            t.objects.insert(t.logs[4].replace("T1205Z_AAAAAA", "T1206Z_BBBBBB"), object);
        }),
        touched(Check::LogUnlisted, no_name),
        hooked(Check::LogTimes, |h| h.digest = digest(|d| d.log_files[0].newest_event_time = "2026-01-15T13:00:00Z".to_owned())),
        hooked(Check::LogTimes, |h| h.digest = digest(|d| d.log_files[0].oldest_event_time = "2026-01-15T11:00:00Z".to_owned())),
    ]
}

fn proof_cases() -> Vec<Case> {
    vec![
        hooked(Check::ProofUnnamed, |h| h.digest = digest(|d| d.edgetrail_proof = None)),
        touched(Check::ProofMissing, |t| drop(t.objects.remove(&t.proofs[2].clone()))),
        touched(Check::ProofHash, |t| *bytes(t, &t.proofs[2].clone()) = gzip(b"{}")),
        touched(Check::ProofFormat, |t| bytes(t, &t.proofs[2].clone()).extend(b"junk")),
        touched(Check::ProofFormat, |t| bytes(t, &t.proofs[2].clone()).truncate(30)),
        hooked(Check::ProofFormat, |h| h.proof = proof(|p| p.version = "2".to_owned())),
        touched(Check::ProofUnlisted, |t| {
            let object = t.objects[&t.proofs[4]].clone();
            t.objects.insert(t.proofs[4].replace("120500Z", "120501Z"), object);
        }),
        hooked(Check::ProofWindow, |h| h.proof = proof(|p| p.ledger_from += 0x10)),
        hooked(Check::LedgerOrder, |h| h.proof = proof(|p| p.batches.push(p.batches[0].clone()))),
        hooked(Check::LedgerOrder, |h| h.log = records(|all| all.swap(0, 1))),
        hooked(Check::OpenFormat, |h| h.proof = Box::new(|_, p| p.streams[0].open.0.truncate(100))),
        hooked(Check::OpenSignature, |h| h.proof = Box::new(|_, p| p.streams[0].signature.0[40] ^= 1)),
        hooked(Check::OpenCertificate, |h| h.proof = Box::new(|_, p| p.streams[0].certificate_chain.clear())),
        hooked(Check::OpenCertificate, |h| h.open = Box::new(|open| open.certificate = Hash::ZERO)),
        hooked(Check::OpenCertificate, |h| h.certificate = Box::new(|params| params.subject_alt_names.clear())),
        // A root that ended before the certificate began: nothing shows that it signed it.
        hooked(Check::OpenCertificate, |h| {
            h.certificate = Box::new(|params| params.not_before = rcgen::date_time_ymd(4097, 1, 1));
        }),
        hooked(Check::OpenExpired, |h| {
            h.certificate = Box::new(|params| params.not_after = rcgen::date_time_ymd(2026, 1, 14));
        }),
        hooked(Check::OpenTime, |h| {
            h.certificate = Box::new(|params| params.not_after = rcgen::date_time_ymd(2025, 12, 15));
        }),
        hooked(Check::OpenTime, |h| {
            h.certificate = Box::new(|params| params.not_before = rcgen::date_time_ymd(2026, 1, 16));
        }),
        hooked(Check::OpenCertificate, |h| {
            h.open = Box::new(|open| open.agent = edgetrail_proto::identity::AgentId::from_bytes([8; 16]))
        }),
        touched(Check::OpenCertificate, |t| t.keys.roots = Trail::whole().keys.roots),
        hooked(Check::OpenBinding, |h| h.open = Box::new(|open| open.binding = Hash::ZERO)),
        hooked(Check::OpenBinding, |h| {
            h.digest = Box::new(|_, d| d.edgetrail_proof.as_mut().unwrap().hash_algorithm.clear());
            h.proof = Box::new(|_, p| p.streams[0].binding = Base64(b"222222222222/dc-local-1\nh1\n".to_vec()));
        }),
        hooked(Check::OpenBinding, |h| h.bound_to = "222222222222"),
        // Each link of these chains holds but the one named.
        hooked(Check::OpenCertificate, |h| {
            h.chain = Box::new(|chain, root| chain.extend(std::iter::repeat_n(Base64(root.to_vec()), 8)));
        }),
        foreign_root(),
        touched(Check::RootsNotGiven, |t| t.keys.roots.clear()),
    ]
}

fn stream_cases() -> Vec<Case> {
    let gap = r#"{"eventVersion":"1.11","eventTime":"2026-01-15T12:02:10Z","eventSource":"agent.edgetrail","eventName":"NAME","awsRegion":"dc-local-1","requestParameters":{"cause":"CAUSE","count":5},"eventID":"00000000-0000-8000-8000-000000000000","eventCategory":"Management","recipientAccountId":"111122223333"}"#;
    let report = move |name: &str, cause: &str| gap.replace("NAME", name).replace("CAUSE", cause).into_bytes();
    let gap_record = report("ReportGap", "buffer-full");
    let rehomed_record = report("ReportRehomed", "rehomed");
    vec![
        hooked(Check::StreamChain, |h| h.proof = proof(|p| p.batches[0].seal.0[5] ^= 1)),
        hooked(Check::StreamChain, |h| h.proof = last_proof(|p| p.batches[0].seal.0.truncate(5))),
        hooked(Check::StreamChain, |h| h.proof = last_proof(|p| p.batches[0].header.0.truncate(5))),
        hooked(Check::StreamChain, |h| h.proof = proof(|p| p.streams.clear())).expect_also_unopened(),
        hooked(Check::StreamChain, |h| {
            h.sealed = Box::new(|window, sealed| {
                if window == 2 {
                    sealed.header.root = Hash::ZERO
                }
            })
        }),
        hooked(Check::StreamChain, |h| h.proof = proof(|p| p.batches.clear())),
        hooked(Check::StreamStart, |h| {
            h.proof = Box::new(|window, p| {
                if window == 0 {
                    p.batches.clear();
                }
            });
        }),
        hooked(Check::StreamCounters, |h| {
            h.seal = Box::new(|window, input| {
                // From there on, so that they only break the equation and never fall.
                if window >= 2 {
                    input.counters.refused = 1;
                }
            });
        }),
        hooked(Check::LeavesRoot, |h| h.proof = proof(|p| p.batches[0].leaves.as_mut().unwrap().0[0] ^= 1)),
        hooked(Check::RecordUnproven, |h| h.log = records(|all| all.push(record(2, 7)))),
        hooked(Check::RecordUnproven, |h| h.log = records(|all| all.push(all[0].clone()))),
        hooked(Check::RecordMissing, |h| h.log = records(|all| drop(all.remove(1)))),
        hooked(Check::ReceiptInvalid, |h| h.proof = proof(|p| p.receipts[0].0[150] ^= 1)),
        hooked(Check::ReceiptInvalid, |h| h.proof = proof(|p| p.receipts[0].0.truncate(3))),
        hooked(Check::ReceiptInvalid, |h| h.proof = proof(|p| p.batches[0].t_received += 1)),
        hooked(Check::ReceiptInvalid, |h| h.proof = proof(|p| p.receipt_keys[0].ca_signature.0[40] ^= 1)),
        hooked(Check::ReceiptInvalid, |h| h.proof = proof(|p| p.receipt_keys[0].public_key.0.truncate(3))),
        // Without roots the key's times are all that speaks against it.
        hooked(Check::ReceiptInvalid, |h| h.proof = proof(|p| p.receipt_keys[0].not_after = T0)).without_roots(),
        hooked(Check::ReceiptMissing, |h| h.proof = proof(|p| p.receipts.clear())),
        hooked(Check::StreamUnclosed, |h| h.successor_in = Some(3)),
        hooked(Check::StreamTail, |h| {
            h.successor_in = Some(3);
            h.predecessor = Box::new(|named| named.k += 4);
        }),
        hooked(Check::StreamPrevious, |h| {
            h.successor_in = Some(3);
            h.predecessor = Box::new(|named| named.hash = Hash::ZERO);
        }),
        hooked(Check::StreamCounters, |h| {
            h.seal = Box::new(|window, input| {
                // Balanced, but fewer losses than before.
                input.counters.lost_source = 9 - window as u64;
            });
        }),
        Case { check: Check::RangeLost, trail: lost_range(Some(0xee)), window: WHOLE },
        Case { check: Check::RangeUnreported, trail: lost_range(None), window: WHOLE },
        // An agent's own word is none.
        Case { check: Check::RangeUnreported, trail: lost_range(Some(1)), window: WHOLE },
        touched(Check::HeadStale, |_whole| ()).silent_from_window_3(),
        hooked(Check::ReceiptUnknown, |h| {
            h.seal = Box::new(|window, input| {
                if window == 2 {
                    input.last_receipt = Hash([7; 32]);
                }
            });
        }),
        hooked(Check::SealTime, |h| {
            h.seal = Box::new(|window, input| {
                if window == 4 {
                    input.t_sealed -= 122_000_000_000;
                }
            });
        }),
        hooked(Check::SealLate, |h| {
            h.seal = Box::new(|window, input| {
                if window == 2 {
                    input.t_min -= 9_000_000_000;
                }
            });
        }),
        hooked(Check::StreamSilent, |h| {
            h.seal = Box::new(|window, input| {
                if window >= 2 {
                    input.t_sealed += 30_000_000_000;
                }
            });
        }),
        hooked(Check::SealTime, |h| {
            h.seal = Box::new(|window, input| {
                if window == 2 {
                    input.t_sealed += 62_000_000_000;
                }
            });
        }),
        hooked(Check::Gap, |h| h.records = records(move |all| all[0].clone_from(&gap_record))),
        hooked(Check::Rehomed, |h| h.records = records(move |all| all[0].clone_from(&rehomed_record))),
        hooked(Check::Quarantined, |h| {
            h.proof = proof(|p| p.batches[0].marks = Some("ddq".to_owned()));
            h.log = records(|all| drop(all.pop()));
        }),
    ]
}

/// A `collector-lost` report of batch 2 of stream 1.
fn lost_report() -> Vec<u8> {
    let stream = StreamId::from_bytes([1; 16]);
    format!(
        r#"{{"eventVersion":"1.11","eventTime":"2026-01-15T12:03:12Z","eventSource":"collector.edgetrail","eventName":"ReportGap","awsRegion":"dc-local-1","requestParameters":{{"cause":"collector-lost","count":3,"exact":true,"evidence":"receipt","from":"2026-01-15T12:02:00Z","to":"2026-01-15T12:03:00Z","stream":"{stream}","fromBatch":2,"toBatch":2}},"eventID":"00000000-0000-8000-8000-000000000000","eventCategory":"Management","recipientAccountId":"111122223333"}}"#
    )
    .into_bytes()
}

/// Batch 2 went with the relay that held it: window 3 goes on behind it, on its receipt. Reported by the internal stream
/// (0xee), by the agent's own (1), or by nobody.
fn lost_range(reported_by: Option<u8>) -> Trail {
    let lost: RefCell<Option<ProofTakeUp>> = RefCell::default();
    let proof = move |window: usize, proof: &mut Proof| match window {
        2 => {
            let (batch, receipt) = (proof.batches.remove(0), proof.receipts.remove(0));
            lost.replace(Some(ProofTakeUp { header: batch.header, receipt }));
        }
        3 => proof.streams[0].resumed.extend(lost.take()),
        _ => {}
    };
    let log = |window: usize, log: &mut Vec<Vec<u8>>| {
        if window == 2 {
            log.clear();
        }
    };
    let mut hooks = Hooks { proof: Box::new(proof), log: Box::new(log), ..Hooks::default() };
    let report = |window: usize, records: &mut Vec<Vec<u8>>| {
        if window == 3 {
            records.push(lost_report());
        }
    };
    match reported_by {
        Some(0xee) => hooks.internal = Box::new(report),
        Some(_) => hooks.records = Box::new(report),
        None => {}
    }
    Trail::with(&hooks)
}

impl Case {
    /// The last digests are there, but their window has nothing of the stream.
    fn silent_from_window_3(mut self) -> Self {
        let empty = |window: usize, proof: &mut Proof| {
            if window >= 3 {
                proof.batches.clear();
                proof.receipts.clear();
            }
        };
        let log = |window: usize, log: &mut Vec<Vec<u8>>| {
            if window >= 3 {
                log.clear();
            }
        };
        self.trail = Trail::with(&Hooks { proof: Box::new(empty), log: Box::new(log), ..Hooks::default() });
        self
    }

    fn without_roots(mut self) -> Self {
        self.trail.keys.roots.clear();
        self
    }

    /// The stream was opened in window 0: leaving it out of window 2 is no fault, a window 0 without it is.
    fn expect_also_unopened(mut self) -> Self {
        let proof = |window: usize, proof: &mut Proof| {
            if window == 0 {
                proof.streams.clear();
            }
        };
        self.trail = Trail::with(&Hooks { proof: Box::new(proof), ..Hooks::default() });
        self
    }
}

#[test]
fn a_whole_trail_has_no_findings_and_every_record_is_proven() {
    let report = report_of(&Trail::whole(), WHOLE);
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!((report.seen.digests, report.seen.log_files, report.seen.proofs), (5, 5, 5));
    assert_eq!((report.seen.records, report.seen.records_proven, report.seen.batches, report.seen.streams), (15, 15, 5, 1));
}

#[test]
fn each_tampering_is_reported_by_the_check_that_is_for_it() {
    let cases: Vec<Case> = [digest_cases(), log_cases(), proof_cases(), stream_cases()].into_iter().flatten().collect();
    for (number, Case { check, trail, window }) in cases.iter().enumerate() {
        let report = report_of(trail, *window);
        assert!(report.count(*check) > 0, "case {number}: {check:?} was not reported but:\n{report}");
        let verdict = check.verdict();
        assert!(!report.holds(verdict), "case {number}: {verdict:?} still holds");
    }
    let covered: std::collections::BTreeSet<Check> = cases.iter().map(|case| case.check).collect();
    let uncovered: Vec<&Check> = Check::ALL.iter().filter(|check| !covered.contains(check)).collect();
    assert!(uncovered.is_empty(), "checks without a tampering: {uncovered:?}");
}

/// A clock, a long stop: neither makes a signature false, and nothing of the stream is doubted for it.
#[test]
fn an_open_that_its_certificate_does_not_date_is_a_matter_of_times_alone() {
    let dated = |set: fn(&mut rcgen::CertificateParams)| {
        report_of(&Trail::with(&Hooks { certificate: Box::new(set), ..Hooks::default() }), WHOLE)
    };
    // The last second of the grace, and the first behind it: T0 is noon.
    let within = dated(|params| params.not_after = rcgen::date_time_ymd(2025, 12, 17));
    let beyond = dated(|params| params.not_after = rcgen::date_time_ymd(2025, 12, 16));
    let before = dated(|params| params.not_before = rcgen::date_time_ymd(2026, 1, 16));
    assert_eq!((within.count(Check::OpenExpired), within.findings.len()), (1, 1), "{within}");
    assert!(within.is_good(), "{within}");
    for report in [beyond, before] {
        assert_eq!((report.count(Check::OpenTime), report.findings.len()), (1, 1), "said once, and nothing else: {report}");
        assert!(!report.is_good() && report.holds(Verdict::Integrity) && report.holds(Verdict::Completeness), "{report}");
        assert_eq!(report.seen.records_proven, report.seen.records);
    }
}

#[test]
fn what_the_aws_cli_passes_is_reported() {
    // Deleted newest digest: exit 0 there. Here: stale, and its proof lies there unnamed.
    let mut trail = Trail::whole();
    trail.objects.remove(&trail.digests[4].clone());
    let report = report_of(&trail, WHOLE);
    for check in [Check::NewestStale, Check::LogPending, Check::ProofUnlisted] {
        assert_eq!(report.count(check), 1, "{check:?}\n{report}");
    }
    // Three deleted in a row: counted once there. Here the whole time is named.
    let mut trail = Trail::whole();
    for window in 1..4 {
        trail.objects.remove(&trail.digests[window].clone());
    }
    let report = report_of(&trail, WHOLE);
    let gap = report.findings.iter().find(|finding| finding.check == Check::DigestGap).unwrap();
    assert!(gap.detail.contains("2026-01-15T12:01:00Z to 2026-01-15T12:04:00Z"), "{}", gap.detail);
}

#[test]
fn a_newest_digest_that_is_listed_but_gone_is_missing() {
    let (trail, dir) = (Trail::whole(), tempfile::tempdir().unwrap());
    trail.write(dir.path());
    let newest = dir.path().join(BUCKET).join(&trail.digests[4]);
    std::fs::remove_file(&newest).unwrap();
    std::os::unix::fs::symlink("nowhere", &newest).unwrap();
    assert_eq!(report_of_directory(dir.path(), &trail, WHOLE).count(Check::DigestMissing), 1);
}

/// The trail's StopLogging in place of a window's first record.
fn stopped_in(stop_window: usize) -> Hook<Vec<Vec<u8>>> {
    let stop = r#"{"eventVersion":"1.11","eventTime":"2026-01-15T12:01:10Z","eventSource":"cloudtrail.amazonaws.com","eventName":"StopLogging","awsRegion":"dc-local-1","requestParameters":{"name":"default"},"eventID":"00000000-0000-8000-8000-000000000000","eventCategory":"Management","recipientAccountId":"111122223333"}"#;
    Box::new(move |window, records| {
        if window == stop_window {
            records[0] = stop.as_bytes().to_vec();
        }
    })
}

#[test]
fn a_restart_behind_a_stop_is_no_finding() {
    let hooks = Hooks { records: stopped_in(1), digest: digest(starting), ..Hooks::default() };
    let report = report_of(&Trail::with(&hooks), WHOLE);
    assert_eq!(report.count(Check::ChainRestart), 0, "{report}");
}

#[test]
fn a_stop_in_one_lane_ends_all_lanes_of_its_trail() {
    // The other lane's name sorts before that of the lane which tells of the stop, and after it.
    for region in ["dc-a-1", "dc-z-1"] {
        let lanes = |stop_window| {
            let home = Trail::with(&Hooks { records: stopped_in(stop_window), digest: digest(starting), ..Hooks::default() });
            home.beside(Trail::with(&Hooks { region, digest: digest(starting), ..Hooks::default() }))
        };
        let report = report_of(&lanes(1), WHOLE);
        assert_eq!((report.seen.digests, report.count(Check::ChainRestart)), (10, 0), "{report}");
        // A stop at another time excuses nothing.
        assert_eq!(report_of(&lanes(0), WHOLE).count(Check::ChainRestart), 2);

        let home = Trail::with(&Hooks { records: stopped_in(WINDOWS - 1), ..Hooks::default() });
        let stopped = home.beside(Trail::with(&Hooks { region, ..Hooks::default() }));
        let long_after = Window { now: Some(END + 1000 * WINDOW), ..Window::default() };
        assert_eq!(report_of(&stopped, long_after).count(Check::NewestStale), 0);
        let going_on = Trail::whole().beside(Trail::with(&Hooks { region, ..Hooks::default() }));
        assert_eq!(report_of(&going_on, long_after).count(Check::NewestStale), 2);
    }
}

#[test]
fn a_living_trail_may_lag_by_a_window_and_its_delivery_but_no_more() {
    let grace = u64::try_from(edgetrail_verify::trail::DELIVERY_GRACE.as_nanos()).unwrap();
    let as_of_now = |now| report_of(&Trail::whole(), Window { now: Some(now), ..Window::default() });
    assert!(as_of_now(END + WINDOW + grace).findings.is_empty());
    assert_eq!(as_of_now(END + WINDOW + grace + 1).count(Check::NewestStale), 1);
}

#[test]
fn a_window_judges_only_its_digests() {
    let window = Window { from: Some(T0 + WINDOW), to: Some(T0 + 4 * WINDOW), as_of: Some(T0 + 4 * WINDOW), now: None };
    let report = report_of(&Trail::whole(), window);
    assert_eq!(report.seen.digests, 3);
    // The stream began before the window: that is said, and nothing else.
    assert!(report.findings.iter().all(|finding| finding.check == Check::StreamStart), "{report}");
    assert!(report.holds(Verdict::Integrity));
}

#[test]
fn the_collectors_probe_is_no_finding() {
    let mut trail = Trail::whole();
    let key = TrailPaths::default().probe_key("111122223333");
    trail.objects.insert(key, (b"probe".to_vec(), Default::default()));
    assert!(report_of(&trail, WHOLE).findings.is_empty());
}

/// Every proof from window 1 on says where its stream goes on; `spoil` may damage what it says.
fn taken_up(spoil: impl Fn(&mut ProofTakeUp) + 'static) -> Trail {
    let before: RefCell<Option<ProofTakeUp>> = RefCell::default();
    let proof = move |_window: usize, proof: &mut Proof| {
        let last = ProofTakeUp { header: proof.batches[0].header.clone(), receipt: proof.receipts[0].clone() };
        proof.streams[0].take_up = before.replace(Some(last));
        proof.streams[0].take_up.as_mut().map(&spoil);
    };
    Trail::with(&Hooks { proof: Box::new(proof), ..Hooks::default() })
}

#[test]
fn a_stream_is_taken_up_where_a_receipt_names_its_batch_and_nowhere_else() {
    let window = Window { from: Some(T0 + WINDOW), to: Some(END), as_of: Some(END), now: None };
    let report = report_of(&taken_up(|_whole| {}), window);
    assert!(report.findings.is_empty(), "{report}");
    assert!(report_of(&taken_up(|_whole| {}), WHOLE).findings.is_empty());
    for spoil in [
        |stated: &mut ProofTakeUp| *stated.receipt.0.last_mut().unwrap() ^= 1,
        |stated: &mut ProofTakeUp| *stated.header.0.last_mut().unwrap() ^= 1,
        |stated: &mut ProofTakeUp| stated.receipt.0.truncate(9),
    ] {
        assert_eq!(report_of(&taken_up(spoil), window).count(Check::StreamStart), 1);
    }
}

#[test]
fn what_is_missing_where_the_window_begins_is_named() {
    let mut trail = Trail::whole();
    trail.objects.remove(&trail.digests[1].clone());
    let report = report_of(&trail, Window { from: Some(T0 + WINDOW), ..WHOLE });
    let gap = report.findings.iter().find(|finding| finding.check == Check::DigestGap).unwrap();
    assert!(gap.detail.contains("2026-01-15T12:01:00Z to 2026-01-15T12:02:00Z"), "{}", gap.detail);
}

#[test]
fn keys_of_a_digest_that_lead_out_of_the_directory_are_not_followed() {
    let trail = Trail::with(&Hooks {
        digest: digest(|d| d.log_files[0].s3_object = format!("../../{BUCKET}/outside")),
        ..Hooks::default()
    });
    assert_eq!(report_of(&trail, WHOLE).count(Check::LogMissing), 1);
}
