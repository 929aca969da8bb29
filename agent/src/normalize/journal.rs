//! Journal entries as records.
