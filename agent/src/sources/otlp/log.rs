//! One log record with its resource and scope: as it came, and as what it says.

use bytes::Bytes;
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json;
use super::message::{Any, AnyValue, KeyValue, LogRecord, Resource, Scope, Times};
use super::request::Encoding;

/// A record as it was sent: parts of its request's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub encoding: Encoding,
    /// Empty where the request has none, as `scope`.
    pub resource: Bytes,
    pub scope: Bytes,
    pub record: Bytes,
}

/// What a record says, whichever way it was written. Texts are empty and numbers 0 where it does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub resource: Map<String, Value>,
    pub scope_name: String,
    pub scope_version: String,
    pub scope_attributes: Map<String, Value>,
    /// Unix nanoseconds: when it happened, and when it was seen.
    pub time: u64,
    pub observed_time: u64,
    pub event_name: String,
    pub severity_number: i64,
    pub severity_text: String,
    pub body: Value,
    pub attributes: Map<String, Value>,
    /// Attributes that its maker left out.
    pub dropped_attributes: u64,
    /// Lower-case hexadecimal.
    pub trace_id: String,
    pub span_id: String,
    /// The lowest byte are W3C's trace flags.
    pub flags: u64,
}

/// Of a record in JSON nothing but its times.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonTimes {
    time_unix_nano: Option<Value>,
    observed_time_unix_nano: Option<Value>,
}

impl Log {
    /// Reads it; says what is wrong where it can't be.
    pub fn entry(&self) -> Result<Entry, String> {
        match self.encoding {
            Encoding::Protobuf => self.of_protobuf().map_err(|error| format!("no log record in protobuf: {error}")),
            Encoding::Json => self.of_json().map_err(|error| format!("no log record in JSON: {error}")),
        }
    }

    /// Whether it says when it happened or was seen; true of one that can't be read.
    pub(super) fn tells_time(&self) -> bool {
        match self.encoding {
            Encoding::Protobuf => {
                let times = Times::decode(self.record.clone());
                times.map_or(true, |times| times.time_unix_nano != 0 || times.observed_time_unix_nano != 0)
            }
            Encoding::Json if memchr::memmem::find(&self.record, b"imeUnixNano\"").is_none() => false,
            Encoding::Json => serde_json::from_slice::<JsonTimes>(&self.record).map_or(true, |times| {
                [times.time_unix_nano, times.observed_time_unix_nano].iter().any(|time| json::unsigned(time.as_ref()) != 0)
            }),
        }
    }

    /// The original as text: protobuf in base64.
    pub fn raw(&self) -> Value {
        match self.encoding {
            Encoding::Protobuf => json::bytes(&self.record),
            Encoding::Json => String::from_utf8_lossy(&self.record).into_owned().into(),
        }
    }

    fn of_protobuf(&self) -> Result<Entry, prost::DecodeError> {
        let resource = Resource::decode(self.resource.clone())?;
        let scope = Scope::decode(self.scope.clone())?;
        let record = LogRecord::decode(self.record.clone())?;
        Ok(Entry {
            resource: attributes(resource.attributes),
            scope_name: scope.name,
            scope_version: scope.version,
            scope_attributes: attributes(scope.attributes),
            time: record.time_unix_nano,
            observed_time: record.observed_time_unix_nano,
            event_name: record.event_name,
            severity_number: record.severity_number.into(),
            severity_text: record.severity_text,
            body: record.body.map(any).unwrap_or_default(),
            attributes: attributes(record.attributes),
            dropped_attributes: record.dropped_attributes_count.into(),
            trace_id: hex::encode(record.trace_id),
            span_id: hex::encode(record.span_id),
            flags: record.flags.into(),
        })
    }

    fn of_json(&self) -> Result<Entry, String> {
        let resource = json::object(&self.resource)?;
        let scope = json::object(&self.scope)?;
        let record = json::object(&self.record)?;
        let text = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Entry {
            resource: json::attributes(resource.get("attributes")),
            scope_name: text(&scope, "name"),
            scope_version: text(&scope, "version"),
            scope_attributes: json::attributes(scope.get("attributes")),
            time: json::unsigned(record.get("timeUnixNano")),
            observed_time: json::unsigned(record.get("observedTimeUnixNano")),
            event_name: text(&record, "eventName"),
            severity_number: record.get("severityNumber").and_then(Value::as_i64).unwrap_or_default(),
            severity_text: text(&record, "severityText"),
            body: record.get("body").map(json::any).unwrap_or_default(),
            attributes: json::attributes(record.get("attributes")),
            dropped_attributes: json::unsigned(record.get("droppedAttributesCount")),
            trace_id: text(&record, "traceId").to_ascii_lowercase(),
            span_id: text(&record, "spanId").to_ascii_lowercase(),
            flags: json::unsigned(record.get("flags")),
        })
    }
}

fn attributes(list: Vec<KeyValue>) -> Map<String, Value> {
    json::collected(list.into_iter().map(|KeyValue { key, value }| (key, value.map(any).unwrap_or_default())))
}

fn any(value: AnyValue) -> Value {
    match value.value {
        None => Value::Null,
        Some(Any::String(text)) => text.into(),
        Some(Any::Bool(bool)) => bool.into(),
        Some(Any::Int(number)) => number.into(),
        Some(Any::Double(number)) if number.is_finite() => number.into(),
        Some(Any::Double(number)) => not_finite(number).into(),
        Some(Any::Array(array)) => array.values.into_iter().map(any).collect(),
        Some(Any::List(list)) => Value::Object(attributes(list.values)),
        Some(Any::Bytes(bytes)) => json::bytes(&bytes),
    }
}

/// As OTLP's JSON names them.
fn not_finite(number: f64) -> &'static str {
    match number {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}
