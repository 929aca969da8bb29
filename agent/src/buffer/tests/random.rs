//! Random schedules of commits, seals, crashes and stops: the counters balance at every head, every record is there once and
//! every refusal is counted.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Commit { kept: u8, refused: u8, lost: Option<u8>, waits: bool },
    Seal,
    Crash(Option<u8>),
    Stop,
    LoseKey,
    Damage(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0u8..6, 0u8..4, prop::option::weighted(0.2, any::<u8>()), any::<bool>())
            .prop_map(|(kept, refused, lost, waits)| Act::Commit { kept, refused, lost, waits }),
        3 => Just(Act::Seal),
        2 => prop::option::of(0u8..4).prop_map(Act::Crash),
        1 => Just(Act::Stop),
        1 => Just(Act::LoseKey),
        1 => any::<u8>().prop_map(Act::Damage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn counters_balance_and_nothing_is_lost_or_doubled(acts in prop::collection::vec(act(), 1..25)) {
        let mut rig = Rig::joined();
        let mut scribe = rig.open();
        let (mut sure, mut maybe, mut number, mut all_refused) = (Vec::new(), Vec::new(), 0u32, 0);
        for act in acts {
            match act {
                Act::Commit { kept, refused, lost, waits } => {
                    let mut addition = Addition::default();
                    let records: Vec<String> = (0..kept).map(|i| format!("r{number}-{i}")).collect();
                    number += 1;
                    records.iter().for_each(|record| addition.record(record.as_bytes(), Counted::Observed));
                    addition.refuse(u64::from(refused));
                    all_refused += u64::from(refused);
                    if let Some(lost) = lost {
                        addition.record(b"agent.edgetrail gap", Counted::Gap { lost_agent: 0, lost_source: u64::from(lost) });
                    }
                    scribe.commit(&addition, waits, rig.tick()).unwrap();
                    sure.extend(records);
                }
                Act::Seal => rig.seal(&mut scribe).unwrap(),
                Act::Crash(at) => {
                    if let Some(at) = at {
                        let steps = [Step::BeforeCommit, Step::AfterCommit, Step::AfterSlot, Step::AfterErase];
                        scribe.desk.fault = steps.get(usize::from(at)).copied();
                        let record = format!("m{number}");
                        number += 1;
                        match rig.commit(&mut scribe, &[&record], true) {
                            Ok(()) => sure.push(record),
                            Err(_) => maybe.push(record),
                        }
                    }
                    drop(scribe);
                    scribe = rig.open();
                }
                Act::Stop => {
                    scribe.close(rig.tick()).unwrap();
                    drop(scribe);
                    scribe = rig.open();
                }
                Act::LoseKey => {
                    drop(scribe);
                    std::fs::remove_file(rig.path().join(crate::buffer::KEY_FILE)).unwrap();
                    scribe = rig.open();
                }
                Act::Damage(which) => {
                    // A batch is damaged and named; the collector holds nothing of it.
                    let db = &scribe.desk.store.db;
                    let batches = store::batches(db, scribe.line.ordinal, 0, usize::MAX).unwrap();
                    let with_records: Vec<_> = batches.iter().filter(|batch| batch.header.count > 0).collect();
                    if with_records.is_empty() {
                        continue;
                    }
                    let batch = &with_records[usize::from(which) % with_records.len()].header;
                    let (stream, k) = (batch.stream, batch.k);
                    for chunk in store::chunks(db, scribe.line.ordinal, batch.first_seq, end_seq(batch), usize::MAX).unwrap() {
                        let mut body = Vec::new();
                        store::read_body(db, chunk.body, &mut body).unwrap();
                        let lost: Vec<String> = edgetrail_link::body::unframe(&body).map(|r| String::from_utf8_lossy(r.unwrap()).into_owned()).collect();
                        sure.retain(|record| !lost.contains(record));
                        maybe.retain(|record| !lost.contains(record));
                        db.execute("UPDATE body SET records = x'ff' WHERE id = ?1", [chunk.body]).unwrap();
                    }
                    scribe.damaged(stream, k).unwrap();
                    let position = edgetrail_link::outbox::CollectorPosition {
                        stream, recorded: true, head: None, bound: None, superseded: false, frozen: false, missing: Vec::new(),
                    };
                    scribe.reconcile(Some(stream), &[position], rig.tick()).unwrap();
                }
            }
        }
        rig.seal(&mut scribe).unwrap();
        let walked = walk(&scribe);
        prop_assert_eq!(walked.iter().map(|stream| stream.counters.refused).sum::<u64>(), all_refused, "refusals in headers");
        let mut found = observed(&walked);
        let all = found.len();
        found.sort();
        found.dedup();
        prop_assert_eq!(all, found.len(), "a record stands twice");
        for record in &sure {
            prop_assert!(found.contains(record), "{} is lost", record);
        }
        for record in &found {
            prop_assert!(sure.contains(record) || maybe.contains(record), "{} was never committed", record);
        }
    }
}
