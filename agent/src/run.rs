//! Wires the stages, owns every task, stops them in the order of the flow.
//!
//! Start: buffer, pipeline, sources, uplink; then the service manager hears READY. Stop: sources, pipeline, buffer (a
//! close is sealed), uplink (the close goes out), bounded by a grace period; the caller ends the process on a second
//! signal. A source that can't start is reported and the others go on; a stage that ends early ends the agent.

mod roster;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::outbox::Outbox;
use edgetrail_link::uplink;
use edgetrail_proto::chain::{Binding, BindingError};
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::buffer::{self, Buffer, BufferError, BufferTask, Opener, Room};
use crate::clock::unix_ns;
use crate::config::Config;
use crate::control::{Control, Offers, PassedOver, Status, StatusOf, UplinkStatus, WaitingStream};
use crate::enroll::{EnrollError, Enrollment, Renewal};
use crate::normalize::journal::sessions;
use crate::normalize::lines::vault;
use crate::normalize::names::Names;
use crate::normalize::{Host, Normalizer, audit, kubernetes};
use crate::observation::{SourceName, intake};
use crate::pipeline::{Pipeline, tap};
use crate::redact::Redactor;
use crate::report::Reporter;
use crate::select::Selection;
use crate::sources::docker::Images;
use crate::sources::lines::Mapping;
use roster::Roster;

/// Why the agent can't start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("this host has not joined a collector: run `edgetrail-agent join URL --token T --ca-pin sha256:…`, as `edgetrail-collector token create` prints it; nothing was found in {}", dir.display())]
    NotJoined { dir: PathBuf },
    #[error("the identity in the state directory can't be used")]
    Enrollment(#[from] EnrollError),
    #[error("the streams can't be bound to this host")]
    Binding(#[from] BindingError),
    #[error("the buffer can't be opened")]
    Buffer(#[from] BufferError),
    #[error("the configuration can't be used: {0}")]
    Config(String),
    #[error("the thread `{name}` can't be started")]
    Thread {
        name: &'static str,
        #[source]
        cause: std::io::Error,
    },
    #[error("the stage `{name}` ended by itself")]
    Ended {
        name: &'static str,
        #[source]
        cause: Option<BufferError>,
    },
    #[error("the orderly stop took longer than {} s: the next start reports a gap", grace.as_secs())]
    Grace { grace: Duration },
}

/// Runs until told to stop.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let enrollment = match &config.identity {
        Some(supplied) => supplied.take_up(&config.state_dir, &host_name(&config))?,
        None => match Enrollment::load(&config.state_dir)? {
            Some(enrollment) => enrollment,
            None => return Err(RunError::NotJoined { dir: config.state_dir }),
        },
    };
    let host = host(&config, &enrollment);
    let binding = binding(&enrollment, &host)?;
    let reporter = Reporter::new(host.clone());
    let opener = Opener::new(host.agent, binding.clone(), &config.state_dir).map_err(BufferError::from)?;
    let (buffer, buffer_task, shelf) =
        Buffer::open(&edgetrail_disk::Medium::real(), &config.state_dir, opener, reporter.clone(), config.buffer.clone())?;

    let tap = tap();
    let (intake, outlet) = intake();
    let redactor = Redactor::new(config.redact.clone()).map_err(|error| RunError::Config(error.to_string()))?;
    let sessions = buffer.cursors(SourceName::Audit)?.into_iter().find(|cursor| cursor.key == audit::SESSIONS_KEY);
    let logins = buffer.cursors(SourceName::Journal)?.into_iter().find(|cursor| cursor.key == sessions::KEY);
    let stages = buffer.cursors(SourceName::Kubernetes)?;
    let requests = buffer.cursors(SourceName::Vault)?.into_iter().find(|cursor| cursor.key == vault::CURSOR_KEY);
    let cluster = config.sources.kubernetes.cluster.clone();
    let gateway = Mapping::open("access", config.sources.otlp.access.clone());
    let gateway = gateway.map_err(|error| RunError::Config(error.to_string()))?;
    let images = Images::default();
    let selection = Selection::new(&config.select);
    let decoder = audit::Decoder::restore(sessions.as_ref()).of_this_host(images.clone());
    let decoder = if selection.refuses_data() { decoder.without_data() } else { decoder };
    let normalizer = Normalizer::new(host.clone(), decoder, Names::default())
        .with_kubernetes(kubernetes::Decoder::restore(cluster, &stages))
        .with_gateway(gateway)
        .with_requests(vault::Requests::restore(requests.as_ref()))
        .with_journal(sessions::Sessions::restore(logins.as_ref()));
    let roster = Roster::new(&config, binding, images, buffer.clone(), reporter);
    let pipeline = Pipeline::new(
        normalizer,
        roster.enabled(),
        selection,
        redactor,
        buffer.clone(),
        SourceName::ALL.map(|source| (source, config.sources.answer_after(source))).into(),
        tap.clone(),
    )?;
    // Stages after the sources stop later: each has a handle of its own.
    let (sources_stop, uplink_stop) = (stop.child_token(), CancellationToken::new());
    let started = pipeline.start(outlet, Handle::current(), sources_stop.clone());
    let pipeline = started.map_err(|cause| RunError::Thread { name: "pipeline", cause })?;
    let mut later = JoinSet::new();
    let mut identity = enrollment.identity.clone();
    if !config.uplink.collectors.is_empty() {
        identity.endpoints.clone_from(&config.uplink.collectors);
    }
    let (renewal, credentials) = Renewal::new(enrollment)?;
    let renewal = renewal.from_files(config.identity.clone());
    let outbox: Arc<dyn Outbox> = Arc::new(shelf);
    let (uplink, uplink_status) = crate::uplink::uplink(&identity, config.uplink.return_after.0, credentials, outbox)
        .map_err(|error| RunError::Config(format!("an endpoint of the collector can't be used: {error}")))?;
    later.spawn(uplink.run(uplink_stop.clone()));
    later.spawn(renewal.run(uplink_stop.clone()));
    let status = status_of(&config, &roster, buffer.room(), uplink_status);
    let repairing = buffer.clone();
    let offers = Offers { status, repair: Arc::new(move || repairing.repair()), tap };
    match Control::listen(&config.control_socket, offers) {
        Ok(control) => drop(later.spawn(control.run(uplink_stop.clone()))),
        Err(error) => {
            tracing::warn!(%error, path = %config.control_socket.display(), "no control socket: status and tap won't reach this agent");
        }
    }

    let mut pipeline_end = JoinSet::new();
    pipeline_end.spawn_blocking(move || pipeline.join());
    let mut sources = JoinSet::new();
    sources.spawn(roster.run(intake, sources_stop));
    notify(&[NotifyState::Ready]);
    tracing::info!(agent = %host.agent, account = %host.account, region = %host.region, host = host.name, "capturing");

    tokio::select! {
        () = stop.cancelled() => {}
        ended = pipeline_end.join_next() => return Err(RunError::Ended { name: "pipeline", cause: cause_of(ended) }),
        () = watchdog(&buffer_task) => return Err(RunError::Ended { name: "buffer", cause: None }),
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    let grace = config.stop_grace;
    let flow = async {
        while sources.join_next().await.is_some() {}
        if let Some(cause) = cause_of(pipeline_end.join_next().await) {
            return Err(RunError::Ended { name: "pipeline", cause: Some(cause) });
        }
        blocking(move || buffer.close()).await?;
        uplink_stop.cancel();
        while later.join_next().await.is_some() {}
        blocking(move || buffer_task.end()).await?;
        Ok(())
    };
    tokio::time::timeout(grace, flow).await.unwrap_or(Err(RunError::Grace { grace }))
}

/// The host that records are made on.
pub fn host(config: &Config, enrollment: &Enrollment) -> Host {
    let identity = &enrollment.identity;
    Host {
        agent: identity.agent_id,
        name: config.host.clone().unwrap_or_else(|| identity.host.clone()),
        account: identity.account,
        region: identity.region.clone(),
        partition: identity.partition.clone(),
        keep_raw: config.keep_raw,
    }
}

/// The configured name, else the kernel's.
fn host_name(config: &Config) -> String {
    let kernels = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    config.host.clone().unwrap_or_else(kernels)
}

fn binding(enrollment: &Enrollment, host: &Host) -> Result<Binding, BindingError> {
    let scopes = enrollment.identity.scopes.iter().map(|scope| (scope.account, scope.region.clone()));
    Binding::set(scopes, &host.name)
}

fn status_of(config: &Config, roster: &Roster, room: watch::Receiver<Room>, uplink: watch::Receiver<uplink::Status>) -> StatusOf {
    let dir = config.state_dir.clone();
    let sources = roster.states();
    let started = unix_ns();
    Arc::new(move || {
        let link = uplink.borrow().clone();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            started,
            sources: sources.list(),
            room: *room.borrow() == Room::Open,
            buffer: buffer::status(&dir)?,
            uplink: UplinkStatus {
                connected: link.connected.map(|endpoint| endpoint.to_string()),
                since: link.connected_since.map(clock_of),
                passed_over: link.passed_over.into_iter().map(passed_over).collect(),
                in_flight: link.in_flight,
                trouble: link.trouble.map(|trouble| trouble.error),
                forked: link.forked,
                waiting: link.waiting.iter().map(waiting).collect(),
            },
            certificate_ends: certificate_ends(&dir),
        })
    })
}

fn waiting(stream: &uplink::WaitingStream) -> WaitingStream {
    let uplink::WaitingStream { stream, from, to, signer } = stream;
    WaitingStream { stream: stream.to_string(), from: *from, to: *to, signer: signer.to_hex() }
}

fn passed_over(passed: uplink::PassedOver) -> PassedOver {
    PassedOver { collector: passed.endpoint.to_string(), error: passed.error, since: clock_of(passed.since) }
}

/// Unix nanoseconds.
fn clock_of(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// When the certificate ends, Unix seconds; `None` where none can be read.
pub fn certificate_ends(dir: &Path) -> Option<i64> {
    Enrollment::load(dir).ok()??.validity().ok().map(|(_, end)| end)
}

/// Tells the service manager that the stages are alive; returns when the buffer's thread is not.
async fn watchdog(buffer: &BufferTask) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        ticks.tick().await;
        if buffer.is_finished() {
            return;
        }
        notify(&[NotifyState::Watchdog]);
    }
}

/// Without a service manager this does nothing.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be notified");
    }
}

fn cause_of(ended: Option<Result<Result<(), BufferError>, tokio::task::JoinError>>) -> Option<BufferError> {
    match ended {
        Some(Ok(Ok(()))) | None => None,
        Some(Ok(Err(error))) => Some(error),
        Some(Err(_)) => Some(BufferError::Stopped),
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), BufferError> + Send + 'static) -> Result<(), BufferError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BufferError::Stopped))
}
