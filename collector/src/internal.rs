//! The internal stream: the collector's own actions, in the ledger through the same chain writer.
