//! Sends sealed batches to a collector and stores its receipts.
