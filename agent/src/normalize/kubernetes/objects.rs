//! Objects of requests and responses on their way into a record: bounded, and without what a Secret keeps.

use edgetrail_proto::limits::JSON_DEPTH_MAX;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::sources::event::check_depth;
use crate::sources::kubernetes::ObjectRef;

/// Larger objects are replaced by size and hash, in bytes: two of them and the rest stay below requestParameters' limit.
pub(super) const OBJECT_BYTES_MAX: usize = 48 * 1024;

/// Deeper ones too, in levels: a record's own members stand above them.
const OBJECT_DEPTH_MAX: usize = JSON_DEPTH_MAX - 4;

/// In place of a secret. Source: CloudTrail's own text.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// kubectl's copy of the whole object. Source: kubernetes.io, well-known annotations.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Deeper than any object that is read.
const WALK_DEPTH_MAX: usize = JSON_DEPTH_MAX;

/// The value of an object's text, at most `bytes_max` large; `None` of `null`.
pub(super) fn bounded(raw: &RawValue, bytes_max: usize) -> Option<Value> {
    let text = raw.get();
    if text == "null" {
        return None;
    }
    if text.len() > bytes_max || check_depth(text, OBJECT_DEPTH_MAX).is_err() {
        return Some(omitted(text));
    }
    serde_json::from_str(text).ok().or_else(|| Some(omitted(text)))
}

/// The same of a request's or response's object, masked where it may hold a Secret.
pub(super) fn object(raw: &RawValue, of: Option<&ObjectRef>) -> Option<Value> {
    let mut value = bounded(raw, OBJECT_BYTES_MAX)?;
    mask(&mut value, of.is_some_and(is_secret), 0);
    Some(value)
}

/// Whether a request is about Secrets.
pub(super) fn is_secret(object: &ObjectRef) -> bool {
    object.resource == "secrets" && object.api_group.is_empty()
}

fn omitted(text: &str) -> Value {
    let mut marker = Map::new();
    marker.insert("omitted".to_owned(), true.into());
    marker.insert("edgetrailBytes".to_owned(), text.len().into());
    marker.insert("edgetrailSha256".to_owned(), hex::encode(Sha256::digest(text)).into());
    Value::Object(marker)
}

/// `is_secret`: the value is a Secret, a part of one (a patch), or a list of them.
fn mask(value: &mut Value, is_secret: bool, depth: usize) {
    if depth > WALK_DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(members) => {
            let is_secret = is_secret || matches!(members.get("kind").and_then(Value::as_str), Some("Secret" | "SecretList"));
            for (name, member) in members {
                match name.as_str() {
                    "data" | "stringData" | "value" | LAST_APPLIED if is_secret => hide(member, depth + 1),
                    _ => mask(member, is_secret, depth + 1),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| mask(element, is_secret, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn hide(value: &mut Value, depth: usize) {
    match value {
        Value::Object(members) if depth <= WALK_DEPTH_MAX => members.values_mut().for_each(|member| hide(member, depth + 1)),
        Value::Array(elements) if depth <= WALK_DEPTH_MAX => elements.iter_mut().for_each(|element| hide(element, depth + 1)),
        Value::Null => {}
        other => *other = Value::from(HIDDEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_secret_shows_its_keys_and_not_its_values_whatever_its_shape() {
        let of = ObjectRef { resource: "secrets".to_owned(), ..ObjectRef::default() };
        for text in [
            r#"{"kind":"Secret","metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hunter2"}},"data":{"k":"hunter2"},"stringData":{"k":"hunter2"}}"#,
            r#"{"kind":"SecretList","items":[{"data":{"k":"hunter2"}}]}"#,
            r#"{"data":{"k":"hunter2"}}"#,
            r#"[{"op":"add","path":"/data/k","value":"hunter2"}]"#,
            r#"[{"op":"add","path":"/data","value":{"k":["hunter2",{"x":"hunter2"}]}}]"#,
        ] {
            let masked = object(&raw(text), Some(&of)).unwrap().to_string();
            assert!(!masked.contains("hunter2") && masked.contains(HIDDEN), "{masked}");
        }
        // Elsewhere than at secrets only what says that it is a Secret.
        let list = r#"{"kind":"List","items":[{"kind":"Secret","data":{"k":"hunter2"}},{"kind":"ConfigMap","data":{"k":"v"}}]}"#;
        let masked = object(&raw(list), None).unwrap();
        assert_eq!(
            (masked["items"][0]["data"]["k"].as_str(), masked["items"][1]["data"]["k"].as_str()),
            (Some(HIDDEN), Some("v"))
        );
    }

    #[test]
    fn what_is_too_large_or_too_deep_leaves_size_and_hash() {
        let large = format!(r#"{{"x":"{}"}}"#, "y".repeat(OBJECT_BYTES_MAX));
        let deep = format!("{}1{}", "[".repeat(OBJECT_DEPTH_MAX + 1), "]".repeat(OBJECT_DEPTH_MAX + 1));
        for text in [&large, &deep] {
            assert_eq!(object(&raw(text), None).unwrap()["edgetrailBytes"], text.len());
        }
        assert_eq!(object(&raw("null"), None), None);
    }
}
