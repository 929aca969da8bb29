//! The kernel's audit records: read from the multicast group beside a running auditd, or from audit.log.

/// The records of one audit event, joined by their serial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {}
