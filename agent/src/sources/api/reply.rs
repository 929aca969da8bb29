//! What a caller is answered: JSON, one shape for success and one for faults.

use std::collections::BTreeMap;

use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::Bytes;
use serde::Serialize;
use uuid::Uuid;

use super::body::BodyError;
use crate::observation::Outcome;

/// On its way to either door.
pub(super) type Reply = Response<Bytes>;

/// The answer to a body that was taken: one entry an event, in order.
#[derive(Debug, Serialize)]
struct Taken {
    /// Events now durable.
    committed: usize,
    /// Events that selection turned away; they are counted.
    refused: usize,
    /// Events that could not be taken now: send these again, with the same id.
    unavailable: usize,
    /// `null` for an event that is not committed.
    #[serde(rename = "eventIDs")]
    event_ids: Vec<Option<Uuid>>,
}

#[derive(Debug, Serialize)]
struct Fault<'a> {
    error: FaultBody<'a>,
}

#[derive(Debug, Serialize)]
struct FaultBody<'a> {
    code: &'a str,
    message: String,
    #[serde(flatten)]
    place: BTreeMap<&'static str, serde_json::Value>,
}

/// Seconds after which a caller is to try again when nothing better is known.
pub(super) const RETRY_AFTER_S: u64 = 1;

pub(super) fn taken(outcomes: &[Option<Outcome>]) -> Reply {
    let mut taken = Taken { committed: 0, refused: 0, unavailable: 0, event_ids: Vec::with_capacity(outcomes.len()) };
    let mut retry_after_s = None;
    for outcome in outcomes {
        let mut event_id = None;
        match outcome {
            Some(Outcome::Committed { event_ids }) => {
                taken.committed += 1;
                event_id = event_ids.first().copied();
            }
            Some(Outcome::Refused) => taken.refused += 1,
            Some(Outcome::Unavailable { retry_after_s: after }) => {
                taken.unavailable += 1;
                retry_after_s = retry_after_s.max(Some(*after));
            }
            None => {
                taken.unavailable += 1;
                retry_after_s = retry_after_s.max(Some(RETRY_AFTER_S));
            }
        }
        taken.event_ids.push(event_id);
    }
    let status = if retry_after_s.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    with_retry(json(status, &taken), retry_after_s)
}

pub(super) fn refused_body(error: &BodyError) -> Reply {
    let (status, code) = if error.is_too_large() {
        (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge")
    } else if matches!(error, BodyError::Text(_) | BodyError::Empty) {
        (StatusCode::BAD_REQUEST, "InvalidJson")
    } else {
        (StatusCode::BAD_REQUEST, "InvalidEvent")
    };
    let mut message = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        message = format!("{message}: {cause}");
    }
    let mut place = BTreeMap::from([("at", serde_json::Value::from(error.at()))]);
    if let Some(offset) = error.offset() {
        place.insert("offset", offset.into());
    }
    json(status, &Fault { error: FaultBody { code, message, place } })
}

pub(super) fn fault(status: StatusCode, code: &str, message: impl Into<String>) -> Reply {
    json(status, &Fault { error: FaultBody { code, message: message.into(), place: BTreeMap::new() } })
}

pub(super) fn unavailable(message: &str) -> Reply {
    with_retry(fault(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message), Some(RETRY_AFTER_S))
}

fn with_retry(mut reply: Reply, retry_after_s: Option<u64>) -> Reply {
    if let Some(seconds) = retry_after_s {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    let mut reply = Response::new(Bytes::from(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
