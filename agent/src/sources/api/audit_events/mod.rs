//! CloudTrail's PutAuditEvents, for programs that were written for it: `aws cloudtrail-data put-audit-events`.
//!
//! The caller is who signed the request (SigV4), with a key of `access_keys`; nothing of a body is read before its key is
//! known. Each event is judged alone and has its place in one of the answer's two lists. `successful` means durable, as
//! `answer_after` says. An event's own bytes are kept; what it says of its author is the caller's word.

mod access_key;

mod channel;

mod event_data;

mod fault;

mod request;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use edgetrail_proto::chain::Binding;
use edgetrail_sigv4::{Claim, SigV4Error};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;
use tokio::sync::oneshot;
use uuid::Uuid;

pub(super) use self::access_key::AccessKeys;
pub use self::channel::{Channel, ChannelArn, ChannelConfig};
pub use self::event_data::{Checked, Refusal, RefusalCode, check};
use self::fault::Fault;
use self::request::{Entry, Query, REQUEST_BYTES_MAX};
use crate::clock::unix_ns;
use crate::observation::{self, Intake, Observation, Outcome, Payload, SourceName};
use crate::sources::listener::{Reader, Reply, ReplyBody};

/// One event of a channel with who put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// The eventData's JSON text, checked by [`check`].
    pub event_data: Bytes,
    pub channel: Arc<Channel>,
    pub signer: Signer,
    /// When it was received, Unix nanoseconds.
    pub received: u64,
}

/// Who signed a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    pub access_key_id: String,
    /// The name beside the key.
    pub principal: Arc<str>,
    pub address: IpAddr,
}

/// Takes requests.
#[derive(Debug)]
pub(super) struct Door {
    intake: Intake,
    keys: AccessKeys,
    channels: Vec<Arc<Channel>>,
}

/// The answer: an entry for each event, in one list or the other.
#[derive(Debug, Default, Serialize)]
struct Answered {
    successful: Vec<Success>,
    failed: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct Success {
    #[serde(rename = "eventID")]
    event_id: Uuid,
    id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    id: String,
    error_code: &'static str,
    error_message: String,
}

/// The one path. Source: botocore's model of cloudtrail-data, 2021-08-11.
pub(super) const PATH: &str = "/PutAuditEvents";

/// The service that a signature must be for.
const SERVICE: &str = "cloudtrail-data";

/// Whether a request's head says that it is signed.
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC-SHA256"))
}

impl Door {
    /// A channel outside `binding` is open to nobody: its records would be quarantined.
    pub(super) fn open(intake: Intake, keys: AccessKeys, channels: &[ChannelConfig], binding: &Binding) -> Self {
        let channels = channels.iter().map(|config| Arc::new(Channel::new(config, binding))).collect();
        Self { intake, keys, channels }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, address: IpAddr, reader: &Reader) -> Reply {
        let request_id = Uuid::new_v4();
        let mut reply = match self.take(request, address, reader).await {
            Ok(answered) => fault::json(http::StatusCode::OK, &answered),
            Err(fault) => {
                tracing::warn!(caller = %address, code = fault.code, message = fault.message, "refused a call of PutAuditEvents");
                fault.into_reply()
            }
        };
        if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
            reply.headers_mut().insert("x-amzn-requestid", value);
        }
        reply.map(ReplyBody::new)
    }

    async fn take(&self, request: Request<Incoming>, address: IpAddr, reader: &Reader) -> Result<Answered, Fault> {
        let (head, body) = request.into_parts();
        let (signer, body) = self.authenticate(&head, body, address, reader).await?;
        if head.method != Method::POST {
            return Err(Fault::new("UnknownOperationException", "PutAuditEvents is a POST"));
        }
        let query = Query::parse(&head)?;
        let channel = self.channel(&query)?;
        let entries = request::entries(&body)?;
        self.put(channel, &signer, entries).await
    }

    /// The key, then the time, then the body, then the signature over all of it.
    async fn authenticate(
        &self,
        head: &Parts,
        body: Incoming,
        address: IpAddr,
        reader: &Reader,
    ) -> Result<(Signer, Bytes), Fault> {
        let claim = Claim::parse(head)?;
        if claim.scope.service != SERVICE {
            return Err(SigV4Error::Scope(format!("its service is not {SERVICE}")).into());
        }
        let key = self.keys.find(&claim.access_key_id).ok_or(SigV4Error::UnknownKey)?;
        claim.check_time(unix_ns() / 1_000_000_000)?;
        if body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
            return Err(Fault::too_large());
        }
        let body = reader.read(body, None).await.map_err(Fault::of_body)?;
        if body.bytes.len() > REQUEST_BYTES_MAX {
            return Err(Fault::too_large());
        }
        claim.verify(head, &body.bytes, &key.secret, unix_ns() / 1_000_000_000)?;
        let signer = Signer { access_key_id: claim.access_key_id, principal: key.principal, address };
        Ok((signer, body.bytes.clone()))
    }

    fn channel(&self, query: &Query) -> Result<&Arc<Channel>, Fault> {
        let arn = &query.channel_arn;
        if arn.parse::<ChannelArn>().is_err() {
            return Err(Fault::new("InvalidChannelARN", format!("`{arn}` is no ARN of a channel")));
        }
        let channel = self.channels.iter().find(|channel| channel.arn.text() == arn);
        let channel = channel.ok_or_else(|| Fault::new("ChannelNotFound", "sources.api.channels names no such channel"))?;
        channel.admits(query.external_id.as_deref())?;
        Ok(channel)
    }

    async fn put(&self, channel: &Arc<Channel>, signer: &Signer, entries: Vec<Entry<'_>>) -> Result<Answered, Fault> {
        let mut ids = HashSet::new();
        if let Some(twice) = entries.iter().find(|entry| !ids.insert(entry.id.as_ref())) {
            return Err(Fault::new("DuplicatedAuditEventId", format!("two events of the request have the id {}", twice.id)));
        }
        let received = unix_ns();
        let mut answered = Answered::default();
        let (mut group, mut waiting) = (Vec::new(), Vec::new());
        for Entry { id, event_data, event_data_checksum } in entries {
            let checked = match check(&event_data, event_data_checksum.as_deref(), channel.arn.account()) {
                Ok(checked) => checked,
                Err(refusal) => {
                    answered.failed.push(Failure::of(&id, &refusal));
                    continue;
                }
            };
            let (sender, receiver) = oneshot::channel();
            // docs/protocol.md §2. Neither an ARN nor a principal holds white space.
            let position = format!("{} {}:{id}", channel.arn.text(), signer.principal);
            let event_data = Bytes::from(event_data.into_owned());
            let event = AuditEvent { event_data, channel: Arc::clone(channel), signer: signer.clone(), received };
            group.push(Observation {
                source: SourceName::Api,
                position,
                time: checked.event_time,
                payload: Payload::AuditEvent(event),
                cursor: None,
                answer: Some(observation::Answer(sender)),
            });
            waiting.push((id.into_owned(), receiver));
        }
        if group.is_empty() {
            return Ok(answered);
        }
        match tokio::time::timeout(super::request::INTAKE_WAIT, self.intake.send(group)).await {
            Ok(Ok(())) => {}
            Ok(Err(_stopped)) => return Err(Fault::unavailable("the agent is stopping: send again when it runs")),
            Err(_elapsed) => return Err(Fault::unavailable("the agent is busy: nothing was taken, send again")),
        }
        let (ids, receivers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        for (id, outcome) in ids.into_iter().zip(super::request::outcomes(receivers).await) {
            answered.add(id, outcome);
        }
        // Nothing was taken: clients know how to come back.
        if answered.successful.is_empty() && answered.failed.iter().all(|failure| failure.error_code == THROTTLING) {
            return Err(Fault::unavailable("the buffer is full: nothing was taken, send again"));
        }
        Ok(answered)
    }
}

/// Of an event that could not be taken now.
const THROTTLING: &str = "Throttling";

impl Answered {
    fn add(&mut self, id: String, outcome: Option<Outcome>) {
        let failure = match outcome {
            Some(Outcome::Committed { event_ids }) => match event_ids.first() {
                Some(event_id) => return self.successful.push(Success { event_id: *event_id, id }),
                None => Failure { id, error_code: "InternalFailure", error_message: "no record was made of it".to_owned() },
            },
            Some(Outcome::Refused) => {
                let error_message = "the agent's selection turns such events away; it is counted".to_owned();
                Failure { id, error_code: "AccountNotSubscribed", error_message }
            }
            Some(Outcome::Unavailable { .. }) | None => {
                let error_message = "it could not be taken now: send it again under the same id".to_owned();
                Failure { id, error_code: THROTTLING, error_message }
            }
        };
        self.failed.push(failure);
    }
}

impl Failure {
    fn of(id: &str, refusal: &Refusal) -> Self {
        Self { id: id.to_owned(), error_code: refusal.code.as_str(), error_message: refusal.message.clone() }
    }
}
