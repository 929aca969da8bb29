//! Trail names, by CloudTrail's rules and in its words.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::refusal::{Refusal, shown};

/// Shortest and longest name, in characters. Source: CloudTrail's naming rules (CreateTrail, `Name`).
const CHARACTERS_MIN: usize = 3;
const CHARACTERS_MAX: usize = 128;

/// 3 to 128 ASCII letters, digits and `.`, `_`, `-`; a letter or digit at both ends, no two of the others in a row, no
/// IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrailName(String);

impl TrailName {
    /// The checks stand in CloudTrail's order: the first that fails is told.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let separator = |c: char| matches!(c, '.' | '_' | '-');
        let refused = |why: String| Err(Refusal::new("InvalidTrailNameException", why));
        let characters = text.chars().count();
        if characters == 0 {
            return refused("Trail name cannot be blank!".to_owned());
        }
        if characters < CHARACTERS_MIN {
            return refused(format!(
                "Trail name too short. Minimum allowed length: {CHARACTERS_MIN} characters. Specified name length: {characters} characters."
            ));
        }
        if characters > CHARACTERS_MAX {
            return refused(format!(
                "Trail name too long. Maximum allowed length: {CHARACTERS_MAX} characters. Specified name length: {characters} characters."
            ));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return refused("Trail name must starts with a letter or number.".to_owned());
        }
        if !text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            return refused("Trail name must ends with a letter or number.".to_owned());
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || separator(c)) {
            return refused(
                "Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, periods (.), hyphens (-), and underscores (_)."
                    .to_owned(),
            );
        }
        if text.chars().zip(text.chars().skip(1)).any(|(a, b)| separator(a) && separator(b)) {
            return refused(format!("Trail name can't have adjacent periods, hyphens or underscores: {}", shown(text)));
        }
        if text.parse::<Ipv4Addr>().is_ok() {
            return refused(format!("Trail name can't be an IP address: {}", shown(text)));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TrailName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|refusal| refusal.message)
    }
}

impl From<TrailName> for String {
    fn from(name: TrailName) -> Self {
        name.0
    }
}
