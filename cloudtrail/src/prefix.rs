//! The key prefix of a trail's objects.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::refusal::{Refusal, shown};

/// Source: CreateTrail, `S3KeyPrefix`: "The maximum length is 200 characters".
const CHARACTERS_MAX: usize = 200;

/// 1 to 200 characters in components between single slashes, none at either end. It is a path in a directory, too, so no
/// component is `.` or `..`; `AWSLogs` is where readers take a prefix to end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(String);

impl Prefix {
    /// An empty text is no prefix.
    pub fn parse(text: &str) -> Result<Option<Self>, Refusal> {
        if text.is_empty() {
            return Ok(None);
        }
        match broken_rule(text) {
            None => Ok(Some(Self(text.to_owned()))),
            Some(rule) => {
                let message = format!("`{}` is not a key prefix: it must {rule}", shown(text));
                Err(Refusal::new("InvalidS3PrefixException", message))
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the prefix must do and does not.
fn broken_rule(text: &str) -> Option<&'static str> {
    if text.chars().count() > CHARACTERS_MAX {
        Some("have at most 200 characters")
    } else if text.starts_with('/') || text.ends_with('/') {
        Some("neither begin nor end with a slash")
    } else if text.chars().any(char::is_control) {
        Some("hold no control characters")
    } else if text.split('/').any(|component| matches!(component, "" | "." | "..")) {
        Some("have no empty component and none that is `.` or `..`")
    } else if text.split('/').any(|component| component == "AWSLogs") {
        Some("have no component `AWSLogs`, which is put behind it")
    } else {
        None
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match Self::parse(&text) {
            Ok(Some(prefix)) => Ok(prefix),
            Ok(None) => Err("a key prefix is not empty".to_owned()),
            Err(refusal) => Err(refusal.message),
        }
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}
