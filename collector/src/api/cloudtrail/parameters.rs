//! Reading an operation's input: JSON members and times.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::fault::Fault;

/// Deepest nesting of an input, in levels: the model's deepest has 5. What is recorded of a call must itself be a record.
const DEPTH_MAX: usize = 16;

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

#[cfg(test)]
mod tests {
    use super::*;

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
