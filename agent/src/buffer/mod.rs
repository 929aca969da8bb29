//! The agent's durable store: commits, chain, key file.
