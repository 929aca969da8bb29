//! The event that a program posts or writes as a line: its shape, checked before anything is made of it.
//!
//! Parsing borrows: members stay the JSON texts that they were. A value of [`Event`] is well-formed, bounded in depth
//! and typed; what is wrong is named by JSON path and byte offset with the way out. Nothing here trusts the content:
//! identity, account and region of a record never come from an event.

use std::fmt;

use edgetrail_proto::limits::{JSON_DEPTH_MAX, RECORD_BYTES_FOREIGN_MAX};
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// One event. Every field is the member's JSON text as it was written, `None` where absent or null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    pub event_source: &'a str,
    pub event_name: &'a str,
    pub event_time: Option<&'a str>,
    pub user_identity: Option<&'a str>,
    pub source_ip_address: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub error_code: Option<&'a str>,
    pub error_message: Option<&'a str>,
    pub request_parameters: Option<&'a str>,
    pub response_elements: Option<&'a str>,
    pub additional_event_data: Option<&'a str>,
    pub request_id: Option<&'a str>,
    /// The client's own id: `eventID`, or else `id`.
    pub client_id: Option<&'a str>,
    pub read_only: Option<&'a str>,
    pub resources: Option<&'a str>,
    pub event_type: Option<&'a str>,
    pub api_version: Option<&'a str>,
    pub event_category: Option<&'a str>,
    pub service_event_details: Option<&'a str>,
    pub shared_event_id: Option<&'a str>,
    pub tls_details: Option<&'a str>,
    /// Said by the client, decided by the agent: kept as claims.
    pub aws_region: Option<&'a str>,
    pub recipient_account_id: Option<&'a str>,
    /// Members that CloudTrail does not know: name (JSON text) and value.
    pub unknown: Vec<(&'a str, &'a str)>,
}

/// What is wrong with an event, where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error("not JSON at byte {offset}: {what}")]
    Syntax { offset: usize, what: String },
    #[error("not UTF-8 at byte {offset}: send JSON as UTF-8")]
    Encoding { offset: usize },
    #[error("nested deeper than {levels} levels at byte {offset}: flatten the value or send it as a string")]
    Depth { levels: usize, offset: usize },
    #[error("{path} is missing: eventSource (such as `billing.example`) and eventName (such as `CreateInvoice`) are required")]
    Missing { path: &'static str },
    #[error("{path} occurs twice: send it once")]
    Twice { path: String },
    #[error("{path} is {found}: {wanted}")]
    Type { path: &'static str, found: &'static str, wanted: &'static str },
    #[error("{path} {why}")]
    Value { path: &'static str, why: String },
}

/// Longest eventSource, eventName and client's id, in bytes. Source: CloudTrail Lake's string columns for names; a position is at most 64 KiB.
pub const NAME_BYTES_MAX: usize = 256;

/// Largest event, in bytes: with what the agent adds it still is a record that can be read back and cut to size.
pub const EVENT_BYTES_MAX: usize = RECORD_BYTES_FOREIGN_MAX - 64 * 1024;

/// Levels of an event: its userIdentity stands in the record as a claim, two levels deeper.
pub const EVENT_DEPTH_MAX: usize = JSON_DEPTH_MAX - 2;

/// Most members that CloudTrail does not know.
const UNKNOWN_MEMBERS_MAX: usize = 64;

impl EventError {
    /// Where in the event: a JSON path, or `$` where only an offset is known.
    pub fn path(&self) -> &str {
        match self {
            Self::Syntax { .. } | Self::Encoding { .. } | Self::Depth { .. } => "$",
            Self::Missing { path } | Self::Type { path, .. } | Self::Value { path, .. } => path,
            Self::Twice { path } => path,
        }
    }

    pub fn offset(&self) -> Option<usize> {
        match self {
            Self::Syntax { offset, .. } | Self::Encoding { offset } | Self::Depth { offset, .. } => Some(*offset),
            Self::Missing { .. } | Self::Twice { .. } | Self::Type { .. } | Self::Value { .. } => None,
        }
    }
}

impl<'a> Event<'a> {
    /// Reads one event from the bytes of one JSON object.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventError> {
        let text = utf8(bytes)?;
        check_depth(text, EVENT_DEPTH_MAX)?;
        Self::parse_bounded(text)
    }

    /// The same for text whose depth was checked before.
    pub fn parse_bounded(text: &'a str) -> Result<Self, EventError> {
        let mut event = Self::default();
        for (name, value) in members(text)? {
            event.take(name, value)?;
        }
        event.check()?;
        Ok(event)
    }

    /// The client's own id as text.
    pub fn client_id(&self) -> Option<String> {
        self.client_id.and_then(|raw| serde_json::from_str(raw).ok())
    }

    fn take(&mut self, name: &'a str, value: &'a str) -> Result<(), EventError> {
        const STRING: &str = "give a string";
        const OBJECT: &str = "give an object";
        type Kinds = &'static [Kind];
        const S: Kinds = &[Kind::String];
        const O: Kinds = &[Kind::Object];
        let mut required = None;
        let (slot, path, kinds, wanted): (&mut Option<&'a str>, &'static str, Kinds, &'static str) = match name {
            "eventSource" | "eventName" => {
                (&mut required, if name == "eventName" { "$.eventName" } else { "$.eventSource" }, S, STRING)
            }
            "eventTime" => (
                &mut self.event_time,
                "$.eventTime",
                &[Kind::String, Kind::Number],
                "give RFC 3339 such as \"2026-01-31T12:00:00Z\" or Unix seconds",
            ),
            "userIdentity" => (&mut self.user_identity, "$.userIdentity", O, OBJECT),
            "sourceIPAddress" => (&mut self.source_ip_address, "$.sourceIPAddress", S, STRING),
            "userAgent" => (&mut self.user_agent, "$.userAgent", S, STRING),
            "errorCode" => (&mut self.error_code, "$.errorCode", S, STRING),
            "errorMessage" => (&mut self.error_message, "$.errorMessage", S, STRING),
            "requestParameters" => (&mut self.request_parameters, "$.requestParameters", O, "give an object or null"),
            "responseElements" => (&mut self.response_elements, "$.responseElements", O, "give an object or null"),
            "additionalEventData" => (&mut self.additional_event_data, "$.additionalEventData", O, OBJECT),
            "requestID" => (&mut self.request_id, "$.requestID", S, STRING),
            "eventID" | "id" => (&mut self.client_id, if name == "id" { "$.id" } else { "$.eventID" }, S, STRING),
            "readOnly" => (&mut self.read_only, "$.readOnly", &[Kind::Bool], "give true or false"),
            "resources" => (&mut self.resources, "$.resources", &[Kind::Array], "give an array of objects"),
            "eventType" => (&mut self.event_type, "$.eventType", S, STRING),
            "apiVersion" => (&mut self.api_version, "$.apiVersion", S, STRING),
            "eventCategory" => (&mut self.event_category, "$.eventCategory", S, STRING),
            "serviceEventDetails" => (&mut self.service_event_details, "$.serviceEventDetails", O, OBJECT),
            "sharedEventID" => (&mut self.shared_event_id, "$.sharedEventID", S, STRING),
            "tlsDetails" => (&mut self.tls_details, "$.tlsDetails", O, OBJECT),
            "awsRegion" => (&mut self.aws_region, "$.awsRegion", S, STRING),
            "recipientAccountId" => (&mut self.recipient_account_id, "$.recipientAccountId", S, STRING),
            // Always the agent's own: what it writes follows from eventCategory and the record's version.
            "eventVersion" | "managementEvent" => return Ok(()),
            _ => {
                // An escaped name could say a known member's once more, past every check above.
                if name.contains('\\') && text_of(&format!("\"{name}\"")).is_ascii() {
                    let why = format!("has a member named \"{name}\": write ASCII names without escapes");
                    return Err(EventError::Value { path: "$", why });
                }
                if self.unknown.iter().any(|(known, _)| *known == name) {
                    return Err(EventError::Twice { path: format!("$.{name}") });
                }
                if self.unknown.len() >= UNKNOWN_MEMBERS_MAX {
                    let why = format!(
                        "has more than {UNKNOWN_MEMBERS_MAX} members that CloudTrail does not know: move them into additionalEventData"
                    );
                    return Err(EventError::Value { path: "$", why });
                }
                self.unknown.push((name, value));
                return Ok(());
            }
        };
        let kind = Kind::of(value);
        if kind == Kind::Null && !matches!(name, "eventSource" | "eventName") {
            return Ok(());
        }
        if !kinds.contains(&kind) {
            return Err(EventError::Type { path, found: kind.name(), wanted });
        }
        if name == "id" && slot.is_some() {
            return Ok(());
        }
        if slot.is_some() && name != "eventID" {
            return Err(EventError::Twice { path: path.to_owned() });
        }
        *slot = Some(value);
        match name {
            "eventSource" if self.event_source.is_empty() => self.event_source = value,
            "eventName" if self.event_name.is_empty() => self.event_name = value,
            "eventSource" | "eventName" => return Err(EventError::Twice { path: path.to_owned() }),
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<(), EventError> {
        for (raw, path) in [(self.event_source, "$.eventSource"), (self.event_name, "$.eventName")] {
            if raw.is_empty() {
                return Err(EventError::Missing { path });
            }
        }
        let source = text_of(self.event_source);
        let source_like = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if source.is_empty() || source.len() > NAME_BYTES_MAX || !source.bytes().all(source_like) {
            let why = format!("is not like a DNS name of at most {NAME_BYTES_MAX} bytes: use letters, digits, `.`, `-`, `_`");
            return Err(EventError::Value { path: "$.eventSource", why });
        }
        if source.to_ascii_lowercase().rsplit('.').next() == Some("edgetrail") {
            let why = "ends in `.edgetrail`, which only Edgetrail's own records may: name your own service".to_owned();
            return Err(EventError::Value { path: "$.eventSource", why });
        }
        let name = text_of(self.event_name);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let why = format!("is empty, longer than {NAME_BYTES_MAX} bytes or holds control characters");
            return Err(EventError::Value { path: "$.eventName", why });
        }
        if let Some(id) = self.client_id.map(text_of)
            && (id.is_empty() || id.len() > NAME_BYTES_MAX)
        {
            let why = format!("is empty or longer than {NAME_BYTES_MAX} bytes");
            return Err(EventError::Value { path: "$.eventID", why });
        }
        const CATEGORIES: &[&str] = &["\"Management\"", "\"Data\""];
        if let Some(raw) = self.event_category
            && !CATEGORIES.contains(&raw)
        {
            let why = format!("is {raw}: give \"Management\" or \"Data\"");
            return Err(EventError::Value { path: "$.eventCategory", why });
        }
        const TYPES: &[&str] = &["\"AwsApiCall\"", "\"AwsServiceEvent\"", "\"AwsConsoleAction\"", "\"AwsConsoleSignIn\""];
        if let Some(raw) = self.event_type
            && !TYPES.contains(&raw)
        {
            let why = format!("is {raw}: give AwsApiCall, AwsServiceEvent, AwsConsoleAction or AwsConsoleSignIn");
            return Err(EventError::Value { path: "$.eventType", why });
        }
        if let Some(raw) = self.event_time
            && time_ns(raw).is_none()
        {
            let why =
                "is not a time between 1970 and 2554: give RFC 3339 such as \"2026-01-31T12:00:00Z\" or Unix seconds".to_owned();
            return Err(EventError::Value { path: "$.eventTime", why });
        }
        if let Some(raw) = self.resources
            && !is_list_of_objects(raw)
        {
            let why = "holds something that is not an object: give [{\"type\": …, \"ARN\": …}]".to_owned();
            return Err(EventError::Value { path: "$.resources", why });
        }
        Ok(())
    }
}

/// Whether a JSON array holds nothing but objects. Their texts are well-formed already, but for escapes: only where
/// there are any, they are read as a tree.
fn is_list_of_objects(array: &str) -> bool {
    if array.contains('\\') {
        return serde_json::from_str::<Vec<serde_json::Map<String, serde_json::Value>>>(array).is_ok();
    }
    let elements = serde_json::from_str::<Vec<&RawValue>>(array);
    elements.is_ok_and(|elements| elements.iter().all(|element| Kind::of(element.get()) == Kind::Object))
}

/// The members of a JSON object in order: name (JSON text without its quotes) and value (JSON text).
pub fn members(text: &str) -> Result<Vec<(&str, &str)>, EventError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_any(Members).map_err(|error| syntax(text, &error))?;
    deserializer.end().map_err(|error| syntax(text, &error))?;
    Ok(members.0)
}

/// Unix nanoseconds of an eventTime's JSON text: RFC 3339, or Unix seconds with or without a fraction.
pub fn time_ns(raw: &str) -> Option<u64> {
    if raw.starts_with('"') {
        let time: jiff::Timestamp = text_of(raw).parse().ok()?;
        return u64::try_from(time.as_nanosecond()).ok();
    }
    let (seconds, fraction) = raw.split_once('.').unwrap_or((raw, ""));
    let mut nanos = 0u64;
    let mut unit = 100_000_000u64;
    for digit in fraction.bytes().take(9) {
        let digit = digit.checked_sub(b'0').filter(|d| *d <= 9)?;
        nanos += u64::from(digit) * unit;
        unit /= 10;
    }
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// The text that a JSON string says. The caller knows that it is one.
pub fn text_of(raw: &str) -> std::borrow::Cow<'_, str> {
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => plain.into(),
        _ => serde_json::from_str::<String>(raw).unwrap_or_default().into(),
    }
}

/// JSON's types, told by a value's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b'"') => Self::String,
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b't' | b'f') => Self::Bool,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// The members of an object in order, values as raw text.
struct Members;

struct MemberList<'a>(Vec<(&'a str, &'a str)>);

impl<'de> Visitor<'de> for Members {
    type Value = MemberList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(24);
        // A name with escapes can't be borrowed: its raw text is, and it is then no known member's name.
        while let Some(name) = map.next_key::<&'de RawValue>()? {
            let raw = name.get();
            let plain = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
            members.push((plain, map.next_value::<&'de RawValue>()?.get()));
        }
        Ok(MemberList(members))
    }
}

/// The text of bytes that ought to be UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<&str, EventError> {
    std::str::from_utf8(bytes).map_err(|error| EventError::Encoding { offset: error.valid_up_to() })
}

/// Refuses what nests deeper than `levels`; one pass, no recursion.
pub fn check_depth(text: &str, levels: usize) -> Result<(), EventError> {
    // Most events have fewer brackets than levels are allowed: counting them is much faster than following them.
    if memchr::memchr2_iter(b'{', b'[', text.as_bytes()).count() <= levels {
        return Ok(());
    }
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    for (offset, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > levels {
                    return Err(EventError::Depth { levels, offset });
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// A parser's error with its byte offset instead of line and column.
pub fn syntax(text: &str, error: &serde_json::Error) -> EventError {
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = if error.is_eof() { text.len() } else { (line_start + error.column().saturating_sub(1)).min(text.len()) };
    let mut what = error.to_string();
    if let Some(end) = what.rfind(" at line ") {
        what.truncate(end);
    }
    EventError::Syntax { offset, what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        Event::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn two_members_make_an_event() {
        let event = Event::parse(br#" {"eventSource":"billing.example", "eventName" : "CreateInvoice"} "#).unwrap();
        assert_eq!((event.event_source, event.event_name), ("\"billing.example\"", "\"CreateInvoice\""));
    }

    #[test]
    fn every_fault_names_its_place_and_the_way_out() {
        let event = |more: &str| format!(r#"{{"eventSource":"a.b","eventName":"C"{more}}}"#);
        assert!(error(r#"{"eventName":"C"}"#).starts_with("$.eventSource is missing"));
        assert!(error(r#"{"eventSource":"a","eventName":7}"#).starts_with("$.eventName is a number: give a string"));
        assert!(error(r#"{"eventSource":"a","eventName":null}"#).starts_with("$.eventName is null"));
        assert!(error(&event(r#","eventName":"D""#)).starts_with("$.eventName occurs twice"));
        assert!(error(&event(r#","requestParameters":[1]"#)).starts_with("$.requestParameters is an array"));
        assert!(error(&event(r#","readOnly":"yes""#)).starts_with("$.readOnly is a string: give true or false"));
        assert!(error(&event(r#","eventTime":"yesterday""#)).starts_with("$.eventTime is not a time"));
        assert!(error(&event(r#","eventCategory":"Insight""#)).starts_with("$.eventCategory is \"Insight\""));
        assert!(error(&event(r#","resources":[1]"#)).starts_with("$.resources holds"));
        assert!(error(r#"{"eventSource":"agent.edgetrail","eventName":"ReportGap"}"#).contains("only Edgetrail's own"));
        assert!(error(r#"{"eventSource":"a b","eventName":"C"}"#).contains("DNS name"));
        assert!(error(&event(r#","event\u0053ource":"agent.edgetrail""#)).contains("without escapes"));
        assert!(error(&event(r#","x":1,"x":2"#)).starts_with("$.x occurs twice"));
        assert!(error("[]").contains("invalid type: sequence, expected one event as a JSON object"));
        assert_eq!(Event::parse(b"{\"a\":}").unwrap_err().offset(), Some(5));
        assert_eq!(Event::parse(b"{\n\"a\":}").unwrap_err().offset(), Some(6));
        assert_eq!(Event::parse(b"{\"\xff\":1}").unwrap_err(), EventError::Encoding { offset: 2 });
        assert!(error(&event(&format!(",\"x\":{}1{}", "[".repeat(62), "]".repeat(62)))).starts_with("nested deeper than 62"));
        assert!(Event::parse(event(&format!(",\"x\":{}1{}", "[".repeat(61), "]".repeat(61))).as_bytes()).is_ok());
    }

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(time_ns("\"2026-01-31T12:00:00.25Z\""), Some(1_769_860_800_250_000_000));
        assert_eq!(time_ns("\"2026-01-31T13:00:00+01:00\""), Some(1_769_860_800_000_000_000));
        assert_eq!(time_ns("1769860800.25"), Some(1_769_860_800_250_000_000));
        assert_eq!(time_ns("-1"), None);
        assert_eq!(time_ns("1e9"), None);
        assert_eq!(time_ns("99999999999999999999"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unread = Event::parse(&bytes);
        }

        #[test]
        fn arbitrary_json_like_text_never_panics(text in r#"[{}\[\]",:a-z0-9\\ \n.eE-]{0,80}"#) {
            let _unread = Event::parse(text.as_bytes());
            let _unread = time_ns(&text);
        }
    }
}
