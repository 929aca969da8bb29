//! The kernel's audit records: read from the multicast group beside a running auditd, in its place, as its plugin, or
//! from audit.log.

pub mod accounts;

pub mod assembler;

pub mod cursor;

pub mod fields;

pub mod kernel;

pub mod kinds;

pub mod log;

pub mod message;

mod own;

pub mod plugin;

pub mod receiver;

pub mod record;

pub mod rules;

pub mod serials;

pub mod socket;

pub mod status;

pub mod syscall;

pub use assembler::{Assembler, Event, Origin};
pub use record::{RawRecord, RecordType, Stamp, Stamped};
