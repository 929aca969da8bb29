//! A request's way: a place for its record, the service's answer, the record.
//!
//! Each request ends in exactly one of: a record with its place, or a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tokio::sync::oneshot;

use super::config::{AnswerAfter, WhenUnavailable};
use super::door::{Connection, Tasks};
use super::exchange::{Asked, Caller, End, Exchange};
use super::headers::{self, Told};
use super::heads::{answered, declared, is_form, is_json};
use super::pending::{Open, Pending};
use super::queue::{Place, Queue};
use super::reply::{Reply, ReplyBody, own};
use super::service::Service;
use super::tee::{Passing, Tee};
use super::tunnel::Tunnel;
use super::upstream::{Upstream, UpstreamError};
use crate::clock::unix_ns;

/// Passes requests on.
#[derive(Debug)]
pub(super) struct Forwarder {
    pub(super) service: Arc<Service>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) queue: Queue,
    pub(super) tasks: Tasks,
    pub(super) when_unavailable: WhenUnavailable,
    pub(super) answer_after: AnswerAfter,
    pub(super) hold_max: Duration,
    pub(super) response_timeout: Duration,
    /// Names this run's requests.
    pub(super) run: String,
    pub(super) number: AtomicU64,
    pub(super) title: String,
}

/// Seconds after which a client is to try again where the buffer takes nothing.
const RETRY_AFTER_S: u64 = 5;

/// Why the service gave no answer, and what the client has instead.
enum Silence {
    Failed(UpstreamError),
    /// It took too long.
    Service,
    /// The client took too long to send its request.
    Client,
    /// It changed to a protocol that nobody had asked for.
    Unasked,
}

impl Forwarder {
    /// What the client is answered.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>, connection: Connection) -> Reply {
        let (mut parts, body) = request.into_parts();
        let place = match self.place(&parts, &body).await {
            Ok(place) => place,
            Err(reply) => return *reply,
        };
        let (address, is_trusted) = headers::client(connection.peer.ip(), &parts.headers, &self.service.trusted);
        // Without a place nothing of it may be kept.
        let copies = if place.is_some() { self.copies(&parts) } else { 0 };
        let passing = Passing::new(copies, &body, declared(&parts.headers));
        let (mut pending, recorded) = match place {
            Some(place) => {
                let caller = Caller {
                    address: address.to_canonical(),
                    peer: connection.peer.ip().to_canonical(),
                    port: connection.peer.port(),
                    is_trusted,
                    tls: connection.tls.clone(),
                };
                self.begin(&parts, caller, place, passing.clone())
            }
            None => (Pending(None), None),
        };
        if let Err(error) = headers::check(&parts) {
            pending.end_now(End::Refused { status: 400, reason: error.to_string() });
            let mut reply = own(StatusCode::BAD_REQUEST, error.to_string());
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return reply;
        }
        let upgrade = headers::upgrade(&parts).filter(|_| self.upstream.wire() == headers::Wire::Http1);
        let told = Told { peer: connection.peer.ip(), is_tls: connection.tls.is_some(), is_trusted };
        headers::prepare(&mut parts, self.upstream.wire(), told, upgrade.as_ref());
        let mut request = Request::from_parts(parts, Tee::new(body, passing.clone()));
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut response, lease) = match self.send(request, &passing).await {
            Ok(answered) => answered,
            Err(silence) => return silence.answered(&mut pending, self.response_timeout),
        };
        if client.is_none() && response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Silence::Unasked.answered(&mut pending, self.response_timeout);
        }
        let mut answered = answered(&response);
        if let Some(client) = client.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            answered.tunnel = upgrade.as_ref().and_then(|protocol| protocol.to_str().ok()).map(str::to_owned);
            let service = hyper::upgrade::on(&mut response);
            let tunnel = Tunnel { client, service, seat: connection.seat, lease };
            self.tasks.spawn(tunnel.run(connection.stop));
            pending.end_now(End::Answered(answered));
            let (mut head, _) = response.into_parts();
            let protocol = head.headers.remove(header::UPGRADE);
            headers::strip(&mut head.headers);
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            if let Some(protocol) = protocol {
                head.headers.insert(header::UPGRADE, protocol);
            }
            return match self.held(recorded).await {
                Ok(()) => Response::from_parts(head, ReplyBody::Own(None)),
                Err(reply) => reply,
            };
        }
        let (mut head, body) = response.into_parts();
        headers::strip(&mut head.headers);
        let is_json = answered.content_type.as_deref().is_some_and(is_json);
        let bytes_max = if is_json { self.service.takes.response } else { 0 };
        let is_grpc = answered.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/grpc"));
        let waits = self.answer_after == AnswerAfter::Forward && (bytes_max > 0 || is_grpc && answered.grpc.is_none());
        let body = if waits {
            pending.timed();
            ReplyBody::told(body, lease, pending, answered, bytes_max)
        } else {
            pending.end_now(End::Answered(answered));
            ReplyBody::passed(body, lease)
        };
        match self.held(recorded).await {
            Ok(()) => Response::from_parts(head, body),
            Err(reply) => reply,
        }
    }

    /// No more requests are taken: the clerk's queue ends when those in flight have.
    pub(super) fn close(&self) {
        self.upstream.close();
    }

    /// A place for the request's record; `None` where it is passed on without one, an answer where it is not.
    async fn place(&self, parts: &Parts, body: &Incoming) -> Result<Option<Place>, Box<Reply>> {
        let is_closed = self.when_unavailable == WhenUnavailable::Closed;
        let place = if is_closed && !self.queue.has_room() { None } else { self.queue.place(self.bytes(parts, body)).await };
        if place.is_some() {
            return Ok(place);
        }
        if is_closed {
            if self.queue.refuse() {
                tracing::error!(proxy = self.title, "requests are refused: they can't be recorded");
            }
            let mut reply = own(
                StatusCode::SERVICE_UNAVAILABLE,
                "not passed on to the service: requests can't be recorded now, try again later",
            );
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            return Err(Box::new(reply));
        }
        if self.queue.miss() {
            tracing::error!(proxy = self.title, "requests are passed on without a record: a gap will say how many");
        }
        Ok(None)
    }

    /// What the request's record holds at most, bytes.
    fn bytes(&self, parts: &Parts, body: &Incoming) -> usize {
        let uri = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
        let headers: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let body = match body.size_hint().upper() {
            Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX).min(self.copies(parts)),
            None => self.copies(parts),
        };
        uri + headers + body + self.service.takes.response
    }

    /// So many bytes of its body are copied: of those that can be read by name.
    fn copies(&self, parts: &Parts) -> usize {
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_read = (is_json(kind) || is_form(kind)) && !parts.headers.contains_key(header::CONTENT_ENCODING);
        if is_read { self.service.takes.body } else { 0 }
    }

    /// A request with its place, and who waits for its record.
    fn begin(&self, parts: &Parts, caller: Caller, place: Place, passing: Passing) -> (Pending, Option<oneshot::Receiver<()>>) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let exchange = Exchange {
            service: Arc::clone(&self.service),
            position: format!("{}/{number}", self.run),
            time: unix_ns(),
            duration_us: 0,
            asked: Asked::of(parts, &self.service),
            caller,
            bearer: None,
            body: None,
            end: End::Abandoned,
            answer_after: self.answer_after,
            _room: None,
        };
        let (waiter, recorded) = match self.answer_after {
            AnswerAfter::Forward => (None, None),
            AnswerAfter::Commit | AnswerAfter::Receipt => {
                let (waiter, recorded) = oneshot::channel();
                (Some(waiter), Some(recorded))
            }
        };
        (Pending(Some(Open { exchange, place, began: Instant::now(), passing, waiter })), recorded)
    }

    /// The answer's head, in time: counted from the last piece of the request that passed.
    async fn send(
        &self,
        request: Request<Tee>,
        passing: &Passing,
    ) -> Result<(Response<Incoming>, Option<super::upstream::Lease>), Silence> {
        let mut sending = std::pin::pin!(self.upstream.send(request));
        loop {
            let due = passing.last() + self.response_timeout;
            tokio::select! {
                biased;
                answered = &mut sending => return answered.map_err(Silence::Failed),
                () = tokio::time::sleep_until(due) => {
                    if passing.last() + self.response_timeout <= tokio::time::Instant::now() {
                        return Err(if passing.is_whole() { Silence::Service } else { Silence::Client });
                    }
                }
            }
        }
    }

    /// Waits for the record where the answer is held for it.
    async fn held(&self, recorded: Option<oneshot::Receiver<()>>) -> Result<(), Reply> {
        let Some(recorded) = recorded else { return Ok(()) };
        if matches!(tokio::time::timeout(self.hold_max, recorded).await, Ok(Ok(()))) {
            return Ok(());
        }
        match self.when_unavailable {
            WhenUnavailable::Open => {
                tracing::warn!(proxy = self.title, "an answer was held too long for its record, and is passed on");
                Ok(())
            }
            WhenUnavailable::Closed => Err(own(
                StatusCode::SERVICE_UNAVAILABLE,
                "the service has answered, but its answer is held back: the record of the request is not durable yet. \
                 The record is kept and goes on being tried; look before you repeat the request",
            )),
        }
    }
}

impl Silence {
    fn answered(self, pending: &mut Pending, waited: Duration) -> Reply {
        let (status, reason) = match self {
            Self::Failed(error @ UpstreamError::ConnectTimeout(_)) => (StatusCode::GATEWAY_TIMEOUT, error.to_string()),
            Self::Failed(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
            Self::Service => {
                (StatusCode::GATEWAY_TIMEOUT, format!("the service did not answer within {} s", waited.as_secs_f32()))
            }
            Self::Unasked => {
                (StatusCode::BAD_GATEWAY, "the service changed the protocol of a request that had not asked for it".to_owned())
            }
            Self::Client => {
                (StatusCode::REQUEST_TIMEOUT, format!("the request did not arrive within {} s", waited.as_secs_f32()))
            }
        };
        tracing::debug!(reason, "a service gave no answer");
        pending.end_now(End::Failed { status: status.as_u16(), reason });
        // What is wrong behind it is not the client's business: the record tells.
        own(status, "the service gave no answer")
    }
}
