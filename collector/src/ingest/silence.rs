//! Agents that fell silent: said once, within [`SILENCE_MAX`] of the last sign, and once more when they are back.
//!
//! The connection's ping ends a connection on which nothing comes; what is left here is to tell an agent that went silent from
//! one that comes right back. One that sealed a close has stopped in order. One that hung up without a close, or was sent away,
//! has until its next heartbeat: it may have gone to another collector of this home, whose batches are a sign too. Silence
//! counts while this collector runs: nothing of it outlives a stop. A relay says so of its own agents; their home does not, for
//! a link between them that breaks is the relay's silence, not theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgetrail_proto::identity::AgentId;
use edgetrail_proto::limits::{HEARTBEAT_INTERVAL, SILENCE_MAX};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::end::{End, Left};
use super::events::Noticed;
use super::party::Party;
use super::{Context, PING_TIME_MAX};

/// A cut connection counts as silence this long after the last sign: what is left of [`SILENCE_MAX`] is for saying so.
const CUT_TIME_MAX: Duration = SILENCE_MAX.saturating_sub(Duration::from_secs(1));

/// Whoever went by itself without a close is heard of within this, wherever it went.
const GONE_TIME_MAX: Duration = HEARTBEAT_INTERVAL.saturating_add(SILENCE_MAX);

/// Agents that are watched for; beyond, who went last is not.
const AGENTS_MAX: usize = 16 * 1024;

/// Who is silent, or will be.
#[derive(Debug, Default)]
pub(super) struct Silences {
    agents: Mutex<HashMap<AgentId, Silence>>,
    changed: Notify,
}

#[derive(Debug)]
struct Silence {
    party: Party,
    address: String,
    /// The last sign.
    heard: Instant,
    due: Instant,
    told: bool,
}

impl Silences {
    /// A session of the agent's own has ended.
    pub(super) fn left(&self, party: &Party, address: String, left: Left, heard: Instant, now: Instant) {
        let due = match left {
            // Noticed so late, it was this collector that stood still: its agents come back first.
            Left::Cut if now > heard + SILENCE_MAX => now + CUT_TIME_MAX,
            Left::Cut => heard + CUT_TIME_MAX,
            Left::Gone => now + GONE_TIME_MAX,
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= AGENTS_MAX {
            return;
        }
        // Who is said to be silent is so until it is back.
        let silence = Silence { party: party.clone(), address, heard, due, told: false };
        agents.entry(party.agent()).and_modify(|known| known.due = known.due.min(due)).or_insert(silence);
        drop(agents);
        self.changed.notify_one();
    }

    /// The agent is here, or something of it came: how long it was silent, if that was said.
    pub(super) fn heard(&self, agent: AgentId, now: Instant) -> Option<Duration> {
        let silence = self.agents.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent)?;
        silence.told.then(|| now.saturating_duration_since(silence.heard))
    }

    fn next_due(&self) -> Option<Instant> {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        agents.values().filter(|silence| !silence.told).map(|silence| silence.due).min()
    }

    /// Whose silence is to be said now.
    fn due(&self, now: Instant) -> Vec<(Party, String, Duration)> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let due = agents.values_mut().filter(|silence| !silence.told && silence.due <= now);
        due.map(|silence| {
            silence.told = true;
            (silence.party.clone(), silence.address.clone(), now.saturating_duration_since(silence.heard))
        })
        .collect()
    }
}

impl Left {
    /// How the agent went, where that is for it to explain; `quiet`: how long nothing was read of it.
    pub(super) fn by(end: &End, quiet: Duration) -> Option<Self> {
        match end {
            End::Broken(_) => Some(Self::Cut),
            // A connection whose ping was not answered ends like one that was hung up; but what hangs up was just heard.
            End::Closed if quiet >= PING_TIME_MAX / 2 => Some(Self::Cut),
            // A newer session is there, or it is this collector that wants nothing of the agent, or stops.
            End::Fenced | End::Revoked | End::Outdated | End::Stopping => None,
            // Told of a fork it is nobody's to wait for: that is an event of its own.
            end if end.tells_of_a_fork() => None,
            _ => Some(Self::Gone),
        }
    }
}

/// Says who falls silent, until the collector stops.
pub(super) async fn watch(context: Arc<Context>) {
    loop {
        let due = context.silences.next_due();
        let next = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => {}
            () = context.silences.changed.notified() => continue,
            () = context.stop.cancelled() => return,
        }
        for (party, address, silent) in context.silences.due(Instant::now()) {
            tracing::warn!(agent = %party.agent(), address, seconds = silent.as_secs(), "an agent has fallen silent");
            let reason = "nothing comes from the agent, and it has sealed no close";
            let details = json!({ "silentSeconds": silent.as_secs() });
            context.events.notice(Noticed::SilentStream, &party, &address, 1, reason, details).await;
        }
    }
}

/// Says that an agent is back whose silence was said.
pub(super) async fn heard(context: &Context, party: &Party, address: &str) {
    let Some(silent) = context.silences.heard(party.agent(), Instant::now()) else { return };
    tracing::info!(agent = %party.agent(), address, seconds = silent.as_secs(), "an agent that was silent is back");
    let details = json!({ "silentSeconds": silent.as_secs() });
    context.events.notice(Noticed::HearStream, party, address, 1, "the agent is heard again", details).await;
}

#[cfg(test)]
mod tests {
    use edgetrail_link::tls::PeerIdentity;

    use super::*;

    fn party(number: u8) -> Party {
        let identity = format!(
            "spiffe://edgetrail.internal/account/111122223333/region/r/agent/0190b2a4-0000-7000-8000-0000000000{number:02}"
        );
        Party::of(&PeerIdentity::Agent(identity.parse().unwrap()))
    }

    #[test]
    fn a_cut_agent_is_silent_within_the_time_of_its_last_sign_once_and_back_once() {
        let (silences, party, heard) = (Silences::default(), party(1), Instant::now());
        let second = Duration::from_secs(1);
        silences.left(&party, "192.0.2.1".to_owned(), Left::Cut, heard, heard + 13 * second);
        assert!(silences.due(heard + 13 * second).is_empty());
        let due = silences.next_due().unwrap();
        assert!(due > heard + 13 * second && due < heard + SILENCE_MAX);
        assert_eq!(silences.due(due).len(), 1);
        // It tries again meanwhile, and is cut again.
        silences.left(&party, "192.0.2.1".to_owned(), Left::Cut, due + second, due + 2 * second);
        assert!(silences.due(due + 60 * second).is_empty() && silences.next_due().is_none(), "it was said");
        assert_eq!(silences.heard(party.agent(), heard + 90 * second), Some(90 * second));
        assert_eq!(silences.heard(party.agent(), heard + 91 * second), None);
    }

    #[test]
    fn who_is_back_in_time_was_not_silent_and_who_went_has_until_its_next_heartbeat() {
        let (silences, now) = (Silences::default(), Instant::now());
        let (cut, gone, paused) = (party(1), party(2), party(3));
        silences.left(&cut, String::new(), Left::Cut, now, now);
        assert_eq!(silences.heard(cut.agent(), now + CUT_TIME_MAX / 2), None);
        silences.left(&gone, String::new(), Left::Gone, now, now);
        assert_eq!(silences.next_due(), Some(now + HEARTBEAT_INTERVAL + SILENCE_MAX));
        // The collector itself was stopped for an hour.
        let later = now + Duration::from_secs(3600);
        silences.left(&paused, String::new(), Left::Cut, now, later);
        let told: Vec<AgentId> = silences.due(later).iter().map(|(party, ..)| party.agent()).collect();
        assert_eq!(told, [gone.agent()]);
    }
}
