//! What a relay reports: how it stands with home, and the security events of its own ingest.
//!
//! They are the relay's word, recorded in home's internal stream under the name in its certificate: names of events, and
//! sizes, are home's to bound; nothing that a relay says passes for what home itself has noticed. A report whose answer was
//! lost comes again, and its events then stand twice, under one eventID.

use edgetrail_link::wire;
use edgetrail_proto::chain::event_id;
use edgetrail_proto::identity::{AgentId, RelayName};
use edgetrail_proto::record::format_time;
use serde_json::Value;
use tonic::Status;
use uuid::Uuid;

use super::Context;
use super::events::{About, Noticed, event};
use crate::control::Standing;

/// Notices of one report; a relay sends the rest with the next.
pub const NOTICES_MAX: usize = 64;

/// Longest texts of a notice, in characters.
const REASON_MAX: usize = 1024;
const ADDRESS_MAX: usize = 64;
const DETAILS_MAX: usize = 4096;

/// Answers once everything is on record.
pub(super) async fn take(context: &Context, relay: &RelayName, report: wire::RelayReport) -> Result<(), Status> {
    if report.notices.len() > NOTICES_MAX {
        return Err(Status::invalid_argument("a report holds at most 64 notices"));
    }
    let notices: Vec<Known> = report.notices.into_iter().map(Known::read).collect::<Option<_>>().ok_or_else(|| {
        tracing::warn!(%relay, "a relay's report is malformed");
        Status::invalid_argument("a notice is not what the protocol allows")
    })?;
    if let Some(wire::RelayStanding { owing, waiting, last_receipt }) = report.standing {
        let (trust, name) = (context.trust.clone(), relay.clone());
        let standing = Standing { owing, waiting, last_receipt_ns: Some(last_receipt).filter(|at| *at > 0) };
        let noted = tokio::task::spawn_blocking(move || trust.stands(&name, standing)).await;
        noted.map_err(|_panicked| unavailable())?.map_err(|error| {
            tracing::warn!(%relay, error = &error as &dyn std::error::Error, "how a relay stands can't be noted");
            unavailable()
        })?;
    }
    for notice in notices {
        record(context, relay, notice).await?;
    }
    Ok(())
}

/// A notice that can be recorded.
struct Known {
    id: [u8; 16],
    noticed: Noticed,
    agent: AgentId,
    count: u64,
    address: String,
    reason: String,
    details: Value,
    noticed_ns: u64,
}

impl Known {
    fn read(notice: wire::RelayNotice) -> Option<Self> {
        let details = match notice.details.as_str() {
            "" => Value::Null,
            text if text.len() <= DETAILS_MAX => serde_json::from_str(text).ok().filter(Value::is_object)?,
            _ => return None,
        };
        Some(Self {
            id: notice.id.as_ref().try_into().ok()?,
            noticed: Noticed::ALL.into_iter().find(|noticed| noticed.name() == notice.name)?,
            agent: AgentId::from_bytes(notice.agent_id.as_ref().try_into().ok()?),
            count: notice.count,
            address: plain(&notice.address, ADDRESS_MAX),
            reason: plain(&notice.reason, REASON_MAX),
            details,
            noticed_ns: notice.noticed,
        })
    }
}

async fn record(context: &Context, relay: &RelayName, notice: Known) -> Result<(), Status> {
    let Some(internal) = &context.internal else { return Ok(()) };
    // Silent at a relay, since it is here.
    if notice.noticed == Noticed::SilentStream && context.fence.holds(notice.agent) {
        return Ok(());
    }
    let (ledger, agent) = (context.ledger.clone(), notice.agent);
    let latest = tokio::task::spawn_blocking(move || ledger.latest(agent)).await;
    let latest = latest.map_err(|_panicked| unavailable())?.map_err(|_| unavailable())?;
    let scope = latest.as_ref().and_then(|state| state.info.binding.scopes().next());
    let about = About { agent, scope, relay: None };
    let mut record =
        event(notice.noticed, &about, internal.home(), &notice.address, notice.count, &notice.reason, notice.details);
    if let Some(parameters) = record.request_parameters.as_mut().and_then(Value::as_object_mut) {
        parameters.insert("noticedBy".to_owned(), relay.to_string().into());
        parameters.insert("noticedAt".to_owned(), format_time(notice.noticed_ns).into());
    }
    let position = Uuid::from_bytes(notice.id).to_string();
    record.event_id = event_id(internal.agent(), "relay-notice", &format!("{relay}:{position}"), 0);
    internal.record(record).await.map(drop).map_err(|error| {
        tracing::warn!(%relay, %error, "what a relay has noticed could not be recorded");
        unavailable()
    })
}

/// Shown to operators as it is: nothing in it moves a terminal's cursor.
fn plain(text: &str, chars_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

fn unavailable() -> Status {
    Status::unavailable("home can't record it now: try again")
}
