//! Wires the stages, owns every task, stops them in the order of the flow.
//!
//! [`Collector::start`] opens what is durable, in the order in which it depends on each other, and binds the ports;
//! from then on agents and clients are served. [`Collector::run`] ends when it is told to, or when any task ends early:
//! then the process ends with that task's name. Stopping goes down the journey: first nothing new comes in, then the
//! internal stream is closed, then the consumers end at their cursors, the ledger last.

mod acts;
mod notify;
mod relay;

pub use self::relay::Relay;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgetrail_proto::proof::{Base64, ProofReceiptKey};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::acts::Place;
use crate::api::{self, Api, ApiParts};
use crate::config::{Config, INGEST_PORT, ListenerConfig};
use crate::control::{Agent, Control, TrailConfig};
use crate::history::{self, History, HistoryOptions};
use crate::ingest::{self, Ingest};
use crate::internal::{Home, Internal};
use crate::ledger::{Ledger, LedgerOptions};
use crate::pki::{AuthorityOptions, EnrollmentOptions, EnrollmentService, MappedAgent, Pki, PkiOptions};
use crate::trails::{self, Clock, ReceiptKeySource, Trails, TrailsOptions};

/// How long the ports may take to stop: the API drains answers for 10 s. Then each of the three other stages.
/// Source: together below systemd's TimeoutStopSec= of the shipped unit, 30 s.
const PORTS_STOP_MAX: Duration = Duration::from_secs(12);
const STAGE_STOP_MAX: Duration = Duration::from_secs(5);

/// A collector whose ports are bound and whose tasks run.
#[derive(Debug)]
pub struct Collector {
    pub control: Control,
    pub pki: Pki,
    pub ingest_address: SocketAddr,
    pub api_address: SocketAddr,
    stages: Vec<Stage>,
    /// Released when all has ended.
    _hold: std::fs::File,
}

/// Tasks that stop together.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    stop_max: Duration,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), BoxError>>,
    names: HashMap<tokio::task::Id, &'static str>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the collector does not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{} can't be made or written: create it, or give another `collector.state_dir`", path.display())]
    StateDir { path: PathBuf, source: std::io::Error },
    #[error("another collector runs on {}: stop it, or give this one another `collector.state_dir`", path.display())]
    Taken { path: PathBuf },
    #[error("{what} can't listen on {address}: {}", advice(source, section))]
    Listen { what: &'static str, section: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("{what} can't be opened")]
    Open { what: &'static str, source: BoxError },
    #[error("{task} ended early")]
    Ended { task: &'static str, source: Option<BoxError> },
}

impl Collector {
    /// Opens everything and serves. Nothing runs on when this fails.
    pub async fn start(config: &Config) -> Result<Self, RunError> {
        let dir = &config.state_dir;
        create_state_dir(dir).map_err(|source| RunError::StateDir { path: dir.clone(), source })?;
        let hold = hold_state_dir(dir)?;
        // The ports first: what fails most often fails before anything is opened.
        let ingest_listener = listen("ingest", "ingest", &config.ingest).await?;
        let api_listener = listen("the API", "api", &config.api).await?;
        let ingest_address = address(&ingest_listener, &config.ingest);
        let api_address = address(&api_listener, &config.api);

        let control = Control::open(dir).map_err(open_error("the control store"))?;
        control.no_relay_is_connected().map_err(open_error("the control store"))?;
        let names: Vec<String> = config.ingest.names.iter().chain(&config.api.names).cloned().collect();
        let options = PkiOptions {
            authority: AuthorityOptions {
                trust_domain: config.home.trust_domain.clone(),
                certificate_life: config.pki.certificate_life,
                foreign: config.pki.foreign.clone(),
            },
            server_names: names,
            server: config.pki.server.clone(),
        };
        let pki = Pki::open_with(&dir.join("pki"), options, control.revoked());
        let pki = pki.map_err(open_error("the certificate authority"))?;

        for mapped in &config.pki.foreign.agents {
            control.list_agent(&listed_agent(mapped)).map_err(open_error("the table of agents"))?;
        }

        let mut options = LedgerOptions::new(Arc::new(pki.receipt_signer()));
        options.former_keys = pki.own_receipt_keys();
        options.retention = config.ledger_retention;
        options.consumers = vec![trails::CONSUMER.to_owned(), history::CONSUMER.to_owned()];
        let (ledger, ledger_task) = Ledger::open(&dir.join("ledger"), options).map_err(open_error("the ledger"))?;
        let mut storing = Stage::new("ledger", STAGE_STOP_MAX);
        storing.spawn("ledger", ledger_task.run(storing.stop.clone()));

        let home = Home { account: config.home.account, region: config.home.region.clone(), host: config.home.host.clone() };
        let internal = Internal::open(dir, ledger.clone(), pki.authority(), &home).await;
        let (internal, internal_task) = internal.map_err(open_error("the internal stream"))?;
        let restored = internal_task.restored();
        ingest::go_on_restored(&ledger, &pki, restored).await.map_err(open_error("the restored ledger"))?;
        let mut recording = Stage::new("internal stream", STAGE_STOP_MAX);
        recording.spawn("internal stream", internal_task.run(recording.stop.clone()));

        // Before proofs are made and sessions begin: both know the relays' receipt keys.
        let relays = ingest::Relays::start(&control, &pki, &ledger, &internal).await.map_err(open_error("the relays"))?;

        let mut consuming = Stage::new("consumers", STAGE_STOP_MAX);
        control.put_trail(default_trail(config)).map_err(open_error("the default trail"))?;
        let options = TrailsOptions {
            state_dir: dir.clone(),
            trails: control.trails().map_err(open_error("the trails"))?,
            receipt_keys: {
                let pki = pki.clone();
                ReceiptKeySource::new(move || pki.receipt_keys().into_iter().map(proof_receipt_key).collect())
            },
            clock: Clock::default(),
        };
        let (trails, trails_tasks) =
            Trails::start(ledger.clone(), options, consuming.stop.clone()).map_err(open_error("delivery"))?;
        consuming.spawn("trails", trails_tasks.join());
        let options = HistoryOptions { dir: dir.join("history"), retention: config.history_retention };
        let (history, history_task) =
            History::open(options, ledger.clone(), consuming.stop.clone()).map_err(open_error("history"))?;
        consuming.spawn_plain("history", history_task.join());

        let mut serving = Stage::new("ports", PORTS_STOP_MAX);
        serving.spawn("control", control.clone().run(serving.stop.clone()));
        let place = Place { home: home.clone(), partition: config.home.partition.clone() };
        serving.spawn("what operators do", acts::record(control.clone(), internal.clone(), place, serving.stop.clone()));
        serving.spawn_plain("certificate renewal", pki.clone().run(serving.stop.clone()));
        serving.spawn_plain("relays", relays.run(serving.stop.clone()));
        let ingest = Ingest::with_limits(ledger.clone(), control.clone(), &pki, Some(internal.clone()), config.limits);
        serving.spawn("ingest", ingest.serve(ingest_listener, serving.stop.clone()));
        let enrollment = EnrollmentOptions {
            partition: config.home.partition.clone(),
            ingest_endpoints: ingest_endpoints(&config.ingest.names, ingest_address.port()),
        };
        let enrollment = EnrollmentService::new(&pki, control.clone(), enrollment).server();
        let parts = ApiParts {
            control: control.clone(),
            internal,
            trails,
            history,
            home_account: config.home.account,
            home_region: config.home.region.clone(),
            partition: config.home.partition.clone(),
        };
        let (api, recorder) = Api::new(parts);
        let server = api::serve(api_listener, pki.api_tls(), api.router(enrollment), serving.stop.clone());
        serving.spawn_plain("api", server.join());
        // Ends by itself once the server has dropped the API: what was answered is recorded before the stream is closed.
        serving.spawn_plain("recorder of calls", recorder.join());

        serving.spawn("watchdog", notify::watchdog(ledger.clone(), serving.stop.clone()));
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(ingest = %ingest_address, api = %api_address, state_dir = %dir.display(), "collector started");
        notify::ready();
        let stages = vec![serving, recording, consuming, storing];
        Ok(Self { control, pki, ingest_address, api_address, stages, _hold: hold })
    }

    /// Until `stop`, or until a task ends early. Every stage has ended, or run out of its time, when this returns.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        run_stages(self.stages, stop).await
    }
}

/// Until `stop`, or until a task ends early; then each stage ends, in order.
async fn run_stages(mut stages: Vec<Stage>, stop: CancellationToken) -> Result<(), RunError> {
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        error = first_ended(&mut stages) => Err(error),
    };
    if let Err(error) = &ended {
        tracing::error!(error = error as &dyn std::error::Error, "collector stops");
    }
    notify::stopping();
    let mut failed = ended;
    for stage in stages {
        let stopped = stage.end().await;
        failed = failed.and(stopped);
    }
    tracing::info!("collector stopped");
    failed
}

impl Stage {
    fn new(name: &'static str, stop_max: Duration) -> Self {
        Self { name, stop_max, stop: CancellationToken::new(), tasks: JoinSet::new(), names: HashMap::new() }
    }

    fn spawn<E>(&mut self, name: &'static str, task: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: Into<BoxError> + Send + 'static,
    {
        let handle = self.tasks.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// A task that has no error to tell.
    fn spawn_plain(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(name, async move {
            task.await;
            Ok::<(), BoxError>(())
        });
    }

    /// The next task that ends, by name; `None` when all have.
    async fn next_ended(&mut self) -> Option<(&'static str, Result<(), Option<BoxError>>)> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let name = self.names.remove(&id).unwrap_or(self.name);
        Some((
            name,
            match ended {
                Ok((_, Ok(()))) => Ok(()),
                Ok((_, Err(error))) => Err(Some(error)),
                Err(panic) => Err(Some(panic.into())),
            },
        ))
    }

    async fn end(mut self) -> Result<(), RunError> {
        self.stop.cancel();
        let stop_max = self.stop_max;
        let mut failed = Ok(());
        let all = async {
            while let Some((task, ended)) = self.next_ended().await {
                if let Err(source) = ended {
                    failed = Err(RunError::Ended { task, source });
                }
            }
        };
        if tokio::time::timeout(stop_max, all).await.is_err() {
            tracing::warn!(stage = self.name, "did not stop in time");
            self.tasks.abort_all();
        }
        failed
    }
}

/// A task that ends while nobody asked it to is an error, whatever it returned.
async fn first_ended(stages: &mut [Stage]) -> RunError {
    let ended = stages.iter_mut().map(|stage| {
        Box::pin(async move {
            match stage.next_ended().await {
                Some((task, ended)) => RunError::Ended { task, source: ended.err().flatten() },
                None => std::future::pending().await,
            }
        })
    });
    futures::future::select_all(ended).await.0
}

/// An agent of a foreign PKI, as it stands among those that joined: it never did, and its certificate is its PKI's.
fn listed_agent(mapped: &MappedAgent) -> Agent {
    Agent {
        id: mapped.agent,
        host: mapped.name.clone(),
        version: String::new(),
        scopes: vec![(mapped.account, mapped.region.clone())],
        gateway: false,
        certificate_serial: String::new(),
        certificate_expires_ns: 0,
        joined_ns: 0,
        revoked_ns: None,
        last_seen_ns: None,
    }
}

fn default_trail(config: &Config) -> TrailConfig {
    let (home, trail) = (&config.home, &config.trail);
    TrailConfig {
        name: trail.name.clone(),
        arn: config.trail_arn(),
        home_region: home.region.to_string(),
        account: home.account.to_string(),
        bucket: trail.bucket.clone(),
        prefix: trail.prefix.clone(),
        created_ns: Clock::default().now(),
        multi_region: true,
        validation: true,
        kms_key: trail.kms_key.clone(),
        log_interval: trail.log_interval,
        log_bytes: trail.log_bytes,
        digest_interval: trail.digest_interval,
        sink: trail.sink.clone(),
        tags: Default::default(),
    }
}

pub(crate) fn proof_receipt_key(key: edgetrail_link::receipt_keys::ReceiptKey) -> ProofReceiptKey {
    ProofReceiptKey {
        public_key: Base64(key.public_key.0.to_vec()),
        not_before: key.not_before,
        not_after: key.not_after,
        ca_signature: Base64(key.ca_signature),
    }
}

/// The state directory is nobody else's business.
fn create_state_dir(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Two collectors on one ledger would each take the other's half-written segment for a crash's.
fn hold_state_dir(dir: &std::path::Path) -> Result<std::fs::File, RunError> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |source| RunError::StateDir { path: dir.to_owned(), source };
    let file = std::fs::File::options().create(true).append(true).mode(0o600).open(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::Taken { path: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

async fn listen(what: &'static str, section: &'static str, config: &ListenerConfig) -> Result<TcpListener, RunError> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { what, section, address, source })
}

/// With port 0 the system chose one.
fn address(listener: &TcpListener, config: &ListenerConfig) -> SocketAddr {
    listener.local_addr().unwrap_or(config.listen)
}

/// `host:port` of a URL or endpoint; an IPv6 address stands in brackets.
pub(crate) fn authority(name: &str, port: u16) -> String {
    if name.contains(':') && !name.starts_with('[') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
}

/// What agents are told at joining: a host and port; without a name the port alone, on the host that they joined.
fn ingest_endpoints(names: &[String], port: u16) -> Vec<String> {
    match names.first() {
        Some(name) => vec![authority(name, port)],
        None if port == INGEST_PORT => Vec::new(),
        None => vec![format!(":{port}")],
    }
}

fn open_error<E: Into<BoxError>>(what: &'static str) -> impl FnOnce(E) -> RunError {
    move |source| RunError::Open { what, source: source.into() }
}

fn advice(source: &std::io::Error, section: &str) -> String {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("stop what listens there (`ss -ltnp` shows it) or set another `{section}.listen`")
        }
        std::io::ErrorKind::PermissionDenied => format!("set `{section}.listen` to a port above 1023"),
        std::io::ErrorKind::AddrNotAvailable => format!("correct `{section}.listen`: this host has no such address"),
        _ => format!("correct `{section}.listen`"),
    }
}
