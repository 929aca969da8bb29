//! Judges what agents send: identity, chain, seals; commits through the ledger, answers with receipts.
