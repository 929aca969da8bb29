//! Policies in the JSON language of IAM: who may do what, decided without I/O, clock or randomness.
//!
//! [`Policy::parse`] reads a document and refuses whatever it does not understand, with its place: a member, an operator
//! or a value that was let pass unread would be a permission that nobody gave, or a refusal that nobody gets. [`decide`]
//! answers one [`Request`]: an explicit deny wins, without an allow nothing is allowed, and a session's policy allows
//! nothing that the principal's own policies do not. Time, address, names and tags are values of the [`Context`].
//!
//! A request must never be allowed because something is missing: a variable without a value matches nothing (it never
//! becomes an empty string), and a context beyond its bounds is allowed nothing.
//!
//! Source: "IAM JSON policy reference", AWS Identity and Access Management User Guide; deliberate differences stand where
//! they are made (`resource`, `document`, `condition`).

mod document;

mod place;

mod statement;

mod action;

mod resource;

mod condition;

mod operator;

mod value;

mod network;

mod template;

mod pattern;

mod request;

mod decide;

mod managed;

pub use decide::{Decision, Origin, StatementId, decide};
pub use document::Policy;
pub use managed::Managed;
pub use request::{Context, Request};

/// Longest policy, in characters that are not white space. Source: IAM quotas, a managed policy.
pub const CHARACTERS_MAX: usize = 6_144;
/// Longest text that is looked at, in bytes with white space: room for deep indentation of the longest policy.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// How deep a document may nest. Its deepest value lies six deep: policy, statements, statement, condition, operator, values.
pub const DEPTH_MAX: usize = 8;
/// Longest resource of a request, in bytes: an ARN of IAM's greatest length.
pub const RESOURCE_BYTES_MAX: usize = 2_048;
/// Longest action of a request, in bytes. Source: IAM, 128 characters.
pub const ACTION_BYTES_MAX: usize = 128;
/// Longest single value of a context, in bytes.
pub const VALUE_BYTES_MAX: usize = 2_048;
/// All keys and values of a context together, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 16 * 1024;
/// Most work for one decision over all policies, in compared characters: some 20 ms. The managed policies take below a
/// thousand; a session's policy and a context are its caller's to write, and without a bound they could take seconds.
pub const STEPS_MAX: usize = 10_000_000;

/// Why a document is not taken as a policy. The place is a path into the document: `Statement[2].Condition.StringLke`.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(
        "the policy has {0} characters without white space and {CHARACTERS_MAX} are allowed: divide it into several policies"
    )]
    TooLong(usize),
    #[error("the policy's text has {0} bytes and {TEXT_BYTES_MAX} are looked at: leave out white space")]
    TooManyBytes(usize),
    #[error("the policy is not JSON that can be read, at line {line}, column {column}: mend it there")]
    NotJson {
        line: usize,
        column: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("{place}: {problem}")]
    At { place: String, problem: String },
}

impl PolicyError {
    /// Where in the document it is; empty for the document as a whole.
    pub fn place(&self) -> &str {
        match self {
            Self::At { place, .. } => place,
            Self::TooLong(_) | Self::TooManyBytes(_) | Self::NotJson { .. } => "",
        }
    }
}
