//! Mutual TLS, and who the peer is.
