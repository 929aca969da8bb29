//! The generated messages and services of `proto/wire/edgetrail/v1/link.proto`. They never leave the wire modules.

#![allow(missing_debug_implementations, unreachable_pub, unused_qualifications, unused_lifetimes, clippy::all)]

tonic::include_proto!("edgetrail.v1");
