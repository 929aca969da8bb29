//! Reading an operation's input: JSON members, times, trail names and ARNs.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::fault::Fault;

/// Longest and shortest trail name. Source: CloudTrail's naming rules.
const NAME_CHARACTERS: std::ops::RangeInclusive<usize> = 3..=128;

/// Deepest nesting of an input, in levels: the model's deepest has 5. What is recorded of a call must itself be a record.
const DEPTH_MAX: usize = 16;

/// How a caller names a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TrailName {
    Name(String),
    Arn(String),
}

/// The body as an object; an empty body is an empty one.
pub(super) fn parse(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(value) if depth(&value) > DEPTH_MAX => {
            Err(Fault::client("SerializationException", format!("the body nests deeper than {DEPTH_MAX} levels")))
        }
        Ok(Value::Object(mut members)) => {
            members.retain(|_, value| !value.is_null());
            Ok(members)
        }
        Ok(_) => Err(Fault::client("SerializationException", "the body is not a JSON object")),
        Err(error) => Err(Fault::client("SerializationException", format!("the body is not JSON: {error}"))),
    }
}

/// The parser has bounded it before.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Members of the wrong type are refused, unknown ones passed over, as CloudTrail does.
pub(super) fn read<T: DeserializeOwned>(input: Value) -> Result<T, Fault> {
    serde_json::from_value(input)
        .map_err(|error| Fault::client("SerializationException", format!("the input is not valid: {error}")))
}

pub(super) fn required<T>(value: Option<T>, member: &str) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::client("ValidationException", format!("the member `{member}` must be given")))
}

/// JSON 1.1 sends times as epoch seconds, fractions allowed. Whole seconds, rounded up for a beginning.
pub(super) fn seconds_up(time: f64) -> u64 {
    seconds(time.ceil())
}

/// Rounded down, for an end.
pub(super) fn seconds_down(time: f64) -> u64 {
    seconds(time.floor())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate: before 1970 is 0")]
fn seconds(time: f64) -> u64 {
    time as u64
}

impl TrailName {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        if text.starts_with("arn:") {
            let parts: Vec<&str> = text.splitn(6, ':').collect();
            let ["arn", _, "cloudtrail", region, account, resource] = parts[..] else { return Err(bad_arn(text)) };
            let name = resource.strip_prefix("trail/").ok_or_else(|| bad_arn(text))?;
            let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
            if region.is_empty() || !digits || check_name(name).is_err() {
                return Err(bad_arn(text));
            }
            Ok(Self::Arn(text.to_owned()))
        } else {
            check_name(text)?;
            Ok(Self::Name(text.to_owned()))
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Name(text) | Self::Arn(text) => text,
        }
    }
}

fn bad_arn(text: &str) -> Fault {
    let shown: String = text.chars().take(200).collect();
    Fault::client(
        "CloudTrailARNInvalidException",
        format!("`{shown}` is not of the form arn:PARTITION:cloudtrail:REGION:ACCOUNT:trail/NAME"),
    )
}

fn check_name(name: &str) -> Result<(), Fault> {
    let invalid = |why: String| Err(Fault::client("InvalidTrailNameException", why));
    let length = name.chars().count();
    if !NAME_CHARACTERS.contains(&length) {
        return invalid(format!("a trail name has 3 to 128 characters; this one has {length}"));
    }
    let separator = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || separator(byte)) {
        return invalid("a trail name or ARN holds letters, numbers, periods, hyphens and underscores only".to_owned());
    }
    if name.starts_with(['.', '_', '-']) || name.ends_with(['.', '_', '-']) {
        return invalid("a trail name starts and ends with a letter or number".to_owned());
    }
    if name.as_bytes().windows(2).any(|pair| pair.iter().all(|byte| separator(*byte))) {
        return invalid("a trail name has no two periods, hyphens or underscores in a row".to_owned());
    }
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return invalid("a trail name is not an IP address".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_cloudtrails_rules() {
        for good in ["default", "a.b_c-d", "abc", "my-trail", &"a".repeat(128)] {
            assert_eq!(TrailName::parse(good), Ok(TrailName::Name(good.to_owned())));
        }
        for bad in ["", "ab", "-abc", "abc-", "a b c", "a..b", "a-_b", "192.168.5.4", "trail/é", &"a".repeat(129)] {
            assert_eq!(TrailName::parse(bad).unwrap_err().code, "InvalidTrailNameException", "{bad}");
        }
    }

    #[test]
    fn arns_are_taken_whole_or_refused() {
        let good = "arn:aws:cloudtrail:dc-local-1:111122223333:trail/default";
        assert_eq!(TrailName::parse(good), Ok(TrailName::Arn(good.to_owned())));
        for bad in [
            "arn:aws:s3:::bucket",
            "arn:aws:cloudtrail:dc-local-1:1:trail/default",
            "arn:aws:cloudtrail:dc-local-1:111122223333:default",
            "arn:aws:cloudtrail::111122223333:trail/default",
            "arn:",
        ] {
            assert_eq!(TrailName::parse(bad).unwrap_err().code, "CloudTrailARNInvalidException", "{bad}");
        }
    }

    #[test]
    fn a_body_is_a_flat_enough_object() {
        let nested = |levels: usize| format!("{}{}", r#"{"a":"#.repeat(levels - 1) + "{}", "}".repeat(levels - 1));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        for bad in [nested(DEPTH_MAX + 1), nested(100_000), "7".to_owned(), "\u{0}".to_owned()] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().code, "SerializationException");
        }
        assert_eq!(parse(b"").unwrap(), parse(br#"{"a":null}"#).unwrap());
    }

    #[test]
    fn times_are_rounded_inwards_and_never_overflow() {
        assert_eq!((seconds_up(1.2), seconds_down(1.8)), (2, 1));
        assert_eq!((seconds_up(-5.0), seconds_down(f64::NAN), seconds_down(f64::MAX)), (0, 0, u64::MAX));
    }
}
