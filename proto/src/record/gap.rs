//! Why events are missing, as a gap names it: one closed list for agents, collectors and those who read their reports.
//!
//! docs/events.md says of each how it is known and what its count means. None is ever left out there: a test compares.

use std::fmt;

/// `requestParameters.cause` of a `ReportGap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// The kernel had no room for its own audit records.
    KernelLoss,
    /// A bounded queue of a source overflowed within the agent.
    SourceOverflow,
    /// The buffer had no room, and the source can't wait.
    BufferFull,
    /// The last run did not stop in order: what it held in memory is gone.
    UncleanRestart,
    /// Committed records can't be read any more.
    BufferDamaged,
    /// The buffer is older than what was sealed.
    BufferRollback,
    /// The host's clock was set: nothing is missing, but times before and after don't compare.
    ClockStep,
    /// A source could not read what was there.
    SourceUnreadable,
    /// A collector gave its receipt for batches and has lost them.
    CollectorLost,
    /// An open names batches of its predecessor that nobody brought.
    NotReceived,
}

impl GapCause {
    /// Every cause there is.
    pub const ALL: [Self; 10] = [
        Self::KernelLoss,
        Self::SourceOverflow,
        Self::BufferFull,
        Self::UncleanRestart,
        Self::BufferDamaged,
        Self::BufferRollback,
        Self::ClockStep,
        Self::SourceUnreadable,
        Self::CollectorLost,
        Self::NotReceived,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KernelLoss => "kernel-loss",
            Self::SourceOverflow => "source-overflow",
            Self::BufferFull => "buffer-full",
            Self::UncleanRestart => "unclean-restart",
            Self::BufferDamaged => "buffer-damaged",
            Self::BufferRollback => "buffer-rollback",
            Self::ClockStep => "clock-step",
            Self::SourceUnreadable => "source-unreadable",
            Self::CollectorLost => "collector-lost",
            Self::NotReceived => "not-received",
        }
    }
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
