//! The sources. Each starts from a cursor, yields observations into the intake and stops when told to.
//!
//! Contract: a source never drops what it has read; where something was lost before it could be read, it sends a
//! [`crate::observation::Loss`]. It never waits on anything but its input, the intake and the stop handle; from the stop
//! on the intake makes nobody wait. A pull source that goes on from a cursor finds again whatever lies behind it, losses
//! too: what it sent and was not committed is as if it had not been read.

pub mod audit;

pub mod journal;

pub mod file;

pub mod lines;

pub mod event;

pub mod api;

pub mod kubernetes;

pub mod otlp;

pub mod sudo;

mod listener;

pub mod inlet;

pub mod syslog;

pub mod vault;

pub mod docker;

pub mod cloudtrail;

pub mod proxy;

pub mod percent;

mod secret;

mod watch;

use crate::observation::SourceName;

/// Why a source can't start, or ended. `Display` says what to do; the agent goes on with the others.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The host does not offer it, or a permission is missing: reported by `check`, `status` and a record.
    #[error("source {source_name} is off: {why}")]
    Unavailable { source_name: SourceName, why: String },
    #[error("source {source_name} failed while {doing}")]
    Failed {
        source_name: SourceName,
        doing: String,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}
