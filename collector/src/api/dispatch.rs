//! One request from head to answer: whose it is, what it asks, what is recorded of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use bytes::Bytes;
use edgetrail_sigv4::{Claim, SigV4Error};
use http::request::Parts;
use http::{Method, StatusCode};
use uuid::Uuid;

use super::authority::Wanted;
use super::caller::{Call, Caller, Peer};
use super::event::{Context, Event};
use super::fault::{Fault, Protocol};
use super::{Api, cloudtrail, reply, s3, sts};

/// Largest body. CloudTrail's largest request built here, LookupEvents, stays below 100 KB.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an answer may take in all; clients give up after 60 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(50);

/// Whom a request is meant for, by the service in its credential scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    CloudTrail,
    Sts,
    S3,
    Organizations,
    Unknown,
}

/// A call as its service answered it.
#[derive(Debug)]
pub(super) struct Answered {
    pub event: Event,
    pub result: Result<Response, Fault>,
    /// The call takes effect by its record: commit that first, then wait for the trails.
    pub by_record: bool,
}

impl Answered {
    pub(super) fn new(event: Event, result: Result<Response, Fault>) -> Self {
        Self { event, result, by_record: false }
    }
}

pub(super) async fn answer(State(api): State<Api>, peer: Option<Extension<Peer>>, request: Request) -> Response {
    let Some(Extension(peer)) = peer else {
        tracing::error!("a request came without its connection's facts");
        return Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(Body::empty()).unwrap_or_default();
    };
    let request_id = Uuid::new_v4();
    let (head, body) = request.into_parts();
    let service = Service::of(&head);
    let protocol = service.protocol();
    let context = Context { parts: api.parts(), head: &head, peer: &peer, request_id };
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, handle(&api, &context, service, body)).await;
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(fault)) => reply::refusal(&fault, protocol, head.uri.path(), request_id),
        Err(_elapsed) => {
            tracing::warn!(%request_id, path = head.uri.path(), "an answer took too long");
            reply::refusal(&Fault::internal(protocol), protocol, head.uri.path(), request_id)
        }
    };
    reply::finished(response, protocol, &head.method, request_id)
}

async fn handle(api: &Api, context: &Context<'_>, service: Service, body: Body) -> Result<Response, Fault> {
    let protocol = service.protocol();
    let claim = Claim::parse(context.head);
    let claimed_key = claim.as_ref().ok().map(|claim| claim.access_key_id.clone());
    let (caller, body) = match authenticate(api, context, claim, protocol, body).await {
        Ok(verified) => verified,
        Err(fault) => {
            if fault.is_callers() && !api.0.attempts.failed(context.peer.address.ip(), claimed_key.as_deref(), Instant::now()) {
                api.0.recorder.pass_over();
                return Err(Fault::throttled(protocol));
            }
            let event = service.presumed_event(context.head);
            api.0.recorder.record_refused(event.into_record(context, None, claimed_key.as_deref(), Some(&fault)));
            return Err(fault);
        }
    };
    let answered = match service {
        Service::CloudTrail => cloudtrail::answer(api, context.head, &caller, &body).await,
        Service::Sts => sts::answer(context.head, &caller, &body, context.request_id),
        Service::S3 => s3::answer(api, context.head, &caller).await,
        Service::Organizations => organizations(context.head, &caller),
        Service::Unknown => {
            let fault = Fault::client("UnknownOperationException", "this endpoint serves cloudtrail, s3 and sts");
            Answered::new(Event::new("api.edgetrail", "UnknownService", true), Err(fault))
        }
    };
    record(api, context, &caller, answered, protocol).await
}

/// The signature and the body under it. Nothing of the body is read before the key is known and the time is right.
async fn authenticate(
    api: &Api,
    context: &Context<'_>,
    claim: Result<Claim, SigV4Error>,
    protocol: Protocol,
    body: Body,
) -> Result<(Caller, Bytes), Fault> {
    let refused = |error: SigV4Error| Fault::of_signature(&error, protocol);
    if protocol == Protocol::S3 && !matches!(context.head.method, Method::GET | Method::HEAD) {
        return Err(s3::read_only());
    }
    let claim = claim.map_err(refused)?;
    let key = api.parts().control.access_key(&claim.access_key_id).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "access keys cannot be read");
        Fault::internal(protocol)
    })?;
    let key = key.ok_or_else(|| refused(SigV4Error::UnknownKey))?;
    claim.check_time(now_seconds()).map_err(refused)?;
    let body = read_body(body, protocol).await?;
    claim.verify(context.head, &body, &key.secret, now_seconds()).map_err(refused)?;
    let principal = api.parts().control.principal(&key.account, &key.name).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, user = key.name, "a principal's policies cannot be read");
        Fault::internal(protocol)
    })?;
    let call = Call {
        region: claim.scope.region,
        partition: &api.parts().partition,
        peer: context.peer,
        user_agent: context.head.headers.get("user-agent").and_then(|agent| agent.to_str().ok()),
    };
    Ok((Caller::new(&key, principal, call, now_seconds()), body))
}

async fn read_body(body: Body, protocol: Protocol) -> Result<Bytes, Fault> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await;
    match collected {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(Fault::too_large(protocol, BODY_BYTES_MAX)),
        Ok(Err(_)) => Err(Fault::client("RequestTimeout", "the body could not be read to its end")),
        Err(_elapsed) => Err(Fault::client("RequestTimeout", "the body took too long to arrive")),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

async fn record(
    api: &Api,
    context: &Context<'_>,
    caller: &Caller,
    answered: Answered,
    protocol: Protocol,
) -> Result<Response, Fault> {
    let Answered { event, result, by_record } = answered;
    let record = event.into_record(context, Some(caller), None, result.as_ref().err());
    if !by_record || result.is_err() {
        api.0.recorder.record(record).await;
        return result;
    }
    let index = api.parts().internal.record(record).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a call could not be recorded, so it has no effect");
        Fault::internal(protocol)
    })?;
    // From here on the call has taken effect, whatever becomes of its answer.
    api.parts().trails.passed(index).await;
    result
}

fn organizations(head: &Parts, caller: &Caller) -> Answered {
    let name = shown(target(head).rsplit('.').next().unwrap_or_default());
    let event = Event::new("organizations.amazonaws.com", &name, true);
    if let Err(denied) = caller.may(&Wanted::of(format!("organizations:{name}")), Protocol::Json) {
        return Answered::new(event, Err(denied));
    }
    let fault = Fault::client("AWSOrganizationsNotInUseException", "the account is not a member of an organization");
    Answered::new(event, Err(fault))
}

impl Service {
    fn of(head: &Parts) -> Self {
        match edgetrail_sigv4::service_of(head).as_deref() {
            Some("cloudtrail") => Self::CloudTrail,
            Some("sts") => Self::Sts,
            Some("s3") => Self::S3,
            Some("organizations") => Self::Organizations,
            Some(_) => Self::Unknown,
            None if head.headers.contains_key("x-amz-target") => Self::CloudTrail,
            None if head.method == Method::POST => Self::Sts,
            None => Self::S3,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Self::CloudTrail | Self::Organizations | Self::Unknown => Protocol::Json,
            Self::Sts => Protocol::Query,
            Self::S3 => Protocol::S3,
        }
    }

    /// What an unverified request says it wants: enough to record that it was refused.
    fn presumed_event(self, head: &Parts) -> Event {
        let operation = target(head).rsplit('.').next().unwrap_or_default().to_owned();
        match self {
            Self::CloudTrail => cloudtrail::presumed_event(&shown(&operation)),
            Self::Organizations => Event::new("organizations.amazonaws.com", &shown(&operation), true),
            Self::Sts => Event::new(sts::SOURCE, "UnknownOperation", true),
            Self::S3 => s3::presumed_event(head),
            Self::Unknown => Event::new("api.edgetrail", "UnknownService", true),
        }
    }
}

pub(super) fn target(head: &Parts) -> &str {
    head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default()
}

/// An operation's name as it may stand in a record.
fn shown(name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    if name.is_empty() { "UnknownOperation".to_owned() } else { name }
}

pub(super) fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
