//! One event of audit.k8s.io: its shape, read leniently, for what is missing is unknown and no reason to lose the rest.
//!
//! Source: the audit.k8s.io/v1 reference; v1beta1 and v1alpha1 differ in nothing that is read here.

use edgetrail_proto::record::parse_time;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// An audit event. Objects stay the texts that they were.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit<'a> {
    pub verb: String,
    #[serde(rename = "auditID")]
    pub audit_id: Option<String>,
    pub level: Option<String>,
    pub stage: Option<String>,
    #[serde(rename = "requestURI")]
    pub request_uri: Option<String>,
    #[serde(borrow)]
    pub user: Option<&'a RawValue>,
    #[serde(borrow)]
    pub impersonated_user: Option<&'a RawValue>,
    #[serde(borrow, rename = "sourceIPs")]
    pub source_ips: Option<&'a RawValue>,
    pub user_agent: Option<String>,
    #[serde(borrow)]
    pub object_ref: Option<&'a RawValue>,
    #[serde(borrow)]
    pub response_status: Option<&'a RawValue>,
    #[serde(borrow)]
    pub request_object: Option<&'a RawValue>,
    #[serde(borrow)]
    pub response_object: Option<&'a RawValue>,
    pub request_received_timestamp: Option<String>,
    pub stage_timestamp: Option<String>,
    /// v1alpha1's time.
    pub timestamp: Option<String>,
    #[serde(borrow)]
    pub annotations: Option<&'a RawValue>,
}

/// Who asked: `user` or `impersonatedUser`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub username: String,
    pub uid: String,
}

/// What was asked for. Empty where it is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRef {
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub api_group: String,
    pub subresource: String,
}

/// How it ended, of `responseStatus`. 0 and empty where it is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

/// How far the request had come. An event that does not say is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before anything was done.
    Received,
    /// Of a long-running request, such as watch or exec: its status is known, its end is not.
    Started,
    #[default]
    Complete,
    /// The API server failed.
    Panic,
}

impl Stage {
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("RequestReceived") => Self::Received,
            Some("ResponseStarted") => Self::Started,
            Some("Panic") => Self::Panic,
            Some(_) | None => Self::Complete,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "RequestReceived",
            Self::Started => "ResponseStarted",
            Self::Complete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

impl<'a> Audit<'a> {
    /// Reads an event; says what is wrong where it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let audit: Self = serde_json::from_slice(bytes).map_err(|error| format!("no event of audit.k8s.io: {error}"))?;
        if audit.verb.is_empty() { Err("no event of audit.k8s.io: verb is empty".to_owned()) } else { Ok(audit) }
    }

    pub fn stage(&self) -> Stage {
        Stage::named(self.stage.as_deref())
    }

    /// Unix nanoseconds of the stage; else of the request.
    pub fn time(&self) -> Option<u64> {
        let times = [&self.stage_timestamp, &self.request_received_timestamp, &self.timestamp];
        times.into_iter().flatten().find_map(|text| parse_time(text))
    }
}

impl User {
    pub fn read(raw: &RawValue) -> Self {
        let value = value(raw);
        Self { username: text(&value, "username"), uid: text(&value, "uid") }
    }
}

impl ObjectRef {
    pub fn read(raw: &RawValue) -> Self {
        let value = value(raw);
        Self {
            resource: text(&value, "resource"),
            namespace: text(&value, "namespace"),
            name: text(&value, "name"),
            api_group: text(&value, "apiGroup"),
            subresource: text(&value, "subresource"),
        }
    }
}

impl Status {
    pub fn read(raw: &RawValue) -> Self {
        let value = value(raw);
        let code = value.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
        Self { code, reason: text(&value, "reason"), message: text(&value, "message") }
    }
}

/// A value too deep to be read says nothing.
fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn text(value: &Value, member: &str) -> String {
    value.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What positions and times are made of; everything else may be anything.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Head {
    #[serde(rename = "auditID")]
    audit_id: Option<String>,
    stage: Option<String>,
    stage_timestamp: Option<String>,
    request_received_timestamp: Option<String>,
}

/// Longest auditID or time that names a request, in bytes: a UUID or what a client put into the header Audit-ID; RFC 3339.
const NAME_BYTES_MAX: usize = 256;

/// What tells the stages of one request from those of all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    pub audit_id: String,
    /// As it was written: a client may choose the auditID of another request, but not this.
    pub received: String,
}

/// The request that an event is of, and its stage. `None` where the event does not name it.
pub fn request(event: &[u8]) -> Option<(Request, Stage)> {
    let head: Head = serde_json::from_slice(event).ok()?;
    let stage = Stage::named(head.stage.as_deref());
    let audit_id = head.audit_id.filter(|id| !id.is_empty() && id.len() <= NAME_BYTES_MAX)?;
    let received = head.request_received_timestamp.filter(|time| !time.is_empty() && time.len() <= NAME_BYTES_MAX)?;
    Some((Request { audit_id, received }, stage))
}

/// docs/protocol.md §2: `AUDITID/STAGE/RECEIVED`; the hash of an event that does not say them.
pub fn position(event: &[u8]) -> String {
    match request(event) {
        Some((Request { audit_id, received }, stage)) => format!("{audit_id}/{}/{received}", stage.as_str()),
        None => format!("sha256:{}", hex::encode(Sha256::digest(event))),
    }
}

/// Unix nanoseconds at which the event's stage was reached.
pub fn time_of(event: &[u8]) -> Option<u64> {
    let head: Head = serde_json::from_slice(event).ok()?;
    [head.stage_timestamp, head.request_received_timestamp].into_iter().flatten().find_map(|text| parse_time(&text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_stages_of_a_request_are_one_request_and_have_positions_of_their_own() {
        let event = |stage: &str, received: &str| {
            format!(r#"{{"auditID":"a","stage":"{stage}","requestReceivedTimestamp":"{received}","verb":"get"}}"#)
        };
        let (one, other) = (event("RequestReceived", "t1"), event("ResponseComplete", "t1"));
        assert_eq!(request(one.as_bytes()).unwrap().0, request(other.as_bytes()).unwrap().0);
        assert_eq!(position(other.as_bytes()), "a/ResponseComplete/t1");
        // Another request under the same auditID, which its client may choose.
        assert_ne!(position(other.as_bytes()), position(event("ResponseComplete", "t2").as_bytes()));
        assert!(position(br#"{"auditID":"a","verb":"get"}"#).starts_with("sha256:"));
    }

    #[test]
    fn what_is_missing_is_no_reason_to_refuse_and_what_is_no_event_is() {
        let audit = Audit::parse(br#"{"verb":"get","sourceIPs":7,"more":[1]}"#).unwrap();
        assert_eq!((audit.stage(), audit.time(), audit.user.is_none()), (Stage::Complete, None, true));
        for wrong in ["{}", "7", r#"{"verb":""}"#, r#"{"verb":3}"#, r#"{"verb":"get","stage":[]}"#] {
            assert!(Audit::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unread = Audit::parse(&bytes);
            let _unread = (position(&bytes), time_of(&bytes));
        }
    }
}
