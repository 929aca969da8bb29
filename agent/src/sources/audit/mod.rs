//! The kernel's audit records: read from the multicast group beside a running auditd, or from audit.log.

pub mod assembler;

pub mod fields;

pub mod kinds;

pub mod record;

pub mod serials;

pub use assembler::{Assembler, Event, Origin};
pub use record::{RawRecord, RecordType, Stamp, Stamped};
