//! Verification of AWS Signature Version 4, for header-signed requests and presigned S3 URLs.
//!
//! Pure: the request's head, its body, the secret and `now` are arguments. A [`Claim`] is what the head says of itself
//! and proves nothing; only [`Claim::verify`] does. The claim is parsed before any body is read, so that a request
//! without a known key costs nothing. Every `x-amz-*` header must be signed: `X-Amz-Target` names the operation, and an
//! unsigned one could be exchanged on the way. Signatures are compared in constant time.
//!
//! Source: "Signature Version 4 signing process", AWS General Reference.

mod canonical;

mod claim;

pub mod percent;

mod signature;

#[cfg(test)]
mod tests;

pub use claim::{Claim, Payload, Presented, Scope, service_of};

/// How long after it was signed a request is taken, in seconds. Source: AWS, 15 minutes.
pub const PAST_SECONDS_MAX: u64 = 15 * 60;
/// How far ahead of this clock a request may be signed, in seconds: AWS takes clocks 5 minutes ahead.
pub const FUTURE_SECONDS_MAX: u64 = 5 * 60;
/// Longest life of a presigned URL, in seconds. Source: S3, seven days.
pub const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Why a request is not taken for what it claims. The text is for the caller; it never says what would have matched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigV4Error {
    #[error("the request carries no authentication: sign it with an access key (SigV4)")]
    Missing,
    #[error("the authorization is incomplete or malformed: {0}")]
    Malformed(String),
    #[error("the credential scope is not valid: {0}")]
    Scope(String),
    #[error("the header `{0}` must be among the signed headers")]
    UnsignedHeader(String),
    #[error("signature expired: the request was signed more than {PAST_SECONDS_MAX} s ago; check the clock")]
    Expired,
    #[error("signature not yet current: the request is signed more than {FUTURE_SECONDS_MAX} s ahead; check the clock")]
    NotYetCurrent,
    #[error("the presigned URL has expired")]
    PresignedExpired,
    #[error("the access key id is not known here")]
    UnknownKey,
    #[error("the security token is not valid: access keys here have no session token; unset AWS_SESSION_TOKEN")]
    SessionToken,
    #[error("the body does not match the signed payload hash")]
    PayloadMismatch,
    #[error("chunk-signed payloads (aws-chunked) are not supported: send the body in one piece")]
    StreamingPayload,
    #[error("an unsigned payload is not accepted: sign the body")]
    UnsignedPayload,
    #[error("the signature does not match: check the secret access key and the signing method")]
    Mismatch,
}
