//! Security events of ingest: records that were quarantined, peers that were refused, agents that fell silent.
//!
//! They enter the ledger through the internal stream, under the agent's account and region. One of a kind for an agent
//! in [`INTERVAL`] carries the count of all since the one before: a broken or hostile agent can't flood the ledger. A relay,
//! which has no internal stream, posts them on a board of its own, from where they go to home.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgetrail_link::tls::PeerId;
use edgetrail_proto::identity::{AccountId, AgentId, Region, RelayName};
use edgetrail_proto::record::{EventCategory, EventType, Record, UserIdentity};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::party::Party;
use crate::internal::Internal;
use crate::ledger::COLLECTOR_SOURCE;

/// eventSource of what ingest notices.
pub const EVENT_SOURCE: &str = COLLECTOR_SOURCE;

/// One event of a kind for an agent in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// Agents and kinds that are remembered; beyond, the oldest are forgotten, which costs an event too many.
const REMEMBERED_MAX: usize = 16 * 1024;

/// What is noticed; its name is the eventName.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Noticed {
    /// Records inside good batches that are not what they should be.
    QuarantineRecords,
    /// A session that ended because of what the agent sent.
    RefuseAgent,
    /// Two branches of one stream.
    DetectFork,
    /// A stream that stands still until another collector brings what it gave a receipt for.
    AwaitBatches,
    /// Nothing comes from an agent that has sealed no close.
    SilentStream,
    /// It is back.
    HearStream,
}

/// Who brought what of whom.
type Subject = (PeerId, AgentId, Noticed);

/// When the last event of a subject was written, and how many were not since.
type Written = (Instant, u64);

/// What a relay's ingest noticed, for home to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The eventName.
    pub name: &'static str,
    pub agent: AgentId,
    pub count: u64,
    pub address: String,
    pub reason: String,
    /// A JSON object.
    pub details: Value,
}

/// Where notices go that nobody here can record.
pub trait NoticeBoard: Send + Sync + std::fmt::Debug + 'static {
    /// Blocks on disk.
    fn post(&self, notice: Notice);
}

/// Writes events, at a bounded rate.
#[derive(Debug, Default)]
pub(super) struct Events {
    internal: Option<Internal>,
    board: Option<Arc<dyn NoticeBoard>>,
    last: Mutex<HashMap<Subject, Written>>,
}

impl Noticed {
    pub(super) const ALL: [Self; 6] =
        [Self::QuarantineRecords, Self::RefuseAgent, Self::DetectFork, Self::AwaitBatches, Self::SilentStream, Self::HearStream];

    /// Whether an agent could make any number of them. One falls silent no oftener than silence takes.
    const fn is_paced(self) -> bool {
        !matches!(self, Self::SilentStream | Self::HearStream)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::QuarantineRecords => "QuarantineRecords",
            Self::RefuseAgent => "RefuseAgent",
            Self::DetectFork => "DetectFork",
            Self::AwaitBatches => "AwaitBatches",
            Self::SilentStream => "SilentStream",
            Self::HearStream => "HearStream",
        }
    }
}

impl Events {
    pub(super) fn new(internal: Internal) -> Self {
        Self { internal: Some(internal), ..Self::default() }
    }

    pub(super) fn posting(board: Arc<dyn NoticeBoard>) -> Self {
        Self { board: Some(board), ..Self::default() }
    }

    /// Writes an event about `count` of what was noticed, or keeps the count for the next one.
    pub(super) async fn notice(&self, noticed: Noticed, party: &Party, address: &str, count: u64, reason: &str, details: Value) {
        if self.internal.is_none() && self.board.is_none() {
            return;
        }
        let Some(count) = self.due((party.peer(), party.agent(), noticed), count, Instant::now()) else { return };
        if let Some(internal) = &self.internal {
            let about = About { agent: party.agent(), scope: party.scope(), relay: relay_of(party) };
            let record = event(noticed, &about, internal.home(), address, count, reason, details);
            if let Err(error) = internal.record(record).await {
                tracing::warn!(%error, event = noticed.name(), "a security event could not be recorded");
            }
            return;
        }
        // Home notices by itself what is wrong inside a batch that it is brought.
        if let Some(board) = self.board.clone().filter(|_| noticed != Noticed::QuarantineRecords) {
            let (address, reason) = (address.to_owned(), reason.to_owned());
            let notice = Notice { name: noticed.name(), agent: party.agent(), count, address, reason, details };
            if tokio::task::spawn_blocking(move || board.post(notice)).await.is_err() {
                tracing::warn!(event = noticed.name(), "a security event could not be posted");
            }
        }
    }

    /// How many to report now; `None` while the last event is too young.
    fn due(&self, about: (PeerId, AgentId, Noticed), count: u64, now: Instant) -> Option<u64> {
        if !about.2.is_paced() {
            return Some(count);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REMEMBERED_MAX {
            last.retain(|_, (at, _)| now.duration_since(*at) < INTERVAL);
            if last.len() >= REMEMBERED_MAX {
                last.clear();
            }
        }
        match last.get_mut(&about) {
            Some((at, kept)) if now.duration_since(*at) < INTERVAL => {
                *kept = kept.saturating_add(count);
                None
            }
            Some((at, kept)) => {
                *at = now;
                Some(std::mem::take(kept).saturating_add(count))
            }
            None => {
                last.insert(about, (now, 0));
                Some(count)
            }
        }
    }
}

/// Whom an event is about.
pub(super) struct About<'a> {
    pub(super) agent: AgentId,
    /// The agent's account and region, where a stream of it is known.
    pub(super) scope: Option<&'a (AccountId, Region)>,
    /// Who brought it, or noticed it.
    pub(super) relay: Option<RelayName>,
}

fn relay_of(party: &Party) -> Option<RelayName> {
    match party.peer() {
        PeerId::Relay(name) => Some(name),
        PeerId::Agent(_) => None,
    }
}

pub(super) fn event(
    noticed: Noticed,
    about: &About<'_>,
    home: &(AccountId, Region),
    address: &str,
    count: u64,
    reason: &str,
    details: Value,
) -> Record {
    let mut parameters = json!({ "agent": about.agent.to_string(), "count": count, "reason": reason });
    if let (Some(parameters), Some(relay)) = (parameters.as_object_mut(), &about.relay) {
        parameters.insert("relay".to_owned(), relay.to_string().into());
    }
    // Of an agent that no stream is known of, the event is the home account's.
    let (account, region) = about.scope.unwrap_or(home);
    if let (Some(parameters), Value::Object(details)) = (parameters.as_object_mut(), details) {
        // Who says it, and of whom, is not for the details to say.
        details.into_iter().for_each(|(name, value)| {
            parameters.entry(name).or_insert(value);
        });
    }
    Record {
        user_identity: UserIdentity {
            kind: Some("AWSService".to_owned()),
            account_id: Some(account.to_string()),
            invoked_by: Some(EVENT_SOURCE.to_owned()),
            ..UserIdentity::default()
        },
        event_source: EVENT_SOURCE.to_owned(),
        event_name: noticed.name().to_owned(),
        aws_region: region.to_string(),
        source_ip_address: address.to_owned(),
        user_agent: Some(concat!("edgetrail-collector/", env!("CARGO_PKG_VERSION")).to_owned()),
        request_parameters: Some(parameters),
        read_only: Some(false),
        event_type: EventType::AwsServiceEvent,
        management_event: Some(true),
        event_category: EventCategory::Management,
        recipient_account_id: account.to_string(),
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_one_event_a_minute_with_the_count_of_all() {
        let (events, agent, now) = (Events::default(), AgentId::from_bytes([1; 16]), Instant::now());
        let about = |noticed| (PeerId::Agent(agent), agent, noticed);
        assert_eq!(events.due(about(Noticed::QuarantineRecords), 3, now), Some(3));
        assert_eq!(events.due(about(Noticed::QuarantineRecords), 4, now), None);
        assert_eq!(events.due(about(Noticed::QuarantineRecords), 5, now), None);
        assert_eq!(events.due(about(Noticed::RefuseAgent), 1, now), Some(1), "another kind");
        assert_eq!(events.due(about(Noticed::QuarantineRecords), 1, now + INTERVAL), Some(10));
    }
}
