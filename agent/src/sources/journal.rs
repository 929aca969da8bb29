//! systemd's journal.

/// One journal entry: the fields that normalize reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {}
