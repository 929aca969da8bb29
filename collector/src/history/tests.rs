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
        read_only: Some(serial % 3 == 0),
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
        (0..300).map(|n| event(1000 + n / 2, n, ["alice", "bob"][(n % 2) as usize], "RunCommand")).collect();
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
        let events: Vec<Event> = times.iter().enumerate().map(|(n, (time, user))| event(*time, n as u64, &user.to_string(), "X")).collect();
        let size = size.min(events_max as usize);
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
        let _facets = super::chunk::ChunkFacets::decode(&compressed, bytes.len() as u32);
        let _records = super::chunk::records_at(&compressed, bytes.len() as u32, &[0, 1]);
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
