//! One act, one record: a lower source waits for a higher one that makes the same record.
