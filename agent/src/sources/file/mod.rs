//! JSON lines from files, followed across rotation.
//!
//! A line is read once and whole: a partial last line waits for its end. Renaming, truncation and replacement are
//! noticed; what they took away before it could be read is reported as a loss.

use bytes::Bytes;
use serde::Deserialize;

/// One section `[[sources.file]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Files to follow; `*`, `?` and `[…]` match within one path component.
    pub paths: Vec<String>,
    #[serde(default)]
    pub format: Format,
    /// Where to begin in a file that was there before the agent first saw it.
    #[serde(default)]
    pub start: Start,
}

/// What a line holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An event in the shape of `POST /v1/events`.
    #[default]
    Events,
    /// A record in CloudTrail's own format, or `{"Records":[…]}`; kept byte for byte.
    CloudTrail,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    Beginning,
    #[default]
    End,
}

/// One line of a followed file, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub bytes: Bytes,
    pub format: Format,
    /// The configured path's match that the line was written to.
    pub path: std::sync::Arc<str>,
}
