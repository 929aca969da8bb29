//! Joins a collector with a token and renews the certificate.
