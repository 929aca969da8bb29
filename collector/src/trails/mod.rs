//! Plans log files and digests from the ledger and delivers each exactly once.
