//! Cuts a record to CloudTrail's limits. Source: CloudTrail's field limits and, for the whole, Lake's order of cutting.
//!
//! A string is cut at a character; an object is replaced whole, so that JSON stays JSON. Either leaves its size and
//! SHA-256 behind: nothing goes without a trace. A record within its limits is not touched. Only for records made
//! here: one made elsewhere keeps its bytes.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Record, UserIdentity};
use crate::limits::{ADDITIONAL_BYTES_MAX, PARAMETERS_BYTES_MAX, RECORD_BYTES_MAX, STRING_FIELD_BYTES_MAX};

/// additionalEventData's member that notes what was cut from members that can't hold a note themselves.
const CUT: &str = "edgetrailCut";

/// What still stands in the way of the whole record's limit is cut to this many bytes.
const REMNANT_BYTES: usize = 64;

/// Most resources that are kept where a record is over its limit.
const RESOURCES_KEPT: usize = 16;

type Text = fn(&mut Record) -> &mut Option<String>;
type Object = fn(&mut Record) -> &mut Option<Value>;

/// What may be cut, in the order in which it is.
enum Field {
    Text(&'static str, Text),
    AdditionalEventData,
    Object(Object),
    /// What CloudTrail's order does not name: the rest, so that no record is left over the limit.
    Resources,
    Unknown,
    Names,
}

const REQUEST_ID: Field = Field::Text("requestID", |it| &mut it.request_id);
const USER_AGENT: Field = Field::Text("userAgent", |it| &mut it.user_agent);
const ERROR_CODE: Field = Field::Text("errorCode", |it| &mut it.error_code);
const ERROR_MESSAGE: Field = Field::Text("errorMessage", |it| &mut it.error_message);
const REQUEST_PARAMETERS: Field = Field::Object(|it| &mut it.request_parameters);
const RESPONSE_ELEMENTS: Field = Field::Object(|it| &mut it.response_elements);
const SERVICE_EVENT_DETAILS: Field = Field::Object(|it| &mut it.service_event_details);
const EDGE_DEVICE_DETAILS: Field = Field::Object(|it| &mut it.edge_device_details);

/// Each field's own limit, in bytes.
const FIELD_LIMITS: &[(Field, usize)] = &[
    (REQUEST_ID, STRING_FIELD_BYTES_MAX),
    (USER_AGENT, STRING_FIELD_BYTES_MAX),
    (ERROR_CODE, STRING_FIELD_BYTES_MAX),
    (ERROR_MESSAGE, STRING_FIELD_BYTES_MAX),
    (REQUEST_PARAMETERS, PARAMETERS_BYTES_MAX),
    (RESPONSE_ELEMENTS, PARAMETERS_BYTES_MAX),
    (SERVICE_EVENT_DETAILS, PARAMETERS_BYTES_MAX),
    (EDGE_DEVICE_DETAILS, ADDITIONAL_BYTES_MAX),
    (Field::AdditionalEventData, ADDITIONAL_BYTES_MAX),
];

/// Lake's order, then what it leaves.
const ORDER: &[Field] = &[
    REQUEST_ID,
    Field::AdditionalEventData,
    SERVICE_EVENT_DETAILS,
    USER_AGENT,
    ERROR_CODE,
    Field::Object(|it| &mut it.event_context),
    RESPONSE_ELEMENTS,
    REQUEST_PARAMETERS,
    ERROR_MESSAGE,
    Field::Object(|it| &mut it.addendum),
    EDGE_DEVICE_DETAILS,
    Field::Object(|it| &mut it.tls_details),
    Field::Resources,
    Field::Unknown,
    Field::Names,
];

impl Record {
    /// Brings every field, then the whole record, under its limit.
    pub fn fit(&mut self) {
        self.to_fitted_json();
    }

    /// The same, and the bytes of what then is left: what [`Record::to_json`] after it would make again.
    pub fn to_fitted_json(&mut self) -> Vec<u8> {
        let mut json = self.to_json();
        for (field, bytes) in FIELD_LIMITS {
            // In a record no larger than a field's limit that field needs no look: most records are.
            if json.len() > *bytes && field.cut(self, *bytes) {
                json = self.to_json();
            }
        }
        for field in ORDER {
            if json.len() <= RECORD_BYTES_MAX {
                break;
            }
            if field.cut(self, REMNANT_BYTES) {
                json = self.to_json();
            }
        }
        json
    }

    /// Notes what `name` held before it was cut.
    fn note_cut(&mut self, name: &str, held: &str) {
        let additional = self.additional_event_data.get_or_insert_default();
        let notes = additional.entry(CUT).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(notes) = notes {
            // What was cut twice keeps the note of the whole.
            notes.entry(name).or_insert_with(|| Value::Object(size_and_hash(held)));
        }
    }
}

impl Field {
    /// Cuts the field if it has more than `bytes`; tells whether it did.
    fn cut(&self, record: &mut Record, bytes: usize) -> bool {
        match self {
            Self::Text(name, field) => cut_text(record, name, *field, bytes),
            Self::Object(field) => field(record).as_mut().is_some_and(|value| omit(value, bytes)),
            Self::AdditionalEventData => omit_additional(record, bytes),
            Self::Resources => cut_resources(record),
            Self::Unknown => cut_unknown(record),
            Self::Names => cut_names(record),
        }
    }
}

fn cut_text(record: &mut Record, name: &str, field: Text, bytes: usize) -> bool {
    match field(record).take() {
        Some(text) if text.len() > bytes => {
            *field(record) = Some(text[..text.floor_char_boundary(bytes)].to_owned());
            record.note_cut(name, &text);
            true
        }
        other => {
            *field(record) = other;
            false
        }
    }
}

fn omit(value: &mut Value, bytes: usize) -> bool {
    let text = value.to_string();
    // A note is not replaced by a note of itself.
    if text.len() <= bytes || value.get("omitted").is_some_and(|omitted| *omitted == Value::Bool(true)) {
        return false;
    }
    *value = Value::Object(omitted(&text));
    true
}

/// Who made the record, and what else was cut, stay known: both are short.
fn omit_additional(record: &mut Record, bytes: usize) -> bool {
    let Some(members) = record.additional_event_data.take() else { return false };
    let mut whole = Value::Object(members.clone());
    let cut = omit(&mut whole, bytes);
    let mut left = match whole {
        Value::Object(left) => left,
        _ => Map::new(),
    };
    if cut {
        if let Some(Value::Object(origin)) = members.get("edgetrail") {
            let mut origin = origin.clone();
            origin.retain(|_, value| value.as_str().is_some_and(|text| text.len() <= REMNANT_BYTES * 4));
            origin.remove("raw");
            left.insert("edgetrail".to_owned(), Value::Object(origin));
        }
        if let Some(notes) = members.get(CUT) {
            left.insert(CUT.to_owned(), notes.clone());
        }
    }
    record.additional_event_data = Some(left);
    cut
}

fn cut_resources(record: &mut Record) -> bool {
    let Some(resources) = record.resources.as_mut().filter(|resources| resources.len() > RESOURCES_KEPT) else { return false };
    let held = serde_json::to_string(resources).unwrap_or_default();
    resources.truncate(RESOURCES_KEPT);
    record.note_cut("resources", &held);
    true
}

fn cut_unknown(record: &mut Record) -> bool {
    let held: String = record.unknown.iter().map(|(name, text)| format!("{name}:{text}\n")).collect();
    record.unknown.clear();
    record.note_cut("unknown", &held);
    true
}

/// The last resort, for names that are names no more: whoever posts them is not believed a megabyte of them.
fn cut_names(record: &mut Record) -> bool {
    let held = serde_json::to_string(&record.user_identity).unwrap_or_default();
    if held.len() > STRING_FIELD_BYTES_MAX * 4 {
        let kept = |text: &Option<String>| text.clone().filter(|text| text.len() <= STRING_FIELD_BYTES_MAX / 4);
        let whole = std::mem::take(&mut record.user_identity);
        record.user_identity = UserIdentity {
            kind: kept(&whole.kind),
            principal_id: kept(&whole.principal_id),
            arn: kept(&whole.arn),
            account_id: kept(&whole.account_id),
            user_name: kept(&whole.user_name),
            ..UserIdentity::default()
        };
        record.note_cut("userIdentity", &held);
    }
    for (name, field) in NAMES {
        let text = std::mem::take(field(record));
        if text.len() > STRING_FIELD_BYTES_MAX {
            record.note_cut(name, &text);
        }
        *field(record) = text[..text.floor_char_boundary(STRING_FIELD_BYTES_MAX)].to_owned();
    }
    if let Some(resources) = record.resources.take() {
        let held = serde_json::to_string(&resources).unwrap_or_default();
        if held.len() > PARAMETERS_BYTES_MAX {
            record.note_cut("resources", &held);
        } else {
            record.resources = Some(resources);
        }
    }
    for field in [&mut record.api_version, &mut record.vpc_endpoint_id, &mut record.vpc_endpoint_account_id] {
        *field = field.take().filter(|text| text.len() <= STRING_FIELD_BYTES_MAX);
    }
    true
}

type Name = fn(&mut Record) -> &mut String;

const NAMES: &[(&str, Name)] = &[
    ("eventVersion", |it| &mut it.event_version),
    ("eventTime", |it| &mut it.event_time),
    ("eventSource", |it| &mut it.event_source),
    ("eventName", |it| &mut it.event_name),
    ("awsRegion", |it| &mut it.aws_region),
    ("sourceIPAddress", |it| &mut it.source_ip_address),
    ("recipientAccountId", |it| &mut it.recipient_account_id),
];

/// What stands for an omitted object.
fn omitted(held: &str) -> Map<String, Value> {
    let mut note = size_and_hash(held);
    note.insert("omitted".to_owned(), Value::Bool(true));
    note
}

/// Of a string its bytes; of anything else its compact JSON.
fn size_and_hash(held: &str) -> Map<String, Value> {
    let mut note = Map::new();
    note.insert("edgetrailBytes".to_owned(), Value::from(held.len()));
    note.insert("edgetrailSha256".to_owned(), Value::String(hex::encode(Sha256::digest(held))));
    note
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::record::{Resource, SessionContext};

    fn big(bytes: usize) -> Option<Value> {
        Some(json!({"x": "y".repeat(bytes)}))
    }

    fn is_omitted(value: Option<&Value>) -> bool {
        value.is_some_and(|value| value["omitted"] == true)
    }

    #[test]
    fn a_record_within_its_limits_is_not_touched() {
        let record = Record {
            user_agent: Some("a".repeat(1024)),
            request_parameters: big(100_000),
            additional_event_data: Some(Map::from_iter([("x".to_owned(), json!("y".repeat(28_000)))])),
            ..Record::default()
        };
        let mut fitted = record.clone();
        assert_eq!(fitted.to_fitted_json(), record.to_json());
        assert_eq!(fitted, record);
    }

    #[test]
    fn a_string_is_cut_at_a_character_and_its_size_and_hash_are_noted() {
        let message = "é".repeat(600);
        let mut record = Record { error_message: Some(format!("x{message}")), ..Record::default() };
        record.fit();
        assert_eq!(record.error_message, Some(format!("x{}", "é".repeat(511))));
        let note = &record.additional_event_data.unwrap()["edgetrailCut"]["errorMessage"];
        assert_eq!(note["edgetrailBytes"], 1201);
        assert_eq!(note["edgetrailSha256"], hex::encode(Sha256::digest(format!("x{message}"))));
    }

    #[test]
    fn an_object_over_its_limit_is_replaced_whole() {
        let mut record =
            Record { request_parameters: big(PARAMETERS_BYTES_MAX), response_elements: big(10), ..Record::default() };
        let held = record.request_parameters.as_ref().unwrap().to_string();
        record.fit();
        assert_eq!(
            record.request_parameters,
            Some(json!({"omitted": true, "edgetrailBytes": held.len(), "edgetrailSha256": hex::encode(Sha256::digest(&held))}))
        );
        assert_eq!(record.response_elements, big(10));
    }

    #[test]
    fn additional_data_over_its_limit_keeps_who_made_the_record() {
        let origin = json!({"agent": "a", "host": "h", "source": "audit", "raw": "z".repeat(30_000)});
        let mut record = Record {
            user_agent: Some("u".repeat(2000)),
            additional_event_data: Some(Map::from_iter([("edgetrail".to_owned(), origin)])),
            ..Record::default()
        };
        record.fit();
        let left = record.additional_event_data.unwrap();
        assert_eq!(left["edgetrail"], json!({"agent": "a", "host": "h", "source": "audit"}));
        assert_eq!((&left["omitted"], &left["edgetrailCut"]["userAgent"]["edgetrailBytes"]), (&json!(true), &json!(2000)));
    }

    #[test]
    fn the_whole_is_cut_in_cloudtrails_order_and_no_further_than_needed() {
        // Each within its own limit, together over the record's.
        let mut record = Record {
            additional_event_data: Some(Map::from_iter([("x".to_owned(), json!("y".repeat(28_000)))])),
            service_event_details: big(60_000),
            event_context: big(60_000),
            response_elements: big(100_000),
            request_parameters: big(100_000),
            ..Record::default()
        };
        let json = record.to_fitted_json();
        assert!(json.len() <= RECORD_BYTES_MAX);
        assert!(record.additional_event_data.is_some_and(|members| members["omitted"] == true));
        assert!(is_omitted(record.service_event_details.as_ref()));
        assert_eq!((record.event_context, record.response_elements), (big(60_000), big(100_000)));
        assert_eq!(record.request_parameters, big(100_000));
    }

    #[test]
    fn response_elements_go_before_request_parameters() {
        let mut record = Record {
            response_elements: big(100_000),
            request_parameters: big(100_000),
            addendum: big(70_000),
            ..Record::default()
        };
        record.fit();
        assert!(is_omitted(record.response_elements.as_ref()));
        assert_eq!((record.request_parameters, record.addendum), (big(100_000), big(70_000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn whatever_is_long_the_record_fits_afterwards(lengths in proptest::collection::vec(prop_oneof![0..100_usize, 0..150_000_usize], 14)) {
            let text = |i: usize| "é\"".repeat(lengths[i] / 4);
            let unknown = format!(r#"{{"other":"{}"}}"#, "o".repeat(lengths[13]));
            let mut record = Record {
                event_name: text(0),
                user_agent: Some(text(1)),
                error_code: Some(text(2)),
                error_message: Some(text(3)),
                request_parameters: Some(json!({"a": text(4)})),
                response_elements: Some(json!([text(5)])),
                additional_event_data: Some(Map::from_iter([("edgetrail".to_owned(), json!({"agent": text(6)}))])),
                request_id: Some(text(7)),
                resources: Some(vec![Resource { arn: Some("a".repeat(lengths[8] / 16)), ..Resource::default() }; 20]),
                service_event_details: Some(json!(text(9))),
                tls_details: Some(json!(text(10))),
                user_identity: UserIdentity {
                    arn: Some(text(11)),
                    session_context: Some(SessionContext { source_identity: Some(text(12)), ..SessionContext::default() }),
                    ..UserIdentity::default()
                },
                unknown: Record::from_json(unknown.as_bytes()).unwrap().unknown,
                ..Record::default()
            };
            let json = record.to_fitted_json();
            prop_assert!(json.len() <= RECORD_BYTES_MAX, "{} bytes are left", json.len());
            prop_assert_eq!(&json, &record.to_json());
            prop_assert_eq!(record.to_fitted_json(), json, "fitting twice is fitting once");
        }
    }
}
