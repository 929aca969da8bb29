//! What became of each stream, hour by hour: events, reported gaps, holes that nobody reported, silence.
//!
//! Counted from sealed headers and proven records, never from what a log file alone says. A stream that is shown in several
//! accounts and regions is counted once. An hour is one of the host's clock.

use std::collections::BTreeMap;

use edgetrail_proto::chain::{BatchKind, Cause, Header, Open};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::record::format_time;
use serde::{Serialize, Serializer};

/// Nanoseconds.
pub const HOUR: u64 = 3_600 * 1_000_000_000;

/// Most hours that one silence or gap is spread over: a year. What is longer is named by its finding.
const SPREAD_HOURS_MAX: u64 = 366 * 24;

/// All streams that the proofs showed.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Accounts(pub BTreeMap<StreamId, StreamAccount>);

/// One stream from its open to its last batch here.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamAccount {
    pub agent: AgentId,
    pub host: String,
    /// `ACCOUNT/REGION`, as bound.
    pub scopes: Vec<String>,
    /// The collector's own.
    pub internal: bool,
    #[serde(serialize_with = "cause_name")]
    pub cause: Cause,
    #[serde(serialize_with = "time")]
    pub opened: u64,
    /// The stream before it, and that one's last batch as the agent knew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// First and last batch that were followed.
    pub batches: Option<(u64, u64)>,
    /// Begun behind batches that were not to be shown here, on the word of a receipt.
    pub taken_up: bool,
    /// How many batches were followed.
    pub followed: u64,
    pub heartbeats: u64,
    pub closed: bool,
    /// seq behind the last record.
    pub next_seq: u64,
    /// When the last batch was sealed, host's clock, and received, collector's clock.
    #[serde(serialize_with = "time")]
    pub last_sealed: u64,
    #[serde(serialize_with = "time")]
    pub last_received: u64,
    /// Batches in it that are missing, inclusive.
    pub missing: Vec<Missing>,
    /// By the hour's beginning.
    #[serde(serialize_with = "by_time")]
    pub hours: BTreeMap<u64, Hour>,
}

/// Where a stream says it follows another.
#[derive(Clone, Debug, Serialize)]
pub struct After {
    pub stream: StreamId,
    /// `None` where that one never sealed a batch.
    pub k: Option<u64>,
}

/// A range of batches that is missing inside a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    pub from_batch: u64,
    pub to_batch: u64,
    /// Records in it: the seqs on both sides tell.
    pub records: u64,
}

/// One stream's hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hour {
    pub batches: u64,
    /// Records that are no reports of the agent's own.
    pub events: u64,
    /// What selection turned away.
    pub refused: u64,
    /// The agent's own records.
    pub own: u64,
    /// Records that were sealed again in this stream, by the reports about them.
    pub rehomed: u64,
    /// Reported gaps by cause.
    pub gaps: BTreeMap<String, GapSum>,
    /// Places where something is missing that nobody reported.
    pub holes: Vec<String>,
    /// Seconds without a sign of life, beyond what a heartbeat allows.
    pub silent_s: u64,
}

/// The gaps of one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GapSum {
    pub reports: u64,
    pub count: u64,
    /// Whether one of them has no bound.
    pub unbounded: bool,
}

/// One host over all its streams.
#[derive(Clone, Debug, Default)]
pub struct HostAccount {
    pub streams: Vec<StreamId>,
    pub hours: BTreeMap<u64, Hour>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from_batch, to_batch, records } = self;
        match from_batch == to_batch {
            true => write!(f, "batch {from_batch}, {records} records"),
            false => write!(f, "batches {from_batch} to {to_batch}, {records} records"),
        }
    }
}

impl StreamAccount {
    pub fn begin(open: &Open, host: &str, scopes: Vec<String>, internal: bool) -> Self {
        let after = open.predecessor.map(|before| After { stream: before.stream, k: Some(before.k).filter(|k| *k != u64::MAX) });
        Self {
            agent: open.agent,
            host: host.to_owned(),
            scopes,
            internal,
            cause: open.cause,
            opened: open.t_opened,
            after,
            batches: None,
            taken_up: false,
            followed: 0,
            heartbeats: 0,
            closed: false,
            next_seq: 0,
            last_sealed: open.t_opened,
            last_received: 0,
            missing: Vec::new(),
            hours: BTreeMap::new(),
        }
    }

    /// Counts a batch behind `before`, the counters of the one before it; those of a lost range are nobody's hour.
    pub fn batch(&mut self, header: &Header, before: edgetrail_proto::chain::Counters, t_received: u64) {
        let at = if header.t_max > 0 { header.t_max } else { header.t_sealed };
        let now = header.counters;
        let own = now.own.saturating_sub(before.own);
        let hour = self.hour(at);
        hour.batches += 1;
        hour.own += own;
        hour.events += u64::from(header.count).saturating_sub(own);
        hour.refused += now.refused.saturating_sub(before.refused);
        self.followed += 1;
        self.heartbeats += u64::from(header.kind == BatchKind::Heartbeat);
        self.closed = header.kind == BatchKind::Close;
        self.batches = Some((self.batches.map_or(header.k, |(first, _)| first), header.k));
        self.next_seq = header.first_seq.saturating_add(u64::from(header.count));
        (self.last_sealed, self.last_received) = (header.t_sealed, t_received);
    }

    pub fn hour(&mut self, at: u64) -> &mut Hour {
        self.hours.entry(at - at % HOUR).or_default()
    }

    /// Adds a silence to the hours that it spans.
    pub fn silent(&mut self, from: u64, to: u64) {
        for start in hours(from, to) {
            let seconds = to.min(start.saturating_add(HOUR)).saturating_sub(from.max(start)) / 1_000_000_000;
            self.hours.entry(start).or_default().silent_s += seconds;
        }
    }

    /// Adds a reported gap: its count to the hour in which it began, its cause to all hours that it spans.
    pub fn gap(&mut self, cause: &str, count: Option<u64>, from: u64, to: u64) {
        for (number, start) in hours(from, to.max(from.saturating_add(1))).enumerate() {
            let sum = self.hours.entry(start).or_default().gaps.entry(cause.to_owned()).or_default();
            sum.reports += 1;
            sum.unbounded |= count.is_none();
            if number == 0 {
                sum.count = sum.count.saturating_add(count.unwrap_or(0));
            }
        }
    }
}

/// Beginnings of the hours of [from, to), at most [`SPREAD_HOURS_MAX`].
fn hours(from: u64, to: u64) -> impl Iterator<Item = u64> {
    let first = from - from % HOUR;
    let last = to.saturating_sub(1);
    (0..SPREAD_HOURS_MAX).map_while(move |n| first.checked_add(n * HOUR).filter(|start| *start <= last))
}

impl Accounts {
    /// Takes a stream as one account and region has shown it; of two showings the fuller one stays.
    pub fn take(&mut self, stream: StreamId, account: StreamAccount) {
        match self.0.entry(stream) {
            std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(account)),
            std::collections::btree_map::Entry::Occupied(mut place) if place.get().followed < account.followed => {
                place.insert(account);
            }
            std::collections::btree_map::Entry::Occupied(_) => {}
        }
    }

    /// Every host, over its streams in the order of their opens. `internal`: with the collector's own stream.
    pub fn hosts(&self) -> BTreeMap<(String, AgentId), HostAccount> {
        let mut hosts = BTreeMap::<_, HostAccount>::new();
        let mut streams: Vec<_> = self.0.iter().collect();
        streams.sort_by_key(|(_, account)| account.opened);
        for (id, account) in streams {
            let host = hosts.entry((account.host.clone(), account.agent)).or_default();
            host.streams.push(*id);
            for (start, hour) in &account.hours {
                host.hours.entry(*start).or_default().add(hour);
            }
        }
        hosts
    }

    /// Streams of an agent, in order of their opens: by agent id, host name or the id of one of its streams.
    pub fn of_agent(&self, name: &str) -> Vec<(StreamId, &StreamAccount)> {
        let agents: Vec<AgentId> = self
            .0
            .iter()
            .filter(|(id, account)| account.agent.to_string() == name || account.host == name || id.to_string() == name)
            .map(|(_, account)| account.agent)
            .collect();
        let mut streams: Vec<_> =
            self.0.iter().filter(|(_, account)| agents.contains(&account.agent)).map(|(id, account)| (*id, account)).collect();
        streams.sort_by_key(|(_, account)| (account.agent, account.opened));
        streams
    }
}

impl Hour {
    pub fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.events += other.events;
        self.refused += other.refused;
        self.own += other.own;
        self.rehomed += other.rehomed;
        self.silent_s += other.silent_s;
        self.holes.extend(other.holes.iter().cloned());
        for (cause, sum) in &other.gaps {
            let mine = self.gaps.entry(cause.clone()).or_default();
            mine.reports += sum.reports;
            mine.count = mine.count.saturating_add(sum.count);
            mine.unbounded |= sum.unbounded;
        }
    }

    /// Whether nothing is missing in it.
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.holes.is_empty() && self.silent_s == 0
    }
}

/// A cause as documentation names it: docs/protocol.md §3.2.
pub const fn cause_text(cause: Cause) -> &'static str {
    match cause {
        Cause::Join => "join",
        Cause::AfterClose => "after-close",
        Cause::BufferOrKeyLost => "buffer-or-key-lost",
        Cause::Rollback => "rollback",
        Cause::Fork => "fork",
        Cause::RestoredBehindLater => "restored-behind-later",
    }
}

fn cause_name<S: Serializer>(cause: &Cause, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(cause_text(*cause))
}

fn time<S: Serializer>(unix_ns: &u64, to: S) -> Result<S::Ok, S::Error> {
    match unix_ns {
        0 => to.serialize_none(),
        _ => to.serialize_str(&format_time(*unix_ns)),
    }
}

fn by_time<S: Serializer>(hours: &BTreeMap<u64, Hour>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(hours.iter().map(|(start, hour)| (format_time(*start), hour)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> StreamAccount {
        let open = Open {
            stream: StreamId::from_bytes([1; 16]),
            agent: AgentId::from_bytes([2; 16]),
            first_key: edgetrail_proto::chain::PublicKey([0; 32]),
            predecessor: None,
            cause: Cause::Join,
            t_opened: 10 * HOUR,
            binding: edgetrail_proto::chain::Hash::ZERO,
            certificate: edgetrail_proto::chain::Hash::ZERO,
        };
        StreamAccount::begin(&open, "h1", Vec::new(), false)
    }

    #[test]
    fn a_silence_is_spread_over_the_hours_that_it_spans() {
        let mut account = account();
        account.silent(10 * HOUR + HOUR / 2, 12 * HOUR + HOUR / 4);
        let seconds: Vec<u64> = account.hours.values().map(|hour| hour.silent_s).collect();
        assert_eq!(seconds, [1800, 3600, 900]);
    }

    #[test]
    fn a_gap_is_counted_once_and_named_in_every_hour_that_it_spans() {
        let mut account = account();
        account.gap("buffer-full", Some(7), 10 * HOUR, 11 * HOUR + 1);
        account.gap("buffer-full", None, 10 * HOUR, 10 * HOUR);
        let sums: Vec<&GapSum> = account.hours.values().map(|hour| &hour.gaps["buffer-full"]).collect();
        assert_eq!(sums[0], &GapSum { reports: 2, count: 7, unbounded: true });
        assert_eq!(sums[1], &GapSum { reports: 1, count: 0, unbounded: false });
    }

    #[test]
    fn no_times_overflow() {
        let mut account = account();
        account.silent(0, u64::MAX);
        account.gap("x", Some(u64::MAX), u64::MAX, u64::MAX);
        account.gap("x", Some(u64::MAX), u64::MAX, 0);
        account.silent(u64::MAX, 0);
        assert!(account.hours.len() as u64 <= SPREAD_HOURS_MAX + 1);
    }
}
