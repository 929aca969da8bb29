//! OTLP in JSON: the lists of a request, and the values of its records.
//!
//! Source: OTLP specification, JSON protobuf encoding: lowerCamelCase names, ids in hexadecimal, 64-bit integers as text or
//! number, bytes in base64, what is unknown ignored. `null` says the same as nothing at all.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::log::Log;
use super::request::{Encoding, RECORDS_MAX, RequestError};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export<'a> {
    #[serde(borrow)]
    resource_logs: Option<Vec<ResourceLogs<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    scope_logs: Option<Vec<ScopeLogs<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    #[serde(borrow)]
    scope: Option<&'a RawValue>,
    #[serde(borrow)]
    log_records: Option<Vec<&'a RawValue>>,
}

/// The records of a request.
pub(super) fn logs(body: &Bytes) -> Result<Vec<Log>, RequestError> {
    let export: Export<'_> = serde_json::from_slice(body).map_err(|error| RequestError::NotJson(error.to_string()))?;
    let part = |raw: Option<&RawValue>| raw.map(|raw| body.slice_ref(raw.get().as_bytes())).unwrap_or_default();
    let mut logs = Vec::new();
    for resource_logs in export.resource_logs.unwrap_or_default() {
        let resource = part(resource_logs.resource);
        for scope_logs in resource_logs.scope_logs.unwrap_or_default() {
            let scope = part(scope_logs.scope);
            for record in scope_logs.log_records.unwrap_or_default() {
                if logs.len() == RECORDS_MAX {
                    return Err(RequestError::TooMany);
                }
                let (resource, scope, record) = (resource.clone(), scope.clone(), part(Some(record)));
                logs.push(Log { encoding: Encoding::Json, resource, scope, record });
            }
        }
    }
    Ok(logs)
}

/// The object that a part of a request is; an empty one where there is nothing.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(if bytes.is_empty() { b"{}".as_slice() } else { bytes }) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("no object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// `[{"key": …, "value": {"stringValue": …}}, …]` as an object.
pub(super) fn attributes(list: Option<&Value>) -> Map<String, Value> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    collected(items.filter_map(|item| {
        let key = item.get("key")?.as_str()?.to_owned();
        Some((key, item.get("value").map(any).unwrap_or_default()))
    }))
}

/// As an object; all values of a key that is there more than once, which the specification forbids, are a list.
pub(super) fn collected(pairs: impl Iterator<Item = (String, Value)>) -> Map<String, Value> {
    let mut made = Map::new();
    let mut doubled = HashSet::new();
    for (key, value) in pairs {
        match made.get_mut(&key) {
            None => drop(made.insert(key, value)),
            Some(Value::Array(values)) if doubled.contains(&key) => values.push(value),
            Some(first) => {
                *first = Value::Array(vec![first.take(), value]);
                doubled.insert(key);
            }
        }
    }
    made
}

/// An AnyValue as the value that it holds; the last one where there are several.
pub(super) fn any(value: &Value) -> Value {
    let mut out = Value::Null;
    for (kind, held) in value.as_object().into_iter().flatten() {
        let read = match (kind.as_str(), held) {
            (_, Value::Null) => continue,
            ("stringValue", Value::String(_)) | ("boolValue", Value::Bool(_)) => held.clone(),
            // Not as bytes: the text says the same and can be read.
            ("bytesValue", Value::String(text)) => bytes(&STANDARD.decode(text).unwrap_or_else(|_| text.clone().into_bytes())),
            ("intValue", held) => integer(held),
            ("doubleValue", held) => double(held),
            ("arrayValue", held) => {
                Value::Array(held.get("values").and_then(Value::as_array).into_iter().flatten().map(any).collect())
            }
            ("kvlistValue", held) => Value::Object(attributes(held.get("values"))),
            _ => continue,
        };
        out = read;
    }
    out
}

/// 64-bit integers come as text or as numbers.
pub(super) fn integer(value: &Value) -> Value {
    match value {
        Value::String(text) => text.parse::<i64>().map_or_else(|_| value.clone(), Value::from),
        other => other.clone(),
    }
}

/// A number, or the names of those that JSON does not have: `NaN`, `Infinity`, `-Infinity`.
pub(super) fn double(value: &Value) -> Value {
    match value {
        Value::String(text) => text.parse::<f64>().ok().and_then(Number::from_f64).map_or_else(|| value.clone(), Value::Number),
        other => other.clone(),
    }
}

/// Bytes in base64, as OTLP's JSON has them.
pub(super) fn bytes(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

/// Of a field that is a number or its text.
pub(super) fn unsigned(value: Option<&Value>) -> u64 {
    match value {
        Some(Value::Number(number)) => number.as_u64().unwrap_or_default(),
        Some(Value::String(text)) => text.parse().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_read_in_every_way_in_which_clients_write_them() {
        for (written, read) in [
            (json!({"stringValue": "s"}), json!("s")),
            (json!({"boolValue": false}), json!(false)),
            (json!({"intValue": "9007199254740993"}), json!(9_007_199_254_740_993i64)),
            (json!({"intValue": -7}), json!(-7)),
            (json!({"doubleValue": 637.704}), json!(637.704)),
            (json!({"doubleValue": "NaN"}), json!("NaN")),
            (json!({"doubleValue": "1.5"}), json!(1.5)),
            (json!({"bytesValue": "AAE="}), json!("AAE=")),
            (json!({"arrayValue": {"values": [{"stringValue": "a"}, {}]}}), json!(["a", null])),
            (json!({"arrayValue": {}}), json!([])),
            (
                json!({"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "1"}}, {"key": "e"}]}}),
                json!({"k": 1, "e": null}),
            ),
            (json!({"kvlistValue": {}}), json!({})),
            (json!({}), Value::Null),
            (json!({"stringValue": null}), Value::Null),
            (json!({"futureValue": 1}), Value::Null),
        ] {
            assert_eq!(any(&written), read, "{written}");
        }
    }

    #[test]
    fn absent_null_and_empty_lists_are_all_no_records() {
        for body in [
            "{}",
            r#"{"resourceLogs":null}"#,
            r#"{"resourceLogs":[{"resource":null,"scopeLogs":[{"scope":{},"logRecords":null}]}],"x":1}"#,
        ] {
            assert_eq!(logs(&Bytes::from_static(body.as_bytes())).unwrap(), [], "{body}");
        }
        assert!(logs(&Bytes::from_static(b"[]")).is_err() && logs(&Bytes::new()).is_err());
    }
}
