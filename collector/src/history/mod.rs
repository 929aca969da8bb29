//! Recent events by attribute. Derived from the ledger, rebuildable.
