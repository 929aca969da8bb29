//! An eventData: CloudTrail Lake's schema of an integration's events, checked member by member.
//!
//! What passes is kept byte for byte. What is too long is refused, never cut. Members that the schema does not know are
//! kept; one that it knows and that stands twice is refused, for two readers could read two things.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use edgetrail_proto::identity::AccountId;
use edgetrail_proto::limits::JSON_DEPTH_MAX;
use edgetrail_proto::record::parse_time;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::sources::event::{EVENT_BYTES_MAX, check_depth, text_of};

/// An eventData that may be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Unix nanoseconds.
    pub event_time: u64,
}

/// Why one event of a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    pub message: String,
}

/// Source: CloudTrail's API reference, ResultErrorEntry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    FieldTooLong,
    FieldNotFound,
    InvalidChecksum,
    InvalidData,
    InvalidRecipient,
    InvalidEventSource,
}

/// The members that the schema knows, as JSON text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    user_identity: Option<&'a RawValue>,
    user_agent: Option<&'a RawValue>,
    event_source: Option<&'a RawValue>,
    event_name: Option<&'a RawValue>,
    event_time: Option<&'a RawValue>,
    #[serde(rename = "UID")]
    uid: Option<&'a RawValue>,
    request_parameters: Option<&'a RawValue>,
    response_elements: Option<&'a RawValue>,
    error_code: Option<&'a RawValue>,
    error_message: Option<&'a RawValue>,
    #[serde(rename = "sourceIPAddress")]
    source_ip_address: Option<&'a RawValue>,
    recipient_account_id: Option<&'a RawValue>,
    additional_event_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    principal_id: Option<&'a RawValue>,
    details: Option<&'a RawValue>,
}

/// Longest texts, in characters, and longest objects, in bytes of JSON. Source: CloudTrail's user guide, integration
/// event schema.
const NAME_MAX: usize = 1024;
const SHORT_MAX: usize = 256;
const TYPE_MAX: usize = 128;
const PARAMETERS_BYTES_MAX: usize = 100 * 1024;
const ADDITIONAL_BYTES_MAX: usize = 28 * 1024;

/// Who speaks as Edgetrail itself.
const OWN_SUFFIX: &str = ".edgetrail";

impl RefusalCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FieldTooLong => "FieldTooLong",
            Self::FieldNotFound => "FieldNotFound",
            Self::InvalidChecksum => "InvalidChecksum",
            Self::InvalidData => "InvalidData",
            Self::InvalidRecipient => "InvalidRecipient",
            Self::InvalidEventSource => "InvalidEventSource",
        }
    }
}

/// Judges an eventData that was put into a channel of `owner`'s.
pub fn check(event_data: &str, checksum: Option<&str>, owner: &AccountId) -> Result<Checked, Refusal> {
    if checksum.is_some_and(|checksum| checksum != STANDARD.encode(Sha256::digest(event_data))) {
        return Err(refusal(RefusalCode::InvalidChecksum, "eventDataChecksum is not the base64 SHA-256 of eventData"));
    }
    if event_data.len() > EVENT_BYTES_MAX {
        return Err(refusal(RefusalCode::FieldTooLong, format!("eventData has more than {EVENT_BYTES_MAX} bytes")));
    }
    // It stands one level deeper in its record.
    check_depth(event_data, JSON_DEPTH_MAX - 1).map_err(|error| refusal(RefusalCode::InvalidData, error.to_string()))?;
    let shape: Shape<'_> = object("eventData", event_data)?;
    text("version", required("version", shape.version)?, SHORT_MAX)?;
    let identity: Identity<'_> = object("userIdentity", required("userIdentity", shape.user_identity)?.get())?;
    text("userIdentity.type", required("userIdentity.type", identity.kind)?, TYPE_MAX)?;
    text("userIdentity.principalId", required("userIdentity.principalId", identity.principal_id)?, NAME_MAX)?;
    whole_object("userIdentity.details", identity.details, PARAMETERS_BYTES_MAX)?;
    let source = text("eventSource", required("eventSource", shape.event_source)?, NAME_MAX)?;
    if source.is_empty() || source.ends_with(OWN_SUFFIX) {
        return Err(refusal(RefusalCode::InvalidEventSource, "eventSource is empty, or one of Edgetrail's own"));
    }
    text("eventName", required("eventName", shape.event_name)?, NAME_MAX)?;
    text("UID", required("UID", shape.uid)?, NAME_MAX)?;
    let account = text("recipientAccountId", required("recipientAccountId", shape.recipient_account_id)?, NAME_MAX)?;
    if account != owner.as_str() {
        return Err(refusal(RefusalCode::InvalidRecipient, "recipientAccountId is not the account of the channel"));
    }
    for (name, value, characters) in [
        ("userAgent", shape.user_agent, NAME_MAX),
        ("errorCode", shape.error_code, SHORT_MAX),
        ("errorMessage", shape.error_message, SHORT_MAX),
        ("sourceIPAddress", shape.source_ip_address, NAME_MAX),
    ] {
        if let Some(value) = value {
            text(name, value, characters)?;
        }
    }
    whole_object("requestParameters", shape.request_parameters, PARAMETERS_BYTES_MAX)?;
    whole_object("responseElements", shape.response_elements, PARAMETERS_BYTES_MAX)?;
    whole_object("additionalEventData", shape.additional_event_data, ADDITIONAL_BYTES_MAX)?;
    let time = text("eventTime", required("eventTime", shape.event_time)?, SHORT_MAX)?;
    // The schema's form names no zone and means UTC.
    let event_time = parse_time(&time).or_else(|| parse_time(&format!("{time}Z")));
    let event_time =
        event_time.ok_or_else(|| refusal(RefusalCode::InvalidData, "eventTime is not yyyy-MM-ddTHH:mm:ss, in UTC"))?;
    Ok(Checked { event_time })
}

fn object<'a, T: Deserialize<'a>>(name: &str, json: &'a str) -> Result<T, Refusal> {
    // serde would take a struct's fields from an array, too.
    if !json.trim_ascii_start().starts_with('{') {
        return Err(refusal(RefusalCode::InvalidData, format!("{name} is no JSON object")));
    }
    serde_json::from_str(json).map_err(|error| refusal(RefusalCode::InvalidData, format!("{name}: {error}")))
}

/// `Option` takes null for none already.
fn required<'a>(name: &str, value: Option<&'a RawValue>) -> Result<&'a RawValue, Refusal> {
    value.ok_or_else(|| refusal(RefusalCode::FieldNotFound, format!("{name} is required")))
}

fn text<'a>(name: &str, value: &'a RawValue, characters_max: usize) -> Result<std::borrow::Cow<'a, str>, Refusal> {
    let raw = value.get();
    // A surrogate without its other half is JSON for a parser that does not look into strings.
    if !raw.starts_with('"') || serde_json::from_str::<std::borrow::Cow<'_, str>>(raw).is_err() {
        return Err(refusal(RefusalCode::InvalidData, format!("{name} is no string")));
    }
    let text = text_of(raw);
    if text.len() > characters_max && text.chars().count() > characters_max {
        return Err(refusal(RefusalCode::FieldTooLong, format!("{name} has more than {characters_max} characters")));
    }
    Ok(text)
}

fn whole_object(name: &str, value: Option<&RawValue>, bytes_max: usize) -> Result<(), Refusal> {
    let Some(value) = value else { return Ok(()) };
    if !value.get().starts_with('{') {
        return Err(refusal(RefusalCode::InvalidData, format!("{name} is no JSON object")));
    }
    if value.get().len() > bytes_max {
        return Err(refusal(RefusalCode::FieldTooLong, format!("{name} has more than {bytes_max} bytes")));
    }
    Ok(())
}

fn refusal(code: RefusalCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn owner() -> AccountId {
        "111122223333".parse().unwrap()
    }

    fn event() -> Value {
        json!({
            "version": "1.0", "userIdentity": {"type": "User", "principalId": "u-7", "details": {"a": 1}}, "UID": "uid-1",
            "eventSource": "shop.example", "eventName": "CancelOrder", "eventTime": "2026-01-31T12:00:00",
            "recipientAccountId": "111122223333", "requestParameters": {"order": 7}, "errorCode": null,
        })
    }

    fn code_with(name: &str, value: Value) -> Result<Checked, RefusalCode> {
        let mut event = event();
        let slot = name.split('.').fold(&mut event, |value, part| &mut value[part]);
        *slot = value;
        check(&event.to_string(), None, &owner()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn an_event_of_the_schema_passes_with_its_time_and_checksum() {
        let text = event().to_string();
        let checksum = STANDARD.encode(Sha256::digest(&text));
        assert_eq!(check(&text, Some(&checksum), &owner()).unwrap().event_time, 1_769_860_800_000_000_000);
        assert_eq!(check(&text, Some("AAAA"), &owner()).unwrap_err().code, RefusalCode::InvalidChecksum);
        assert!(code_with("eventTime", json!("2026-01-31T12:00:00.5Z")).is_ok() && code_with("mine", json!([1])).is_ok());
    }

    #[test]
    fn every_limit_is_refused_by_its_name() {
        use RefusalCode::{FieldNotFound, FieldTooLong, InvalidData, InvalidEventSource, InvalidRecipient};
        for (name, value, code) in [
            ("version", json!("v".repeat(257)), FieldTooLong),
            ("userIdentity.type", json!("t".repeat(129)), FieldTooLong),
            ("userIdentity.principalId", json!("p".repeat(1025)), FieldTooLong),
            ("userIdentity.principalId", Value::Null, FieldNotFound),
            ("userIdentity", json!(["User", "u-7"]), InvalidData),
            ("eventName", json!("n".repeat(1025)), FieldTooLong),
            ("eventName", json!(7), InvalidData),
            ("UID", Value::Null, FieldNotFound),
            ("eventSource", json!("agent.edgetrail"), InvalidEventSource),
            ("eventSource", json!(""), InvalidEventSource),
            ("eventTime", json!("yesterday"), InvalidData),
            ("recipientAccountId", json!("444455556666"), InvalidRecipient),
            ("requestParameters", json!({"x": "y".repeat(PARAMETERS_BYTES_MAX)}), FieldTooLong),
            ("responseElements", json!([1]), InvalidData),
            ("additionalEventData", json!({"x": "y".repeat(ADDITIONAL_BYTES_MAX)}), FieldTooLong),
            ("errorMessage", json!("e".repeat(257)), FieldTooLong),
        ] {
            assert_eq!(code_with(name, value), Err(code), "{name}");
        }
        assert!(code_with("eventName", json!("ü".repeat(1024))).is_ok(), "characters, not bytes");
        for wrong in ["", "[]", "{", "{\"version\":\"1\",\"version\":\"2\"}", "{\"a\":1} {}"] {
            assert_eq!(check(wrong, None, &owner()).unwrap_err().code, InvalidData, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}|[{}\\[\\]\":,a0 \\\\]{0,80}") {
            let _unread = check(&text, None, &owner());
        }
    }
}
