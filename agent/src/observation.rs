//! What a source read, before it is a record, and the bounded way from the sources into the pipeline.
//!
//! An observation is done with when its records are committed: only then does its source's cursor move and its caller
//! get an answer. Nothing here drops: a full pipeline makes the sender wait.

use std::fmt;
use std::sync::Arc;

pub use edgetrail_proto::record::GapCause;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::sources::{api, audit, file, journal, kubernetes, otlp, proxy, sudo};

/// Where the agent gets activity from, highest first: a lower source leaves an act to a higher one that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceName {
    Audit,
    Sudo,
    Journal,
    Docker,
    File,
    Vault,
    Syslog,
    CloudTrail,
    Api,
    Kubernetes,
    Otlp,
    Proxy,
}

/// One thing that a source read.
#[derive(Debug)]
pub struct Observation {
    pub source: SourceName,
    /// Names it within its source, the same at every reading: docs/protocol.md §2.
    pub position: String,
    /// When it happened, Unix nanoseconds; the time of reading where the source does not say.
    pub time: u64,
    pub payload: Payload,
    /// Where the source goes on once this is committed.
    pub cursor: Option<Cursor>,
    /// Who waits for the commit.
    pub answer: Option<Answer>,
}

#[derive(Debug)]
pub enum Payload {
    Audit(audit::Event),
    Journal(journal::Entry),
    Line(file::Line),
    Post(api::Post),
    AuditEvent(api::audit_events::AuditEvent),
    Kubernetes(kubernetes::Event),
    Log(otlp::Log),
    Sudo(sudo::Event),
    /// Shared with the proxy's clerk, which offers it again where there was no room.
    Exchange(Arc<proxy::Exchange>),
    /// Events are missing here: becomes a gap.
    Loss(Loss),
    /// Input that is not what its source promises: becomes an `UnparsedObservation`.
    Unparsed(Unparsed),
    /// Nothing to record; only the cursor moves.
    Nothing,
}

/// An opaque position that a pull source goes on from. Keyed: one source may have several (one a file).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub key: String,
    pub value: Vec<u8>,
}

/// What is missing: a gap before it is a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub cause: GapCause,
    /// `None` where nothing bounds it.
    pub count: Option<u64>,
    pub exact: bool,
    /// How it is known.
    pub evidence: String,
    /// Unix nanoseconds.
    pub from: u64,
    pub to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsed {
    pub bytes: Vec<u8>,
    /// What is wrong and where, for the record's errorMessage.
    pub reason: String,
}

/// Tells a push source's caller what became of its observation.
#[derive(Debug)]
pub struct Answer(pub oneshot::Sender<Outcome>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable, under this eventID (for each record made of the observation).
    Committed { event_ids: Vec<uuid::Uuid> },
    /// Selection turned it away; it is counted.
    Refused,
    /// The buffer can't take it now; the caller is to try again after this many seconds.
    Unavailable { retry_after_s: u64 },
}

/// A source's sending end. Bounded by the channel's capacity in groups of at most [`GROUP_MAX`] observations.
#[derive(Clone, Debug)]
pub struct Intake {
    groups: mpsc::Sender<Vec<Observation>>,
    /// The other way, for [`Intake::prompt`].
    prompt: mpsc::Sender<Vec<Observation>>,
}

/// The pipeline's receiving end.
#[derive(Debug)]
pub struct Outlet {
    pull: mpsc::Receiver<Vec<Observation>>,
    prompt: mpsc::Receiver<Vec<Observation>>,
}

/// A group, by what its source does where there is no room.
#[derive(Debug)]
pub enum Group {
    /// The source can wait: it reads on when the pipeline does.
    Pull(Vec<Observation>),
    /// Somebody stands behind it who can't: a caller, or the kernel.
    Prompt(Vec<Observation>),
}

/// Most observations in one group: one batch's worth.
pub const GROUP_MAX: usize = edgetrail_proto::limits::BATCH_RECORDS_MAX;

/// Groups in flight between sources and pipeline: with full groups of 1 KiB observations, 4 MiB.
const GROUPS_IN_FLIGHT: usize = 4;

/// The pipeline has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline has stopped")]
pub struct Stopped;

pub fn intake() -> (Intake, Outlet) {
    let (groups, pull) = mpsc::channel(GROUPS_IN_FLIGHT);
    let (prompt_groups, prompt) = mpsc::channel(GROUPS_IN_FLIGHT);
    (Intake { groups, prompt: prompt_groups }, Outlet { pull, prompt })
}

impl Intake {
    /// For a source behind which somebody stands who can't wait: it is read even while pull sources are not.
    #[must_use]
    pub fn prompt(self) -> Self {
        Self { groups: self.prompt.clone(), prompt: self.prompt }
    }

    /// Waits while the pipeline is full.
    pub async fn send(&self, group: Vec<Observation>) -> Result<(), Stopped> {
        self.groups.send(group).await.map_err(|_| Stopped)
    }

    /// The same from a thread of its own.
    pub fn send_blocking(&self, group: Vec<Observation>) -> Result<(), Stopped> {
        self.groups.blocking_send(group).map_err(|_| Stopped)
    }
}

impl Outlet {
    /// The next group; of pull sources only where `pull` says that there is room for it. `None` when every intake is gone.
    pub async fn next(&mut self, pull: bool) -> Option<Group> {
        tokio::select! {
            biased;
            Some(group) = self.prompt.recv() => Some(Group::Prompt(group)),
            Some(group) = self.pull.recv(), if pull => Some(Group::Pull(group)),
            // Each intake holds both ends: with one closed, nothing more comes but what lies in the other.
            else => self.pull.recv().await.map(Group::Pull),
        }
    }

    /// The next group, whoever sent it.
    pub async fn recv(&mut self) -> Option<Vec<Observation>> {
        self.next(true).await.map(|group| match group {
            Group::Pull(group) | Group::Prompt(group) => group,
        })
    }

    /// Takes no more: senders are told.
    pub fn close(&mut self) {
        self.pull.close();
        self.prompt.close();
    }
}

impl SourceName {
    /// Every source, highest first.
    pub const ALL: [Self; 12] = [
        Self::Audit,
        Self::Sudo,
        Self::Journal,
        Self::File,
        Self::Api,
        Self::Kubernetes,
        Self::Otlp,
        Self::Docker,
        Self::Vault,
        Self::Syslog,
        Self::CloudTrail,
        Self::Proxy,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Journal => "journal",
            Self::Docker => "docker",
            Self::File => "file",
            Self::Vault => "vault",
            Self::Syslog => "syslog",
            Self::CloudTrail => "cloudtrail",
            Self::Api => "api",
            Self::Kubernetes => "kubernetes",
            Self::Otlp => "otlp",
            Self::Sudo => "sudo",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
