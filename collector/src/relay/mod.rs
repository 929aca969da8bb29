//! A relay: a collector on the way to home, for a region that is cut off now and then.
//!
//! It takes what agents send as home does, and its receipt is final for them. It keeps every batch until it has home's
//! receipt for it, and brings it on whole and unaltered, with all that proves it. It delivers nothing, answers no API and
//! records nothing of its own. docs/relays.md.
//!
//! ```text
//! agents → ingest → ledger (this relay's copy) → forward → home
//!            ↑          ↑ released behind home's receipts      home → who is revoked, whose receipts are trusted
//! ```

mod enrollment;
mod forward;
mod home;
mod identity;
mod outbox;
mod progress;
mod trust;

pub use enrollment::PassedOn;
pub use forward::{CONSUMER, ForwardError, Forwarder, ForwarderOptions, Standing};
pub use home::{Home, HomeError};
pub use identity::{RelayError, RelayJoin, RelayPapers, join, receipt_key_id};
pub use progress::{Progress, ProgressError};
pub use trust::RelayTrust;
