//! A reverse proxy in front of a service: who asked it for what, and how it answered, without a change to the service.
//!
//! What it promises: requests and answers pass piece by piece, neither held up nor changed but for what is of one hop
//! alone; each request that is passed on has its record, or is counted in a gap; where requests that can't be recorded
//! must not be passed on, none is. It never ends with the pipeline.
//!
//! In the order of a request's way: the [`door`] takes connections, [`forward`] reserves a place in the [`queue`] and asks
//! the [`upstream`]; what became of it is an [`exchange`], which the [`clerk`] hands to the pipeline.

mod clerk;

pub mod config;

mod door;

pub mod exchange;

mod forward;

mod heads;

mod headers;

pub mod jwks;

pub mod jwt;

pub mod openapi;

mod pending;

mod queue;

mod reply;

pub mod service;

mod standing;

mod tee;

mod tunnel;

mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::clerk::Clerk;
pub use self::config::Config;
use self::config::{AnswerAfter, ClientCertificates};
use self::door::{Door, Tasks};
pub use self::exchange::Exchange;
use self::forward::Forwarder;
pub use self::heads::{is_form, is_json};
use self::jwt::{Demands, Verifier};
pub use self::queue::HasRoom;
use self::service::Service;
pub use self::standing::Standing;
use self::upstream::Upstream;
use super::listener::{Tls, TlsError, TlsFiles};
use crate::observation::Intake;
use crate::sources::api;

/// A proxy that can't listen tries again after this long: its port may become free.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Runs every proxy until told to stop. One that can't listen does not keep the others from their requests.
pub async fn run_all(configs: Vec<Config>, has_room: HasRoom, standing: Standing, intake: Intake, stop: CancellationToken) {
    let mut running = JoinSet::new();
    for config in configs {
        running.spawn(keep(config, Arc::clone(&has_room), standing.clone(), intake.clone(), stop.clone()));
    }
    while running.join_next().await.is_some() {}
}

/// One proxy: listens as soon as it can.
async fn keep(config: Config, has_room: HasRoom, standing: Standing, intake: Intake, stop: CancellationToken) {
    let title = config.title();
    while !stop.is_cancelled() {
        match open(&config).await {
            Ok(door) => {
                standing.say(&title, None);
                return run(&config, door, has_room, standing, intake, stop).await;
            }
            Err(reason) => {
                tracing::error!(proxy = title, reason, "a proxy takes no requests");
                standing.say(&title, Some(format!("takes no requests: {reason}")));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// The sockets and the files of TLS.
async fn open(config: &Config) -> Result<Door, String> {
    let tls = certificate_files(config).map_err(|error| error.to_string())?;
    let mut sockets = Vec::new();
    for address in &config.listen {
        sockets.push(TcpListener::bind(address).await.map_err(|error| format!("listening on {address}: {error}"))?);
    }
    Ok(Door { sockets, tls: tls.map(Arc::new), connections_max: config.connections_max, title: config.title() })
}

fn certificate_files(config: &Config) -> Result<Option<Tls>, TlsError> {
    let (Some(certificate), Some(key)) = (config.certificate.clone(), config.key.clone()) else { return Ok(None) };
    let must_show = config.client_certificates == ClientCertificates::Required;
    Tls::of(TlsFiles { certificate, key, client_ca: config.client_ca.clone(), must_show }).map(Some)
}

/// Serves until told to stop, then until what was asked is recorded.
async fn run(config: &Config, door: Door, has_room: HasRoom, standing: Standing, intake: Intake, stop: CancellationToken) {
    let (service, trouble) = Service::open(config);
    let title = config.title();
    if let Some(trouble) = trouble {
        tracing::error!(proxy = title, reason = trouble, "requests are named without the OpenAPI document");
        standing.say(&format!("{title}, openapi"), Some(trouble));
    }
    let Some(target) = config.upstream.as_ref().map(|target| target.0.clone()) else { return };
    let tasks = Tasks::default();
    let (queue, inbox) = queue::queue(config.queue_max.0, has_room);
    let demands = Demands { issuer: config.jwt_issuer.clone(), audience: config.jwt_audience.clone() };
    let clerk = Clerk {
        inbox,
        missed: queue.missed(),
        intake,
        verifier: config.jwt_keys.as_deref().map(|path| Verifier::open(path, demands)),
        answer_after: recorded_after(config.answer_after),
        title: title.clone(),
        standing,
        sent: JoinSet::new(),
        again: Vec::new(),
        is_stalled: false,
        gaps: clerk::GapTimer::default(),
    };
    let forwarder = Forwarder {
        service: Arc::new(service),
        upstream: Arc::new(Upstream::new(target, config.connect_timeout.0, tasks.clone())),
        queue,
        tasks: tasks.clone(),
        when_unavailable: config.when_unavailable,
        answer_after: config.answer_after,
        hold_max: config.hold_max.0,
        response_timeout: config.response_timeout.0,
        run: Uuid::new_v4().to_string(),
        number: AtomicU64::new(0),
        title,
    };
    // The clerk ends when the queue does: after the last request.
    let served = CancellationToken::new();
    let serve = async {
        door.run(Arc::new(forwarder), tasks, stop).await;
        served.cancel();
    };
    tokio::join!(serve, clerk.run(served.clone()));
}

/// What the pipeline waits for before it says that a record is there.
pub(crate) const fn recorded_after(answer_after: AnswerAfter) -> api::AnswerAfter {
    match answer_after {
        AnswerAfter::Forward | AnswerAfter::Commit => api::AnswerAfter::Commit,
        AnswerAfter::Receipt => api::AnswerAfter::Receipt,
    }
}
