//! Which operations a statement names: `cloudtrail:Get*`. Letters' case does not matter, `*` and `?` are wildcards.
//!
//! Source: IAM User Guide, "IAM JSON policy elements: Action" and "NotAction". A wildcard in the service's name is
//! refused as there, but for `*` alone; variables are not read in actions.

use crate::pattern::{self, Token};
use crate::request::Known;

/// A compiled action, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActionPattern(Box<[Token]>);

impl ActionPattern {
    /// The error says what is wrong and the way out.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text != "*" && text != "*:*" {
            let Some((service, name)) = text.split_once(':') else {
                return Err("has no service before it: write `service:Action`, such as `cloudtrail:GetTrail`, or `*`".into());
            };
            if service.is_empty() || !service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(
                    "names no service before its colon: write it out, without wildcards, such as `cloudtrail:Get*`".into()
                );
            }
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*?".contains(&byte)) {
                return Err(
                    "names no action behind its colon: use letters, digits, `*` and `?`, such as `cloudtrail:Get*`".into()
                );
            }
        }
        Ok(Self(text.to_ascii_lowercase().chars().map(Token::of).collect()))
    }

    /// Whether it names an action that is in lower case already.
    pub(crate) fn matches(&self, lower_action: &str, known: &Known<'_>) -> bool {
        pattern::matches(&self.0, lower_action, &known.steps_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Context;

    fn matches(pattern: &str, action: &str) -> bool {
        ActionPattern::parse(pattern).unwrap().matches(action, &Known::new(&Context::default()))
    }

    #[test]
    fn an_action_has_no_case() {
        for pattern in ["cloudtrail:GetTrail", "CLOUDTRAIL:get*", "cloudtrail:?etTrail", "cloudtrail:*", "*", "*:*"] {
            assert!(matches(pattern, "cloudtrail:gettrail"), "{pattern}");
        }
        assert!(!matches("cloudtrail:GetTrail", "cloudtrail:gettrailstatus"));
        assert!(!matches("s3:*", "cloudtrail:gettrail"));
    }

    #[test]
    fn what_is_no_action_is_refused() {
        for text in [
            "",
            "GetTrail",
            "cloud*:GetTrail",
            ":GetTrail",
            "cloudtrail:",
            "cloudtrail:Get Trail",
            "cloudtrail:${aws:username}",
            "**",
            "a:b:c",
        ] {
            assert!(ActionPattern::parse(text).is_err(), "{text}");
        }
    }
}
