//! Why a session ended, what its agent is told, and whether that is a fault.

use edgetrail_link::wire::{self, RefusalReason, from_collector};
use edgetrail_proto::chain::Head;
use edgetrail_proto::identity::StreamId;
use tonic::Status;

use super::RestoreError;
use super::batch::BatchError;
use super::opening::OpeningError;
use super::party::PartyError;
use super::renewal::RenewalError;
use super::resume::{ResumeError, named_head, stream_bytes};
use super::take_up::TakeUpError;
use crate::control::ControlError;
use crate::ledger::{CommitError, LedgerError};

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The agent closed its half, or went away.
    #[error("the agent closed the connection")]
    Closed,
    #[error("the connection broke")]
    Broken(#[source] Box<Status>),
    #[error("a newer session for the agent took over")]
    Fenced,
    #[error("the peer was revoked")]
    Revoked,
    #[error("the peer has joined anew; this certificate is of before")]
    Outdated,
    #[error("the certificate has expired")]
    Expired,
    #[error("the collector stops")]
    Stopping,
    #[error("the agent sent no resume in time")]
    NoResume,
    #[error("the protocol does not allow this here: {0}")]
    Protocol(&'static str),
    #[error("the resume can't be answered")]
    Resume(#[source] ResumeError),
    #[error("the resume names nobody")]
    Party(#[source] PartyError),
    #[error("the open is refused")]
    Opening(#[source] OpeningError),
    #[error("the renewed certificate is refused")]
    Renewal(#[source] RenewalError),
    #[error("the batch is refused")]
    Batch {
        stream: Option<StreamId>,
        #[source]
        source: BatchError,
    },
    #[error("the evidence for a take-up does not hold")]
    TakeUp(#[source] TakeUpError),
    #[error("the collector was restored, and can't make a new receipt key")]
    Restored(#[source] Box<RestoreError>),
    #[error("stream {stream} is not of the agent that sends it")]
    OtherAgent { stream: StreamId },
    #[error("the agent stands elsewhere than the ledger")]
    Expect(Box<Head>),
    #[error("the ledger refuses")]
    Commit {
        stream: StreamId,
        #[source]
        source: CommitError,
    },
    #[error("the ledger can't be read")]
    Ledger(#[source] LedgerError),
    #[error("the collector's settings can't be read")]
    Control(#[source] ControlError),
    #[error("verification ended in a panic, or could not be set up")]
    Verification,
}

/// How an agent went, as far as its session can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The connection broke: nothing came any more, or its end came without a word.
    Cut,
    /// It hung up, or was sent away and may come back.
    Gone,
}

/// What an ended session tells its agent.
pub(super) enum Answer {
    Message(from_collector::Message),
    Status(Status),
    Nothing,
}

impl End {
    pub(super) fn answer(&self) -> Answer {
        let (reason, stream) = match self {
            Self::Closed | Self::Broken(_) => return Answer::Nothing,
            Self::Fenced => return Answer::Status(Status::aborted("a newer session for this agent took over")),
            Self::Revoked => return Answer::Status(Status::permission_denied("this agent or relay is revoked")),
            Self::Expired => {
                return Answer::Status(Status::unauthenticated("the certificate has expired: renew it and come back"));
            }
            Self::Stopping => return Answer::Status(Status::unavailable("the collector stops")),
            Self::Expect(head) => return expect(head),
            Self::Commit { stream, source } => match source {
                CommitError::Expect { head } => return expect(head),
                // The agent does not know its latest stream: resuming tells it.
                CommitError::Behind { latest } => {
                    let expect = wire::Expect { stream: stream_bytes(*latest), head: None };
                    return Answer::Message(from_collector::Message::Expect(expect));
                }
                CommitError::Fork { .. } | CommitError::Frozen { .. } => (RefusalReason::Fork, Some(*stream)),
                CommitError::Closed { .. } => (RefusalReason::Chain, Some(*stream)),
                CommitError::Unknown { .. } => (RefusalReason::Protocol, Some(*stream)),
                CommitError::Duplicate(_) | CommitError::Unavailable(_) => (RefusalReason::Unavailable, Some(*stream)),
            },
            Self::Outdated | Self::Opening(_) | Self::Renewal(_) => (RefusalReason::Identity, None),
            Self::OtherAgent { stream } => (RefusalReason::Identity, Some(*stream)),
            Self::Resume(ResumeError::OtherAgent { stream, .. }) => (RefusalReason::Identity, Some(*stream)),
            Self::Resume(ResumeError::Frozen { stream, .. }) => (RefusalReason::Fork, Some(*stream)),
            Self::Resume(ResumeError::Internal { .. }) => (RefusalReason::Identity, None),
            Self::Resume(ResumeError::Ledger(_))
            | Self::Ledger(_)
            | Self::Control(_)
            | Self::Restored(_)
            | Self::Verification => (RefusalReason::Unavailable, None),
            Self::Batch { stream, .. } => (RefusalReason::Chain, *stream),
            Self::TakeUp(_) => (RefusalReason::Chain, None),
            Self::NoResume | Self::Party(_) | Self::Protocol(_) | Self::Resume(_) => (RefusalReason::Protocol, None),
        };
        let refusal = wire::Refusal {
            reason: reason.into(),
            stream: stream.map(stream_bytes).unwrap_or_default(),
            message: self.public_text(),
        };
        Answer::Message(from_collector::Message::Refusal(refusal))
    }

    /// Whether the answer is FORK: from then on nothing of the agent is committed.
    pub(super) fn tells_of_a_fork(&self) -> bool {
        let by_batch = matches!(self, Self::Commit { source: CommitError::Fork { .. } | CommitError::Frozen { .. }, .. });
        by_batch || matches!(self, Self::Resume(ResumeError::Frozen { .. }))
    }

    /// What the agent may know: what it did itself, with the cause; of the collector's own troubles only that they are.
    pub(super) fn public_text(&self) -> String {
        let cause = match self {
            Self::Resume(ResumeError::Ledger(_))
            | Self::Ledger(_)
            | Self::Control(_)
            | Self::Restored(_)
            | Self::Verification => None,
            Self::Commit { source, .. } => return source.to_string(),
            Self::Batch { source: BatchError::Chain(cause), .. } => return cause.to_string(),
            other => std::error::Error::source(other),
        };
        cause.map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }

    /// Whether somebody did what should not happen, rather than came and went.
    pub(super) fn is_fault(&self) -> bool {
        !matches!(self, Self::Closed | Self::Broken(_) | Self::Fenced | Self::Expired | Self::Stopping | Self::Expect(_))
    }
}

fn expect(head: &Head) -> Answer {
    let expect = wire::Expect { stream: stream_bytes(head.stream), head: named_head(head) };
    Answer::Message(from_collector::Message::Expect(expect))
}
