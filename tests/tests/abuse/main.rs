//! The fifteen abuse tests: an attacker with real client code, real TLS and, where it has one, a real certificate.
//!
//! Each asserts the refusal that is promised, that no process grows by more than 32 MiB, that another agent works on
//! during the attack and after it, and that nothing is written outside the directories. `EDGETRAIL_SOAK=1h` repeats the
//! attacks for that time together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "an attacker owns no tasks worth awaiting")]

mod abused;
mod bombs;
mod certificates;
mod floods;
mod hands;
mod host;
mod identities;
mod injection;
mod old_tls;
mod rogue;
mod servers;
mod tokens;
