//! The beginning of a body as members by name, so that redaction knows the secret ones.
//!
//! What can't be read by name is never kept as text: its size is told instead.

use serde_json::{Map, Value};

use crate::normalize::http::query_of;
use crate::sources::event::check_depth;
use crate::sources::proxy::exchange::Copied;
use crate::sources::proxy::{is_form, is_json};

/// A body that nests deeper is not kept: a record may have 64 levels, of which this is one member's.
const DEPTH_MAX: usize = 48;

/// Adds what is known of a body: `body` where it can be read, its size, and whether that is only its beginning.
pub(super) fn tell(members: &mut Map<String, Value>, copied: &Copied, kind: Option<&str>, is_kept: bool) {
    let Copied { bytes, passed, is_whole, declared } = copied;
    let has_all = *is_whole && bytes.len() as u64 == *passed;
    let value = kind.filter(|_| is_kept && !bytes.is_empty()).and_then(|kind| value(bytes, kind, has_all));
    let size = declared.unwrap_or(*passed).max(*passed);
    if size == 0 {
        return;
    }
    members.insert("bodyBytes".to_owned(), size.into());
    if !is_whole && declared.is_none_or(|declared| declared > *passed) {
        // Passed on until the end was known; the rest came later, or never.
        members.insert("bodyBytesPassed".to_owned(), (*passed).into());
    }
    if let Some(value) = value {
        members.insert("body".to_owned(), value);
        if !has_all {
            members.insert("bodyTruncated".to_owned(), true.into());
        }
    }
}

fn value(bytes: &[u8], kind: &str, has_all: bool) -> Option<Value> {
    if is_json(kind) {
        return if has_all { json(std::str::from_utf8(bytes).ok()?) } else { json(&closed(bytes)?) };
    }
    if is_form(kind) {
        let text = String::from_utf8_lossy(bytes);
        // A last pair that is cut may be half a name: redaction would not know it.
        let whole = if has_all { &text } else { text.rsplit_once('&').map_or("", |(whole, _)| whole) };
        return (!whole.is_empty()).then(|| query_of(whole));
    }
    None
}

fn json(text: &str) -> Option<Value> {
    check_depth(text, DEPTH_MAX).ok()?;
    serde_json::from_str(text).ok()
}

/// The beginning of a JSON text as a whole one: cut behind its last complete member or element, and closed.
fn closed(bytes: &[u8]) -> Option<String> {
    let mut open = Vec::new();
    let (mut in_string, mut is_escaped) = (false, false);
    let mut cut = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' => drop(open.pop().filter(|close| close == byte)?),
            _ => {}
        }
        match byte {
            b'{' | b'[' | b'}' | b']' => cut = at + 1,
            b',' => cut = at,
            _ => {}
        }
        if open.len() > DEPTH_MAX {
            return None;
        }
    }
    let mut text = String::from_utf8_lossy(bytes.get(..cut)?).into_owned();
    text.extend(open.iter().rev().map(|close| char::from(*close)));
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn copied(text: &str, passed: u64, is_whole: bool) -> Copied {
        Copied { bytes: text.as_bytes().to_vec(), passed, is_whole, declared: Some(passed) }
    }

    fn told(copied: &Copied, kind: &str) -> Value {
        let mut members = Map::new();
        tell(&mut members, copied, Some(kind), true);
        Value::Object(members)
    }

    #[test]
    fn a_body_is_kept_by_name_and_its_beginning_is_said_to_be_one() {
        let text = r#"{"order":{"id":7,"items":["a","b"]},"password":"hunter2"}"#;
        assert_eq!(told(&copied(text, 57, true), "application/json; charset=utf-8")["body"]["order"]["id"], 7);
        let cut = told(&copied(&text[..50], 900, true), "application/json");
        assert_eq!(cut, json!({"body": {"order": {"id": 7, "items": ["a", "b"]}}, "bodyBytes": 900, "bodyTruncated": true}));
        let form = told(&copied("a=1&pass", 100, true), "application/x-www-form-urlencoded");
        assert_eq!(form, json!({"body": {"a": "1"}, "bodyBytes": 100, "bodyTruncated": true}));
    }

    #[test]
    fn what_has_no_names_leaves_its_size_alone() {
        for (text, kind) in [("secret", "text/plain"), ("{broken", "application/json"), ("\u{1}", "application/octet-stream")] {
            let length = text.len() as u64;
            assert_eq!(told(&copied(text, length, true), kind), json!({"bodyBytes": length}), "{kind}");
        }
        let deep = "[".repeat(60) + &"]".repeat(60);
        assert_eq!(told(&copied(&deep, 120, true), "application/json"), json!({"bodyBytes": 120}));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_beginning_of_any_json_is_json_and_says_nothing_that_the_whole_does_not(value in value(), part in 0.0f64..1.0) {
            let text = value.to_string();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
            let end = (text.len() as f64 * part) as usize;
            if let Some(closed) = closed(&text.as_bytes()[..end]) {
                let part: Value = serde_json::from_str(&closed).unwrap();
                prop_assert!(is_part(&part, &value), "{closed} of {text}");
            }
        }

        #[test]
        fn any_bytes_are_read_or_left_out(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _either = closed(&bytes);
        }
    }

    fn is_part(part: &Value, whole: &Value) -> bool {
        match (part, whole) {
            (Value::Array(part), Value::Array(whole)) => {
                part.len() <= whole.len() && part.iter().zip(whole).all(|(part, whole)| is_part(part, whole))
            }
            (Value::Object(part), Value::Object(whole)) => {
                part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| is_part(part, whole)))
            }
            _ => part == whole,
        }
    }
}
