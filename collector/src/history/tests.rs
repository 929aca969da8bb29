//! The row of files against a plain list of events.

use std::sync::Arc;

use edgetrail_proto::facets::{Category, Facets};
use edgetrail_proto::identity::{AgentId, StreamId};
use proptest::prelude::*;
use uuid::Uuid;

use super::lookup::run;
use super::shelf::Shelf;
use super::writer::{Batch, Writer};
use super::{Attribute, Found, HistoryError, Query};

const ACCOUNT: &str = "111122223333";
const REGION: &str = "dc-local-1";
const AGENT: AgentId = AgentId::from_bytes([7; 16]);

#[derive(Clone, Debug)]
struct Event {
    facets: Facets,
    record: Vec<u8>,
}

fn event(time: u64, serial: u64, user: &str, name: &str) -> Event {
    let event_id = Uuid::from_u128(u128::from(serial) << 64 | 0x8000_0000_0000_0000);
    let facets = Facets {
        event_id: Some(event_id),
        time,
        category: Category::Management,
        read_only: Some(serial.is_multiple_of(3)),
        account: ACCOUNT.to_owned(),
        region: REGION.to_owned(),
        source: "sudo.linux".to_owned(),
        name: name.to_owned(),
        user: Some(user.to_owned()),
        access_key: None,
        resources: vec![("Host::File".to_owned(), format!("/etc/{}", serial % 5))],
        ..Facets::default()
    };
    let record =
        format!(r#"{{"eventID":"{event_id}","additionalEventData":{{"edgetrail":{{"source":"api"}}}},"serial":{serial}}}"#);
    Event { facets, record: record.into_bytes() }
}

/// Batches of `size` events each, in ledger order, of one stream.
fn batches(events: &[Event], size: usize, first_index: u64) -> Vec<Batch<'_>> {
    let stream = StreamId::from_bytes([9; 16]);
    let mut seq = first_index * 10_000;
    (first_index..)
        .zip(events.chunks(size))
        .map(|(index, events)| Batch {
            index,
            t_received: index * 1_000_000,
            stream,
            agent: AGENT,
            events: events
                .iter()
                .map(|event| {
                    seq += 1;
                    (seq, &event.facets, event.record.as_slice())
                })
                .collect(),
        })
        .collect()
}

fn all_pages(shelf: &Shelf, mut query: Query) -> Vec<Found> {
    let mut found = Vec::new();
    loop {
        let page = run(shelf, &query).unwrap();
        assert!(page.events.len() <= query.max);
        found.extend(page.events);
        match page.next {
            Some(token) => query.token = Some(token),
            None => return found,
        }
    }
}

fn query(attributes: &[(Attribute, &str)], max: usize) -> Query {
    let attributes = attributes.iter().map(|(attribute, value)| (*attribute, (*value).to_owned())).collect();
    Query { max, ..Query::new(ACCOUNT, REGION, attributes) }
}

fn serial(found: &Found) -> u64 {
    serde_json::from_slice::<serde_json::Value>(&found.record).unwrap()["serial"].as_u64().unwrap()
}

fn open(dir: &std::path::Path) -> (Arc<Shelf>, Writer) {
    let shelf = Arc::new(Shelf::open(dir).unwrap());
    let writer = Writer::open(Arc::clone(&shelf)).unwrap();
    (shelf, writer)
}

#[test]
fn every_attribute_finds_its_events_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = open(dir.path());
    let mut events: Vec<Event> =
        (0..300).map(|n| event(1000 + n / 2, n, if n.is_multiple_of(2) { "alice" } else { "bob" }, "RunCommand")).collect();
    events[17].facets.access_key = Some("AKIA17".to_owned());
    events[17].facets.name = "Login".to_owned();
    events[17].facets.source = "sshd.linux".to_owned();
    events[17].facets.resources = vec![("Host::User".to_owned(), "u17".to_owned())];
    writer.with_events_max(100).append(&batches(&events, 7, 0)).unwrap();
    assert!(shelf.files().len() >= 3, "closed files and an open one");

    let id = events[17].facets.event_id.unwrap().to_string();
    for (attribute, value) in [
        (Attribute::EventId, id.as_str()),
        (Attribute::EventName, "Login"),
        (Attribute::EventSource, "sshd.linux"),
        (Attribute::AccessKeyId, "AKIA17"),
        (Attribute::ResourceType, "Host::User"),
        (Attribute::ResourceName, "u17"),
    ] {
        let found = all_pages(&shelf, query(&[(attribute, value)], 50));
        assert_eq!(found.iter().map(serial).collect::<Vec<_>>(), [17], "{attribute:?}");
        assert_eq!(found[0].record, events[17].record);
    }
    let alice = all_pages(&shelf, query(&[(Attribute::Username, "alice")], 50));
    assert_eq!(alice.iter().map(serial).collect::<Vec<_>>(), (0..300).rev().filter(|n| n % 2 == 0).collect::<Vec<_>>());
    let both = all_pages(&shelf, query(&[(Attribute::Username, "alice"), (Attribute::ReadOnly, "true")], 3));
    assert_eq!(both.iter().map(serial).collect::<Vec<_>>(), (0..300).rev().filter(|n| n % 6 == 0).collect::<Vec<_>>());
    for nothing in
        [(Attribute::Username, "Alice"), (Attribute::EventId, "x"), (Attribute::ReadOnly, "True"), (Attribute::AccessKeyId, "")]
    {
        assert_eq!(all_pages(&shelf, query(&[nothing], 50)), [], "exact and case-sensitive");
    }
    assert_eq!(run(&shelf, &Query::new("999999999999", REGION, Vec::new())).unwrap().events, []);
    assert_eq!(run(&shelf, &Query::new(ACCOUNT, "us-east-1", Vec::new())).unwrap().events, []);
}

#[test]
fn times_are_inclusive_on_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = open(dir.path());
    let events: Vec<Event> = (0..20).map(|n| event(1000 + n, n, "alice", "RunCommand")).collect();
    writer.append(&batches(&events, 5, 0)).unwrap();
    let found = all_pages(&shelf, Query { from: Some(1003), to: Some(1006), ..query(&[], 50) });
    assert_eq!(found.iter().map(serial).collect::<Vec<_>>(), [6, 5, 4, 3]);
}

#[test]
fn a_restart_goes_on_where_the_last_commit_ended() {
    let dir = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (0..50).map(|n| event(1000 + n, n, "alice", "RunCommand")).collect();
    {
        let (_, writer) = open(dir.path());
        let writer = writer.append(&batches(&events[..20], 10, 0)).unwrap();
        assert_eq!(writer.next_index(), 2);
    }
    let (shelf, writer) = open(dir.path());
    assert_eq!(writer.next_index(), 2);
    let writer = writer.append(&batches(&events[20..], 10, 2)).unwrap();
    assert_eq!(writer.next_index(), 5);
    let found = all_pages(&shelf, query(&[], 7));
    assert_eq!(found.iter().map(serial).collect::<Vec<_>>(), (0..50).rev().collect::<Vec<_>>());
}

#[test]
fn a_crash_between_closing_and_the_next_file_goes_on_in_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let events: Vec<Event> = (0..40).map(|n| event(1000 + n, n, "alice", "RunCommand")).collect();
    {
        let (_, writer) = open(dir.path());
        writer.with_events_max(20).append(&batches(&events, 10, 0)).unwrap();
    }
    for leftover in ["00000001.sqlite", "00000001.sqlite-wal", "00000001.sqlite-shm"] {
        let _absent = std::fs::remove_file(dir.path().join(leftover));
    }
    let (shelf, writer) = open(dir.path());
    assert_eq!(writer.next_index(), 2, "the closed file's cursor");
    writer.append(&batches(&events[20..], 10, 2)).unwrap();
    assert_eq!(all_pages(&shelf, query(&[], 50)).len(), 40);
    // A file that was being made when the power went has no tables.
    std::fs::write(dir.path().join("00000002.sqlite"), b"").unwrap();
    let (shelf, _) = open(dir.path());
    assert_eq!(all_pages(&shelf, query(&[], 50)).len(), 40);
}

#[test]
fn one_event_committed_twice_is_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = open(dir.path());
    let first = event(1000, 1, "alice", "RunCommand");
    let mut again = first.clone();
    again.facets.time = 1005;
    let mut other_source = first.clone();
    other_source.record = String::from_utf8(other_source.record).unwrap().replace("\"api\"", "\"audit\"").into_bytes();
    let mut events: Vec<Event> = (10..40).map(|n| event(1000 + n, n, "bob", "Login")).collect();
    events.insert(0, first);
    events.insert(25, again.clone());
    let writer = writer.with_events_max(20).append(&batches(&events, 10, 0)).unwrap();
    let count = || all_pages(&shelf, query(&[(Attribute::Username, "alice")], 50)).len();
    assert_eq!(count(), 1);
    assert_eq!(all_pages(&shelf, query(&[], 1)).len(), 31, "and does not shorten pages");
    let writer = writer.append(&batches(&[again], 1, 9)).unwrap();
    assert_eq!(count(), 1, "in another file too");
    writer.append(&batches(&[other_source], 1, 10)).unwrap();
    assert_eq!(count(), 2, "another source is another event");
}

#[test]
fn a_token_is_good_for_its_own_parameters_only() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = open(dir.path());
    let events: Vec<Event> = (0..20).map(|n| event(1000 + n, n, "alice", "RunCommand")).collect();
    writer.append(&batches(&events, 5, 0)).unwrap();
    let token = run(&shelf, &query(&[], 5)).unwrap().next;
    let with = |query: Query| run(&shelf, &Query { token: token.clone(), ..query });
    assert_eq!(with(query(&[], 6)).unwrap().events.len(), 6, "the page's size may change");
    for other in [
        query(&[(Attribute::Username, "alice")], 5),
        Query { to: Some(1010), ..query(&[], 5) },
        Query::new("999999999999", REGION, vec![]),
    ] {
        assert!(matches!(with(other), Err(HistoryError::Token(_))));
    }
    for bad in ["", "x", "AAAA", &"A".repeat(66)] {
        assert!(
            matches!(run(&shelf, &Query { token: Some(bad.to_owned()), ..query(&[], 5) }), Err(HistoryError::Token(_))),
            "{bad}"
        );
    }
}

#[test]
fn retention_unlinks_closed_files() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = open(dir.path());
    let events: Vec<Event> = (0..50).map(|n| event(1000 + n, n, "alice", "RunCommand")).collect();
    let writer = writer.with_events_max(20).append(&batches(&events, 10, 0)).unwrap();
    assert_eq!(writer.retire(2_000_000).unwrap(), 1);
    assert!(!shelf.path(0).exists());
    assert_eq!(all_pages(&shelf, query(&[], 50)).len(), 30);
    assert_eq!(writer.retire(u64::MAX).unwrap(), 1, "the open file stays");
    assert_eq!(all_pages(&shelf, query(&[], 50)).len(), 10);
}

#[test]
fn a_damaged_chunk_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = open(dir.path());
    writer.append(&batches(&[event(1000, 1, "alice", "RunCommand")], 1, 0)).unwrap();
    rusqlite::Connection::open(shelf.path(0)).unwrap().execute("UPDATE chunks SET facets = x'00'", []).unwrap();
    assert!(run(&shelf, &query(&[], 5)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Late arrivals, ties, file boundaries, page boundaries: the same answer as sorting a list.
    #[test]
    fn pages_are_the_sorted_list(
        times in proptest::collection::vec((0_u64..40, 0_u64..3), 1..120),
        size in 1_usize..20,
        events_max in 5_u64..60,
        page in 1_usize..12,
        from in 0_u64..40,
        to in 0_u64..40,
        user in proptest::option::of(0_u64..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (shelf, writer) = open(dir.path());
        let events: Vec<Event> = (0..).zip(&times).map(|(n, (time, user))| event(*time, n, &user.to_string(), "X")).collect();
        let size = size.min(usize::try_from(events_max).unwrap());
        let mut writer = writer.with_events_max(events_max);
        // Some commits of several batches, some of one.
        for group in batches(&events, size, 0).chunks(2) {
            writer = writer.append(group).unwrap();
        }
        let asked = user.map(|user| user.to_string());
        let attributes: Vec<(Attribute, &str)> = asked.iter().map(|user| (Attribute::Username, user.as_str())).collect();
        let found = all_pages(&shelf, Query { from: Some(from), to: Some(to), ..query(&attributes, page) });
        let mut expected: Vec<(u64, u64)> = events
            .iter()
            .zip(0_u64..)
            .filter(|(event, _)| (from..=to).contains(&event.facets.time) && asked.is_none_or_eq(&event.facets.user))
            .map(|(event, serial)| (event.facets.time, serial))
            .collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        prop_assert_eq!(found.iter().map(serial).collect::<Vec<_>>(), expected.iter().map(|(_, serial)| *serial).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_bytes_are_no_chunk(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let compressed = zstd::bulk::compress(&bytes, 1).unwrap();
        let length = u32::try_from(bytes.len()).unwrap();
        let _facets = super::chunk::ChunkFacets::decode(&compressed, length);
        let _records = super::chunk::records_at(&compressed, length, &[0, 1]);
        let _nonsense = super::chunk::ChunkFacets::decode(&bytes, 1000);
    }
}

trait NoneOrEqual {
    fn is_none_or_eq(&self, value: &Option<String>) -> bool;
}

impl NoneOrEqual for Option<String> {
    fn is_none_or_eq(&self, value: &Option<String>) -> bool {
        self.is_none() || self == value
    }
}

/// CPU of one event in what the design avoids: one table with an index for each of eight attributes and the time.
fn nine_indexes_cost(events: &[Event]) -> u128 {
    let dir = tempfile::tempdir().unwrap();
    let mut db = rusqlite::Connection::open(dir.path().join("naive.sqlite")).unwrap();
    db.pragma_update(None, "journal_mode", "WAL").unwrap();
    let columns = ["time", "id", "name", "readonly", "user", "type", "resource", "source", "key"];
    db.execute(&format!("CREATE TABLE e ({}, record)", columns.join(", ")), []).unwrap();
    for column in columns {
        db.execute(&format!("CREATE INDEX by_{column} ON e ({column})"), []).unwrap();
    }
    let before = cpu_time();
    for batch in events.chunks(1000) {
        let transaction = db.transaction().unwrap();
        let mut insert = transaction.prepare_cached("INSERT INTO e VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)").unwrap();
        for event in batch {
            let facets = &event.facets;
            let id = facets.event_id.unwrap().to_string();
            let resource = format!("arn:aws:host:r:111122223333:h/{id}");
            let values: [&dyn rusqlite::ToSql; 10] = [
                &facets.time.cast_signed(),
                &id,
                &facets.name,
                &facets.read_only,
                &facets.user,
                &"Host::File",
                &resource,
                &facets.source,
                &id,
                &event.record,
            ];
            insert.execute(&values[..]).unwrap();
        }
        drop(insert);
        transaction.commit().unwrap();
    }
    (cpu_time() - before).as_nanos() / events.len() as u128
}

/// Guards the shape, not the speed of this machine: both ways are measured in one run.
#[test]
fn an_event_costs_a_fraction_of_nine_indexes() {
    const EVENTS: u64 = 40_000;
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = open(dir.path());
    let users = ["alice", "bob", "carol", "dave"];
    let events: Vec<Event> = (0..EVENTS)
        .map(|n| {
            let mut event = event(1_700_000_000 + n / 100, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), users[usize::try_from(n % 4).unwrap()], "RunCommand");
            let padding: String = (0..9).map(|part| format!("{:016x}", n.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(part * 7))).collect();
            let fixed = r#""eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"0:alice","sessionContext":{"sessionIssuer":{"type":"Role"}}},"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","sourceIPAddress":"192.0.2.7","userAgent":"sudo","requestParameters":{"command":"/usr/bin/systemctl restart nginx","cwd":"/root","tty":"pts/0"}"#;
            event.record = format!("{{{fixed},\"eventID\":\"{:?}\",\"x\":\"{padding}\"}}", event.facets.event_id).into_bytes();
            event.record.resize(830, b' ');
            event
        })
        .collect();
    let batches = batches(&events, 1000, 0);
    let before = cpu_time();
    let mut writer = writer.with_events_max(EVENTS / 2);
    for group in batches.chunks(8) {
        writer = writer.append(group).unwrap();
    }
    let ingest = cpu_time() - before;
    assert_eq!(shelf.files().values().filter(|span| span.closed).count(), 1);
    drop(writer);
    let before = cpu_time();
    for user in users {
        assert_eq!(run(&shelf, &query(&[(Attribute::Username, user)], 50)).unwrap().events.len(), 50);
    }
    let page = (cpu_time() - before) / 4;
    let before = cpu_time();
    let rare = events[5].facets.event_id.unwrap().to_string();
    assert_eq!(run(&shelf, &query(&[(Attribute::EventId, &rare)], 50)).unwrap().events.len(), 1);
    let rare = cpu_time() - before;
    let bytes: u64 = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    let each = ingest.as_nanos() / u128::from(EVENTS);
    println!(
        "history: {each} ns of CPU for each event, closing included; page of 50: {page:?}; one by id: {rare:?}; {} bytes on disk for each",
        bytes / EVENTS
    );
    let naive = nine_indexes_cost(&events);
    println!("one table with nine indexes: {naive} ns");
    assert!(each * 2 < naive, "{each} ns against {naive} ns");
}

fn cpu_time() -> std::time::Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

/// The folder removed after the ledger has let old bodies go: history begins with the oldest that is left.
#[tokio::test(flavor = "multi_thread")]
async fn history_is_rebuilt_from_what_the_ledger_keeps() {
    use crate::ledger::{Ledger, LedgerError, LedgerOptions};
    use edgetrail_proto::record::Record;
    use tokio_util::sync::CancellationToken;

    let _already = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let control = crate::control::Control::open(dir.path()).unwrap();
    let trust = crate::pki::TRUST_DOMAIN_DEFAULT.parse().unwrap();
    let pki = crate::pki::Pki::open(&dir.path().join("pki"), trust, &[], control.revoked()).unwrap();
    let mut options = LedgerOptions::new(Arc::new(pki.receipt_signer()));
    (options.segment_bytes, options.retention, options.tail_bytes) = (2048, std::time::Duration::ZERO, 1);
    options.consumers = vec!["another".to_owned()];
    let (ledger, task) = Ledger::open(&dir.path().join("ledger"), options).unwrap();
    let [stop, internal_stop, ledger_stop] = [(); 3].map(|()| CancellationToken::new());
    let mut tasks = tokio::task::JoinSet::new();
    let run = task.run(ledger_stop.clone());
    tasks.spawn(async move { run.await.unwrap() });
    let home = crate::internal::Home { account: ACCOUNT.parse().unwrap(), region: REGION.parse().unwrap(), host: "h".to_owned() };
    let (internal, task) = crate::internal::Internal::open(dir.path(), ledger.clone(), pki.authority(), &home).await.unwrap();
    let run = task.run(internal_stop.clone());
    let mut sealing = tokio::task::JoinSet::new();
    sealing.spawn(async move { run.await.unwrap() });

    let record = || Record {
        event_source: "s".to_owned(),
        event_name: "N".to_owned(),
        aws_region: REGION.to_owned(),
        recipient_account_id: ACCOUNT.to_owned(),
        ..Record::default()
    };
    for _ in 0..20 {
        internal.record(record()).await.unwrap();
    }
    // What the ledger itself does once every consumer has passed a segment and its time is over.
    let mut segments: Vec<_> =
        std::fs::read_dir(dir.path().join("ledger/segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    assert!(segments.len() > 2, "several segments");
    std::fs::remove_file(&segments[0]).unwrap();
    assert!(matches!(ledger.read(0, 1), Err(LedgerError::Released { .. })));
    let last = internal.record(record()).await.unwrap();
    let options = super::HistoryOptions { dir: dir.path().join("history"), retention: super::RETENTION_DEFAULT };
    let (history, task) = super::History::open(options, ledger, stop.clone()).unwrap();
    let shown = async {
        loop {
            let found = history.lookup(query(&[(Attribute::EventName, "N")], 50)).await.unwrap().events.len();
            if found > 0 {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(std::time::Duration::from_secs(30), shown).await.unwrap();
    assert!(u64::try_from(found).unwrap() < last, "the first bodies are gone: {found} of {last}");
    stop.cancel();
    task.join().await;
    internal_stop.cancel();
    sealing.join_all().await;
    ledger_stop.cancel();
    tasks.join_all().await;
}
