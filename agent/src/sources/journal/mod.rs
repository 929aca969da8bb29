//! systemd's journal.
//!
//! Entries of the programs that administer the host are read from the journal's files, from a cursor on. A journal
//! that rotates or vanishes is survived; a cursor that is gone is reported as a loss.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The section `[sources.journal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Where the journal's files lie.
    pub directories: Vec<std::path::PathBuf>,
}

/// One journal entry: its time and the fields that normalize reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `__REALTIME_TIMESTAMP`, microseconds.
    pub realtime_us: u64,
    /// The first value of each field.
    pub fields: BTreeMap<String, Vec<u8>>,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, directories: vec!["/var/log/journal".into(), "/run/log/journal".into()] }
    }
}
