//! Posted events and lines of files as records.
