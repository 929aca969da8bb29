//! The authority, enrolment over gRPC, and files that are replaced on disk.

mod authority;
mod enrollment;
mod relays;
mod replaced;
