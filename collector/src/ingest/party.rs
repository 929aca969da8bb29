//! Whose streams a session carries, and who brings them.
//!
//! An agent brings its own. A relay brings those of the agent that its resume names: any agent of this home, for an
//! open's own certificate proves whose stream it is; never the internal stream, which no relay ever held.

use edgetrail_link::tls::{PeerId, PeerIdentity};
use edgetrail_proto::identity::{AccountId, AgentId, AgentIdentity, Region};

use crate::ledger::Bringer;

/// No agent's id: enrollment gives it to nobody.
const NOBODY: [u8; 16] = [0; 16];

#[derive(Clone, Debug)]
pub(super) struct Party {
    peer: PeerIdentity,
    agent: AgentId,
    scope: Option<(AccountId, Region)>,
}

/// Why a resume names nobody whose streams may be brought.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartyError {
    #[error("a relay's resume names the agent whose streams it brings, in 16 bytes")]
    NoAgent,
    #[error("an agent's resume names no agent: it brings its own streams")]
    NoRelay,
}

impl Party {
    /// Of a relay, the agent is nobody until [`Party::name`].
    pub(super) fn of(peer: &PeerIdentity) -> Self {
        let (agent, scope) = match peer {
            PeerIdentity::Agent(identity) => (identity.agent, Some((identity.account, identity.region.clone()))),
            PeerIdentity::Relay(_) => (AgentId::from_bytes(NOBODY), None),
        };
        Self { peer: peer.clone(), agent, scope }
    }

    /// Reads the agent that a resume names.
    pub(super) fn name(&mut self, agent: &[u8]) -> Result<(), PartyError> {
        match &self.peer {
            PeerIdentity::Agent(_) if agent.is_empty() => Ok(()),
            PeerIdentity::Agent(_) => Err(PartyError::NoRelay),
            PeerIdentity::Relay(_) => {
                let named: [u8; 16] = agent.try_into().map_err(|_| PartyError::NoAgent)?;
                if named == NOBODY {
                    return Err(PartyError::NoAgent);
                }
                self.agent = AgentId::from_bytes(named);
                Ok(())
            }
        }
    }

    /// Where events about the agent belong, once a stream of it is known.
    pub(super) fn place(&mut self, scope: Option<&(AccountId, Region)>) {
        if self.scope.is_none() {
            self.scope = scope.cloned();
        }
    }

    pub(super) fn agent(&self) -> AgentId {
        self.agent
    }

    /// The agent as its own certificate says it; `None` where a relay brings its streams.
    pub(super) fn identity(&self) -> Option<&AgentIdentity> {
        match &self.peer {
            PeerIdentity::Agent(identity) => Some(identity),
            PeerIdentity::Relay(_) => None,
        }
    }

    pub(super) fn peer(&self) -> PeerId {
        self.peer.id()
    }

    pub(super) fn bringer(&self) -> Bringer {
        match &self.peer {
            PeerIdentity::Agent(_) => Bringer::Agent,
            PeerIdentity::Relay(_) => Bringer::Relay,
        }
    }

    pub(super) fn is_relay(&self) -> bool {
        self.bringer() == Bringer::Relay
    }

    pub(super) fn scope(&self) -> Option<&(AccountId, Region)> {
        self.scope.as_ref()
    }
}
