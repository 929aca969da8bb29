//! What operators set: principals and their access keys, tokens, agents, trails.
//!
//! All of it lies in `control.sqlite`, mode 0600: verifying a SigV4 signature takes the secret itself, so access keys
//! lie there readable to the collector's user. Tokens lie there only as Argon2id hashes. The commands write to the same
//! file as a running collector; [`Control::run`] notices within [`POLL_INTERVAL`].

mod access_keys;
mod acts;
mod agents;
mod hashing;
mod principals;
mod relays;
mod store;
#[cfg(test)]
mod tests;
mod tokens;
mod trails;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgetrail_disk::database::DatabaseError;
use edgetrail_link::tls::PeerId;
use edgetrail_proto::identity::{AgentId, RelayName};
use rusqlite::Connection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use access_keys::AccessKey;
pub use acts::{Act, Operator, User};
pub use agents::Agent;
pub use principals::{Attached, POLICIES_MAX, Principal};
pub use relays::{Relay, Standing};
pub use tokens::{Grant, NewRelayToken, NewToken, Token};
pub use trails::TrailConfig;

/// What another process changed is noticed this fast. Source: a revocation takes effect in ≤ 5 s.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The handle: cheap to clone. Calls block for one short statement, a token's for its Argon2 hash as well.
#[derive(Clone)]
pub struct Control {
    connection: Arc<Mutex<Connection>>,
    revoked: Arc<watch::Sender<Revoked>>,
    relays: Arc<watch::Sender<Vec<Relay>>>,
    hashing: hashing::Hashing,
    /// Changes whenever another process has changed something.
    changes: Arc<watch::Sender<()>>,
    /// Who is noted for what this handle changes.
    operator: Option<Arc<Operator>>,
}

/// Which agents and relays may not connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    pub agents: BTreeSet<AgentId>,
    pub relays: BTreeSet<RelayName>,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the collector's settings can't be read or written")]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Open(#[from] DatabaseError),
    #[error("{path} can't be prepared: the collector's user must own it")]
    File { path: String, source: std::io::Error },
    #[error("the {what} in the settings is damaged: restore control.sqlite from a copy")]
    Damaged { what: &'static str },
    /// The cause stands in the text: its type is no `std::error::Error` here.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    #[error("the token can't be hashed")]
    Hash,
    /// One text for every cause: a caller without a token learns nothing.
    #[error("the token is not valid: it is unknown, used up or expired; make a new one with `edgetrail-collector token create`")]
    Token,
    #[error("no agent {agent} has joined")]
    NoAgent { agent: AgentId },
    #[error("no relay {name} has joined")]
    NoRelay { name: RelayName },
    #[error("there is no access key {id}")]
    NoAccessKey { id: String },
    #[error("there is no principal `{name}` in this account: `edgetrail-collector principal list` shows all")]
    NoPrincipal { name: String },
    #[error("`{name}` is there and keeps its policies: change them by `edgetrail-collector principal put-policy`")]
    PrincipalExists { name: String },
    #[error("`{name}` still has access keys, {keys} of them: delete them first")]
    PrincipalHasKeys { name: String, keys: u64 },
    #[error("`{name}` is no name: 1 to 64 letters, digits and `+=,.@_-`")]
    BadName { name: String },
    #[error("a principal has at most {POLICIES_MAX} policies, not {policies}: put several into one document")]
    TooManyPolicies { policies: usize },
    #[error("control.sqlite has version {found}, this program knows {}: start the newer program", store::SCHEMA_VERSION)]
    Schema { found: i64 },
}

impl Revoked {
    pub fn contains(&self, peer: &PeerId) -> bool {
        match peer {
            PeerId::Agent(agent) => self.agents.contains(agent),
            PeerId::Relay(name) => self.relays.contains(name),
        }
    }
}

impl Control {
    /// Opens or creates `control.sqlite` in the state directory.
    pub fn open(dir: &Path) -> Result<Self, ControlError> {
        let connection = store::open(&dir.join("control.sqlite"))?;
        let (revoked, relays) = (revoked(&connection)?, relays::watched(&connection)?);
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            revoked: Arc::new(watch::Sender::new(revoked)),
            relays: Arc::new(watch::Sender::new(relays)),
            hashing: hashing::Hashing::default(),
            changes: Arc::new(watch::Sender::new(())),
            operator: None,
        })
    }

    /// Who may not connect any more: changes as soon as a revocation is noticed.
    pub fn revoked(&self) -> watch::Receiver<Revoked> {
        self.revoked.subscribe()
    }

    /// Every relay that has joined: changes as soon as one joins, renews, is revoked or forgotten.
    pub fn watch_relays(&self) -> watch::Receiver<Vec<Relay>> {
        self.relays.subscribe()
    }

    /// Told whenever another process has changed something.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Notices what other processes change, until stopped.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ControlError> {
        let mut seen = None;
        loop {
            let control = self.clone();
            let version = store::data_version(&control.lock())?;
            if seen.replace(version) != Some(version) {
                control.publish()?;
                control.changes.send_replace(());
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    fn publish(&self) -> Result<(), ControlError> {
        // Held until both are told: of two that publish, the one that read later is heard last.
        let connection = self.lock();
        let (revoked, relays) = (revoked(&connection)?, relays::watched(&connection)?);
        self.revoked.send_if_modified(|known| replace(known, revoked));
        self.relays.send_if_modified(|known| replace(known, relays));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

fn revoked(connection: &Connection) -> Result<Revoked, ControlError> {
    Ok(Revoked { agents: agents::revoked(connection)?, relays: relays::revoked(connection)? })
}

/// Whether it is another value.
fn replace<T: PartialEq>(known: &mut T, new: T) -> bool {
    let changed = *known != new;
    *known = new;
    changed
}

fn random<const N: usize>() -> Result<[u8; N], ControlError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(ControlError::Random)?;
    Ok(bytes)
}
