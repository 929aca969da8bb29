//! A request's query and body, as the service model has them. What is not so is refused as a whole.

use std::borrow::Cow;

use edgetrail_sigv4::percent;
use http::request::Parts;
use serde::Deserialize;

use super::fault::Fault;
use crate::sources::event;

/// What a request's query says.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) channel_arn: String,
    pub(super) external_id: Option<String>,
}

/// One event of a request, unjudged.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) event_data: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) event_data_checksum: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    audit_events: Vec<Entry<'a>>,
}

/// Largest body, in bytes. Source: CloudTrail's quotas, PutAuditEvents, 1 MB.
pub(super) const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Most events of a request. Source: botocore's model of cloudtrail-data.
const EVENTS_MAX: usize = 100;

/// Length of an event's id. Source: the same.
const ID_BYTES: std::ops::RangeInclusive<usize> = 1..=128;

/// Levels of a body: the list, its entries, what else may stand there.
const BODY_DEPTH_MAX: usize = 8;

impl Query {
    pub(super) fn parse(head: &Parts) -> Result<Self, Fault> {
        let query = head.uri.query().unwrap_or_default();
        let channel_arn = percent::value_of(query, "channelArn");
        let channel_arn = channel_arn.ok_or_else(|| Fault::new("ValidationException", "channelArn is missing"))?;
        Ok(Self { channel_arn, external_id: percent::value_of(query, "externalId") })
    }
}

/// The events of a body, in order.
pub(super) fn entries(body: &[u8]) -> Result<Vec<Entry<'_>>, Fault> {
    let unread = |why: String| Fault::new("SerializationException", why);
    let text = event::utf8(body).map_err(|error| unread(error.to_string()))?;
    event::check_depth(text, BODY_DEPTH_MAX).map_err(|error| unread(error.to_string()))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(unread("the body is no JSON object".to_owned()));
    }
    let Body { audit_events } = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Fault::new("ValidationException", error.to_string()),
        _ => unread(error.to_string()),
    })?;
    if audit_events.is_empty() || audit_events.len() > EVENTS_MAX {
        let why = format!("auditEvents holds {} events: send 1 to {EVENTS_MAX}", audit_events.len());
        return Err(Fault::new("ValidationException", why));
    }
    let is_id = |id: &str| {
        ID_BYTES.contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    match audit_events.iter().position(|entry| !is_id(&entry.id)) {
        Some(index) => {
            let why = format!("auditEvents[{index}].id is not 1 to 128 letters, digits, `-` and `_`");
            Err(Fault::new("ValidationException", why))
        }
        None => Ok(audit_events),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(body: &str) -> &'static str {
        entries(body.as_bytes()).unwrap_err().code
    }

    #[test]
    fn a_body_is_taken_as_the_model_says_and_refused_otherwise() {
        let two = br#"{"auditEvents":[{"id":"a","eventData":"{\"x\":1}"},{"eventDataChecksum":"c","eventData":"","id":"B-_9"}]}"#;
        let read = entries(two).unwrap();
        assert_eq!((read[0].event_data.as_ref(), read[1].event_data_checksum.as_deref()), (r#"{"x":1}"#, Some("c")));
        assert_eq!(code(r#"{"auditEvents":[]}"#), "ValidationException");
        assert_eq!(code(r#"{}"#), "ValidationException");
        assert_eq!(code(r#"[[]]"#), "SerializationException");
        assert_eq!(code(r#"{"auditEvents":[{"id":"a b","eventData":""}]}"#), "ValidationException");
        assert_eq!(code(r#"{"auditEvents":[{"id":"a"}]}"#), "ValidationException");
        assert_eq!(code(r#"{"auditEvents":["#), "SerializationException");
        let many = vec![r#"{"id":"a","eventData":"x"}"#; EVENTS_MAX + 1].join(",");
        assert_eq!(code(&format!(r#"{{"auditEvents":[{many}]}}"#)), "ValidationException");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unread = entries(&bytes);
        }
    }
}
