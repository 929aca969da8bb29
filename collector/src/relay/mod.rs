//! A relay: a collector on the way to home, for a region that is cut off now and then.
//!
//! It takes what agents send as home does, and its receipt is final for them. It keeps every batch until it has home's
//! receipt for it, and brings it on whole and unaltered, with all that proves it. It delivers nothing, answers no API and
//! records nothing of its own: what it notices, home records. docs/relays.md.
//!
//! ```text
//! agents → ingest → ledger (this relay's copy) → forward → home
//!            ↑          ↑ released behind home's receipts      home → who is revoked, whose receipts are trusted
//! ```

mod enrollment;
mod forward;
mod home;
mod identity;
mod notices;
mod outbox;
mod owed;
mod progress;
mod reporter;
#[cfg(test)]
mod tests;
mod trust;

pub use enrollment::PassedOn;
pub use forward::{CONSUMER, ForwardError, Forwarder, ForwarderOptions, Standing};
pub use home::{Home, HomeError};
pub use identity::{Forked, RelayError, RelayJoin, RelayPapers, join, receipt_key_id};
pub use owed::{Owed, OwedError, owed};
pub use progress::{Progress, ProgressError};
pub use trust::RelayTrust;

fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
