//! Which sources run, and why the others don't.
//!
//! Each source is a task. One that is not offered here stays off; one that failed starts again after a while, from its
//! cursor. Either is logged, shown by `status` and recorded: that nothing was captured is itself worth a record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edgetrail_proto::chain::Binding;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::buffer::{Addition, Buffer, Counted, Room};
use crate::clock::unix_ns;
use crate::config::{Config, Sources};
use crate::control::SourceStatus;
use crate::observation::{Intake, SourceName};
use crate::report::Reporter;
use crate::sources::SourceError;
use crate::sources::api::ApiSource;
use crate::sources::audit;
use crate::sources::audit::rules::Keeper;
use crate::sources::docker::Images;
use crate::sources::file::FileSource;
use crate::sources::journal::{self, JournalSource};
use crate::sources::kubernetes::KubernetesSource;
use crate::sources::otlp::OtlpSource;
use crate::sources::sudo::SudoSource;
use crate::sources::{cloudtrail, docker, proxy, syslog, vault};

/// A source that failed starts again after this long.
const RESTART_AFTER: Duration = Duration::from_secs(10);

/// All sources of this agent.
#[derive(Debug)]
pub(super) struct Roster {
    sources: Sources,
    state_dir: std::path::PathBuf,
    /// What the agent's records may be of.
    binding: Binding,
    images: Images,
    buffer: Buffer,
    reporter: Reporter,
    states: States,
}

/// What is on, and why what is not is off.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    off: Arc<Mutex<BTreeMap<SourceName, Option<String>>>>,
    /// What is wrong with proxies that run all the same.
    proxy: proxy::Standing,
}

impl States {
    fn set(&self, source: SourceName, off: Option<String>) -> bool {
        let mut states = self.off.lock().unwrap_or_else(PoisonError::into_inner);
        states.insert(source, off.clone()) != Some(off)
    }

    pub(super) fn list(&self) -> Vec<SourceStatus> {
        let states = self.off.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(source, off): (&SourceName, &Option<String>)| SourceStatus {
            source: source.as_str().to_owned(),
            on: off.is_none(),
            reason: off.clone().or_else(|| self.proxy.text().filter(|_| *source == SourceName::Proxy)),
        };
        states.iter().map(status).collect()
    }
}

impl Roster {
    pub(super) fn new(config: &Config, binding: Binding, images: Images, buffer: Buffer, reporter: Reporter) -> Self {
        let roster = Self {
            sources: config.sources.clone(),
            state_dir: config.state_dir.clone(),
            binding,
            images,
            buffer,
            reporter,
            states: States::default(),
        };
        for source in SourceName::ALL {
            roster.states.set(source, off(&roster.sources, source).map(str::to_owned));
        }
        roster
    }

    /// Those that the configuration turns on, highest first.
    pub(super) fn enabled(&self) -> Vec<SourceName> {
        SourceName::ALL.into_iter().filter(|&source| off(&self.sources, source).is_none()).collect()
    }

    pub(super) fn states(&self) -> States {
        self.states.clone()
    }

    /// Runs every source until told to stop, then waits for each.
    pub(super) async fn run(self, intake: Intake, stop: CancellationToken) {
        let roster = Arc::new(self);
        let mut running = JoinSet::new();
        for source in roster.enabled() {
            running.spawn(Arc::clone(&roster).keep(source, intake.clone(), stop.clone()));
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a source's task ended by itself");
            }
        }
        // An agent without a source goes on: its heartbeats and reports say that it lives and captures nothing.
        stop.cancelled().await;
        // The pipeline ends when the last intake is gone.
        drop(intake);
    }

    /// One source, started again while that may help.
    async fn keep(self: Arc<Self>, source: SourceName, intake: Intake, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let error = match self.start(source, intake.clone(), stop.clone()).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let (reason, again) = match &error {
                SourceError::Unavailable { why, .. } => (why.clone(), false),
                SourceError::Failed { .. } => (format!("{error}{cause}"), true),
            };
            if self.states.set(source, Some(reason.clone())) {
                tracing::warn!(%source, reason, "a source is off");
                self.report(source, "off", Some(reason)).await;
            }
            if !again {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RESTART_AFTER) => {}
                () = stop.cancelled() => return,
            }
            tracing::info!(%source, "starting a source again");
            if self.states.set(source, None) {
                self.report(source, "on", None).await;
            }
        }
    }

    async fn start(&self, source: SourceName, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
        let failed = |cause: crate::buffer::BufferError| SourceError::Failed {
            source_name: source,
            doing: "reading its cursor".to_owned(),
            cause: Box::new(cause),
        };
        let cursors = self.buffer.cursors(source).map_err(failed)?;
        match source {
            SourceName::Audit => {
                let of = |key: &str| cursors.iter().find(|cursor| cursor.key == key).cloned();
                match self.sources.audit.log.clone() {
                    Some(log) => audit::log::run(log.clone(), of(&audit::log::key(&log)), intake, stop).await,
                    None => {
                        let rules = Keeper::new(&self.sources.audit.rules).unwrap_or_else(|error| {
                            tracing::warn!(%error, "managed audit rules can't be kept");
                            None
                        });
                        let start = of(audit::cursor::KERNEL_KEY);
                        audit::kernel::run(self.sources.audit.stream(), rules, start, intake.prompt(), stop).await
                    }
                }
            }
            SourceName::File => FileSource::new(self.sources.file.clone(), cursors)?.run(intake, stop).await,
            SourceName::Api => {
                let source = ApiSource::open(&self.sources.api, &self.state_dir, &self.binding).await?;
                source.run(intake.prompt(), stop).await
            }
            SourceName::Kubernetes => KubernetesSource::open(&self.sources.kubernetes).await?.run(intake.prompt(), stop).await,
            SourceName::Sudo => SudoSource::open(&self.sources.sudo).await?.run(intake.prompt(), stop).await,
            SourceName::Otlp => OtlpSource::open(&self.sources.otlp).await?.run(intake.prompt(), stop).await,
            SourceName::Docker => docker::run(self.sources.docker.clone(), cursors, self.images.clone(), intake, stop).await,
            SourceName::Vault => vault::run(&self.sources.vault, intake.prompt(), stop).await,
            SourceName::Syslog => syslog::run(&self.sources.syslog, intake.prompt(), stop).await,
            SourceName::CloudTrail => cloudtrail::run_all(self.sources.cloudtrail.clone(), cursors, intake, stop).await,
            SourceName::Proxy => {
                let room = self.buffer.room();
                let has_room: proxy::HasRoom = Arc::new(move || *room.borrow() == Room::Open);
                let standing = self.states.proxy.clone();
                proxy::run_all(self.sources.proxy.clone(), has_room, standing, intake.prompt(), stop).await;
                Ok(())
            }
            SourceName::Journal => {
                let cursor = cursors.into_iter().find(|cursor| cursor.key == journal::CURSOR_KEY);
                JournalSource::new(self.sources.journal.clone(), cursor)?.run(intake, stop).await
            }
        }
    }

    async fn report(&self, source: SourceName, state: &'static str, reason: Option<String>) {
        let mut addition = Addition::default();
        addition.record(&self.reporter.source(source, state, reason.as_deref(), unix_ns()), Counted::Own);
        let buffer = self.buffer.clone();
        let appended = tokio::task::spawn_blocking(move || buffer.append(addition)).await;
        if !matches!(appended, Ok(Ok(()))) {
            tracing::warn!(%source, state, "the report on a source could not be kept");
        }
    }
}

/// Why the configuration keeps a source off.
fn off(sources: &Sources, source: SourceName) -> Option<&'static str> {
    match source {
        SourceName::Audit => (!sources.audit.enabled).then_some("turned off by sources.audit.enabled"),
        SourceName::Journal => (!sources.journal.enabled).then_some("turned off by sources.journal.enabled"),
        SourceName::File => sources.file.is_empty().then_some("no file is configured: add [[sources.file]] with paths"),
        SourceName::Docker => sources.docker.is_off().then_some("sources.docker.sockets and .containerd are not given"),
        SourceName::Vault => sources.vault.is_off().then_some("sources.vault.unix and .tcp are not given"),
        SourceName::Syslog => sources.syslog.is_off().then_some("no socket of sources.syslog is given"),
        SourceName::CloudTrail => sources.cloudtrail.is_empty().then_some("no [[sources.cloudtrail]] is given"),
        SourceName::Api => (!sources.api.enabled).then_some("turned off by sources.api.enabled"),
        SourceName::Kubernetes => sources.kubernetes.listen.is_empty().then_some("sources.kubernetes.listen is not given"),
        SourceName::Sudo => sources.sudo.listen.is_empty().then_some("sources.sudo.listen is not given"),
        SourceName::Proxy => sources.proxy.is_empty().then_some("no [[sources.proxy]] is given"),
        SourceName::Otlp => sources.otlp.listen.is_empty().then_some("sources.otlp.listen is not given"),
    }
}
