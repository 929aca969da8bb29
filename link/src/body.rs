//! A batch's records on the wire and in the ledger: each behind its length, then compressed as a whole.
