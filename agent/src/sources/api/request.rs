//! One request: `POST /v1/events`, from its head to its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::body::{Body, Piece};
use super::reply::{self, Reply};
use super::{BODY_BYTES_MAX, Post, Sender, Trace};
use crate::observation::{Answer, Intake, Observation, Outcome, Payload, SourceName};
use crate::sources::event::NAME_BYTES_MAX;

/// The one path.
const PATH: &str = "/v1/events";

/// A body that takes longer is given up: a local program writes its body at once.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// A full pipeline is waited for this long before the caller is told to come back.
pub(super) const INTAKE_WAIT: Duration = Duration::from_secs(5);

/// The commit is waited for this long. A commit takes ≤ 100 ms ([`edgetrail_proto::limits::COMMIT_INTERVAL`]) on a disk that answers.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// What a connection's requests need.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) intake: Intake,
    pub(super) sender: Sender,
}

impl Door {
    pub(super) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(self.answer(request).await.map(Full::new))
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Reply {
        self.take(request).await.unwrap_or_else(|refusal| refusal)
    }

    async fn take(&self, request: Request<Incoming>) -> Result<Reply, Reply> {
        check_head(&request)?;
        let key = idempotency_key(&request)?;
        let trace = Trace::of(request.headers()).map(Arc::new);
        let bytes = read(request.into_body()).await?;
        let body = Body::parse(&bytes).map_err(|error| reply::refused_body(&error))?;
        let now = now_ns();
        let mut answers = Vec::with_capacity(body.pieces.len());
        let mut group = Vec::with_capacity(body.pieces.len());
        for (index, piece) in body.pieces.into_iter().enumerate() {
            let (sender, receiver) = oneshot::channel();
            answers.push(receiver);
            let position = self.position(&piece, key.as_deref(), body.single, index);
            group.push(Observation {
                source: SourceName::Api,
                position,
                time: piece.time.unwrap_or(now),
                payload: Payload::Post(Post { event: piece.event, sender: self.sender.clone(), trace: trace.clone() }),
                cursor: None,
                answer: Some(Answer(sender)),
            });
        }
        if group.is_empty() {
            return Ok(reply::taken(&[]));
        }
        match tokio::time::timeout(INTAKE_WAIT, self.intake.send(group)).await {
            Ok(Ok(())) => {}
            Ok(Err(_stopped)) => return Err(reply::unavailable("the agent is stopping: send again when it runs")),
            Err(_elapsed) => return Err(reply::unavailable("the agent is busy: nothing was taken, send again")),
        }
        Ok(reply::taken(&outcomes(answers).await))
    }

    /// docs/protocol.md §2: `peer uid:client's own id`, over the network `token's name:…`, else random.
    fn position(&self, piece: &Piece, key: Option<&str>, single: bool, index: usize) -> String {
        let sender = match &self.sender {
            Sender::Process(peer) => peer.uid.to_string(),
            // No name holds white space, so that none is another's with an id.
            Sender::Network(remote) => format!("token {}", remote.name),
        };
        match (&piece.client_id, key) {
            (Some(id), _) => format!("{sender}:{id}"),
            (None, Some(key)) if single => format!("{sender}:{key}"),
            (None, Some(key)) => format!("{sender}:{key}/{index}"),
            (None, None) => Uuid::new_v4().to_string(),
        }
    }
}

/// In the order of the events; `None` where the pipeline ended without an answer.
pub(super) async fn outcomes(answers: Vec<oneshot::Receiver<Outcome>>) -> Vec<Option<Outcome>> {
    let deadline = tokio::time::Instant::now() + COMMIT_WAIT;
    let mut outcomes = Vec::with_capacity(answers.len());
    for answer in answers {
        outcomes.push(tokio::time::timeout_at(deadline, answer).await.ok().and_then(Result::ok));
    }
    outcomes
}

#[expect(clippy::result_large_err, reason = "a refusal is a whole reply, made once a bad request")]
fn check_head(request: &Request<Incoming>) -> Result<(), Reply> {
    if request.uri().path() != PATH {
        return Err(reply::fault(StatusCode::NOT_FOUND, "NotFound", format!("there is only POST {PATH} here")));
    }
    if request.method() != Method::POST {
        let mut refusal = reply::fault(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", format!("use POST {PATH}"));
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Err(refusal);
    }
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        let message = "the body is encoded: send it as plain JSON, without Content-Encoding";
        return Err(reply::fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, "EncodedBody", message));
    }
    if request.body().size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    Ok(())
}

#[expect(clippy::result_large_err, reason = "a refusal is a whole reply, made once a bad request")]
fn idempotency_key(request: &Request<Incoming>) -> Result<Option<String>, Reply> {
    let Some(value) = request.headers().get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= NAME_BYTES_MAX => Ok(Some(text.to_owned())),
        _ => {
            let message = format!("Idempotency-Key must be 1 to {NAME_BYTES_MAX} bytes of visible ASCII");
            Err(reply::fault(StatusCode::BAD_REQUEST, "InvalidHeader", message))
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, Reply> {
    match tokio::time::timeout(BODY_WAIT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_broken)) => {
            Err(reply::fault(StatusCode::BAD_REQUEST, "BrokenBody", "the body ended early: nothing was taken, send again"))
        }
        Err(_elapsed) => {
            let message = format!("the body did not arrive within {} s: nothing was taken, send again", BODY_WAIT.as_secs());
            Err(reply::fault(StatusCode::REQUEST_TIMEOUT, "SlowBody", message))
        }
    }
}

fn too_large() -> Reply {
    let message = format!("the body is over {BODY_BYTES_MAX} bytes: send its events in several requests");
    reply::fault(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message)
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
