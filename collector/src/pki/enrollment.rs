//! The Enrollment service: a token becomes a certificate, a certificate its successor.
