//! What a source read, before it is a record, and the bounded way from the sources into the pipeline.
//!
//! An observation is done with when its records are committed: only then does its source's cursor move and its caller
//! get an answer. Nothing here drops: a full pipeline makes the sender wait.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use crate::sources::{api, audit, file, journal};

/// Where the agent gets activity from, highest first: a lower source leaves an act to a higher one that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceName {
    Audit,
    Journal,
    File,
    Api,
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
    /// `kernel-loss`, `source-overflow`, `buffer-full`, `unclean-restart`, `buffer-damaged`, `buffer-rollback`, `clock-step`, `source-unreadable`.
    pub cause: &'static str,
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
pub struct Intake(mpsc::Sender<Vec<Observation>>);

/// The pipeline's receiving end.
pub type Outlet = mpsc::Receiver<Vec<Observation>>;

/// Most observations in one group: one batch's worth.
pub const GROUP_MAX: usize = edgetrail_proto::limits::BATCH_RECORDS_MAX;

/// Groups in flight between sources and pipeline: with full groups of 1 KiB observations, 4 MiB.
const GROUPS_IN_FLIGHT: usize = 4;

/// The pipeline has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline has stopped")]
pub struct Stopped;

pub fn intake() -> (Intake, Outlet) {
    let (sender, receiver) = mpsc::channel(GROUPS_IN_FLIGHT);
    (Intake(sender), receiver)
}

impl Intake {
    /// Waits while the pipeline is full.
    pub async fn send(&self, group: Vec<Observation>) -> Result<(), Stopped> {
        self.0.send(group).await.map_err(|_| Stopped)
    }

    /// The same from a thread of its own.
    pub fn send_blocking(&self, group: Vec<Observation>) -> Result<(), Stopped> {
        self.0.blocking_send(group).map_err(|_| Stopped)
    }
}

impl SourceName {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Journal => "journal",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
