//! What must hold once everything is healed. No state of any host was destroyed or copied, so the rule is strict: each
//! host has one stream, whole, and one more behind each close, whatever its clock says, and nobody is accused of anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use edgetrail_collector::ledger::Entry;
use edgetrail_proto::chain::{Hash, Open, Verifier};
use edgetrail_proto::identity::StreamId;

use crate::collector;
use crate::host;

/// Panics at the first thing that does not hold.
pub(crate) fn check(collector: &collector::Site, hosts: &[Arc<host::Site>]) {
    let entries = collector.entries();
    chains(&entries);
    let ledger = collector.ledger().expect("the collector runs");
    for host in hosts {
        let streams = ledger.streams_of(host.agent).unwrap();
        assert!(streams.iter().all(|state| !state.is_frozen()), "{} is accused of a fork, and was not cloned", host.agent);
        let most = host.streams_max();
        assert!(streams.len() <= most, "{} lost nothing and has {} streams, not {most}", host.agent, streams.len());
        let opens: Vec<&Open> = streams.iter().map(|state| &state.info.open).collect();
        once_and_in_order(&entries, &in_order(&opens), host);
    }
}

/// Sequence, previous heads, roots, seals and counters, by the verifier that auditors use.
fn chains(entries: &[Arc<Entry>]) {
    let mut streams: BTreeMap<StreamId, Verifier> = BTreeMap::new();
    for entry in entries {
        let stream = entry.stream_id();
        let verifier = streams.entry(stream).or_insert_with(|| Verifier::begin(&entry.stream.open));
        let leaves: Vec<Hash> = entry.records.iter().map(|record| record.leaf).collect();
        let head = verifier.accept(&entry.header, &entry.seal, &leaves);
        let head = head.unwrap_or_else(|error| panic!("batch {} of {stream}: {error}", entry.header.k));
        assert!(head.counters.balance(head.next_seq), "counters of {stream} at {}: {:?}", entry.header.k, head.counters);
    }
}

/// Each stream behind the one that its open names, whenever they came.
fn in_order(opens: &[&Open]) -> Vec<StreamId> {
    let (mut order, mut last): (Vec<StreamId>, Option<StreamId>) = (Vec::new(), None);
    while let Some(next) = opens.iter().find(|open| open.predecessor.map(|named| named.stream) == last) {
        order.push(next.stream);
        last = Some(next.stream);
        assert!(order.len() <= opens.len(), "streams follow one another in a circle");
    }
    assert_eq!(order.len(), opens.len(), "a stream follows none of the others");
    order
}

/// Records are numbered in the order of their commits. One that was not answered may be there, or not.
fn once_and_in_order(entries: &[Arc<Entry>], streams: &[StreamId], host: &host::Site) {
    let of_host = streams.iter().flat_map(|stream| entries.iter().filter(move |entry| entry.stream_id() == *stream));
    let mut names = Vec::new();
    for record in of_host.flat_map(|entry| &entry.records) {
        let facets = record.facets.as_ref().expect("no record is quarantined");
        assert!(facets.name != "ReportRehomed", "{} lost nothing and was rehomed", host.agent);
        names.extend(host.number_of(&facets.name));
    }
    for pair in names.windows(2) {
        assert!(pair[0] < pair[1], "record {} of {} follows record {}", pair[1], host.agent, pair[0]);
    }
    let lost: Vec<u64> = host.answered().into_iter().filter(|number| names.binary_search(number).is_err()).collect();
    let last = names.last();
    assert!(lost.is_empty(), "commits of {} returned, and their records {lost:?} are lost; its last is {last:?}", host.agent);
}
