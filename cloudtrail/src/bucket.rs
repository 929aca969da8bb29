//! Bucket names, by S3's rules for general purpose buckets.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::refusal::{Refusal, shown};

/// Source: S3 user guide, "General purpose bucket naming rules": lengths in characters, what only S3 itself may use.
const CHARACTERS_MIN: usize = 3;
const CHARACTERS_MAX: usize = 63;
const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// 3 to 63 lower-case letters, digits, dots and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

impl BucketName {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        match broken_rule(text) {
            None => Ok(Self(text.to_owned())),
            Some(_) if text.is_empty() => Err(Refusal::new("InvalidS3BucketNameException", "Bucket name cannot be blank!")),
            Some(rule) => {
                let message = format!("`{}` is not the name of a bucket: it must {rule}", shown(text));
                Err(Refusal::new("InvalidS3BucketNameException", message))
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the name must do and does not.
fn broken_rule(text: &str) -> Option<&'static str> {
    let characters = text.chars().count();
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !(CHARACTERS_MIN..=CHARACTERS_MAX).contains(&characters) {
        Some("have 3 to 63 characters")
    } else if !text.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '-')) {
        Some("hold only lower-case letters, numbers, dots and hyphens")
    } else if !text.starts_with(alphanumeric) || !text.ends_with(alphanumeric) {
        Some("begin and end with a letter or number")
    } else if text.contains("..") {
        Some("have no two dots in a row")
    } else if text.parse::<Ipv4Addr>().is_ok() {
        Some("not be an IP address")
    } else if RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        Some("not begin with what S3 keeps for itself: xn--, sthree-, amzn-s3-demo-")
    } else if RESERVED_SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) {
        Some("not end with what S3 keeps for itself: -s3alias, --ol-s3, .mrap, --x-s3, --table-s3")
    } else {
        None
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for BucketName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|refusal| refusal.message)
    }
}

impl From<BucketName> for String {
    fn from(bucket: BucketName) -> Self {
        bucket.0
    }
}
