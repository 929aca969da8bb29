//! The sending end of the wire: connect, resume, keep a window of batches in flight, store receipts.
