//! What home says while the relay runs: who is revoked or has forked, whose receipts are trusted, whether home is an older
//! copy of itself; and the next certificate.
//!
//! A relay that can't reach home lives on by what it was told last; that is kept, so that a restart knows it too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::tls::TlsError;
use edgetrail_link::transport::{Dial, Tcp};
use edgetrail_link::uplink::{self, Credentials};
use edgetrail_link::wire;
use edgetrail_link::wire::ingest_client::IngestClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::forward::Standing;
use super::identity::{RelayError, RelayPapers};
use super::progress::{Progress, ProgressError};
use super::reporter::Reporter;
use super::trust::RelayTrust;
use crate::ledger::{Act, CommitError, Ledger};

/// The certificate's age is looked at this often, however far its half-life is.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// After a failure, of either kind.
const RETRY: Duration = Duration::from_secs(5);
const RENEWAL_RETRY: Duration = Duration::from_secs(10);

/// Keeps what home says in use. One task: [`Home::run`].
pub struct Home {
    dir: PathBuf,
    dial: Arc<dyn Dial>,
    /// What of the relay changes when home says so, besides its papers: `None` before [`Home::minding`].
    minded: Option<Minded>,
    papers: watch::Sender<Arc<RelayPapers>>,
    trust: RelayTrust,
    credentials: watch::Sender<Arc<Credentials>>,
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Minded {
    ledger: Ledger,
    progress: Arc<Progress>,
    standing: watch::Receiver<Standing>,
}

#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("what home gave this relay can't be used")]
    Papers(#[source] RelayError),
    #[error("TLS can't be configured by what home gave")]
    Tls(#[source] TlsError),
    #[error("home can't be reached")]
    Connect(#[source] uplink::ConnectError),
    #[error("home has ended the conversation")]
    Ended(#[source] Box<tonic::Status>),
    #[error("home has closed the connection")]
    Closed,
    #[error("what home says can't be kept")]
    Progress(#[source] ProgressError),
    #[error("the relay's ledger does not take what home says of a fork")]
    Ledger(#[source] CommitError),
}

impl Home {
    /// With whom the relay believes, and the credentials that it shows home.
    pub fn open(dir: PathBuf, papers: RelayPapers) -> Result<(Self, RelayTrust, watch::Receiver<Arc<Credentials>>), HomeError> {
        papers.statement().ok_or(HomeError::Papers(RelayError::Damaged))?;
        let papers = Arc::new(papers);
        let trust = RelayTrust::new(Arc::clone(&papers)).map_err(HomeError::Tls)?;
        let (credentials, receiver) = watch::channel(Arc::new(papers.credentials().map_err(HomeError::Papers)?));
        let papers = watch::Sender::new(papers);
        let dial = Tcp::dialer();
        Ok((Self { dir, dial, minded: None, papers, trust: trust.clone(), credentials }, trust, receiver))
    }

    /// Freezes in this ledger what home says has forked, doubts what home has given receipts for before it was restored, and
    /// reports how the relay stands and what it has noticed.
    #[must_use]
    pub fn minding(self, ledger: Ledger, progress: Arc<Progress>, standing: watch::Receiver<Standing>) -> Self {
        Self { minded: Some(Minded { ledger, progress, standing }), ..self }
    }

    /// Over another network than the host's.
    #[must_use]
    pub fn over(self, dial: Arc<dyn Dial>) -> Self {
        Self { dial, ..self }
    }

    /// What the relay lives by, as of now and after each change.
    pub fn papers(&self) -> watch::Receiver<Arc<RelayPapers>> {
        self.papers.subscribe()
    }

    /// Until stopped. A failure is logged and tried again: nothing that agents send waits for it.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = tokio::select! {
                () = stop.cancelled() => return,
                wait = self.turn() => wait,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Renews where it is time, then listens until the next time or the first failure. How long to wait then.
    async fn turn(&mut self) -> Duration {
        if self.renews_in().is_zero() {
            if let Err(error) = self.renew().await {
                warn(&error, "the relay's certificate could not be renewed");
                return RENEWAL_RETRY;
            }
            if self.renews_in().is_zero() {
                return RENEWAL_RETRY;
            }
        }
        let until = self.renews_in().clamp(Duration::from_secs(1), LOOK_INTERVAL);
        match tokio::time::timeout(until, self.follow()).await {
            Err(_) | Ok(Ok(())) => Duration::ZERO,
            Ok(Err(error)) => {
                warn(&error, "what home says can't be followed");
                RETRY
            }
        }
    }

    /// At half of the certificate's life; at once where agents would not believe the relay any more.
    fn renews_in(&self) -> Duration {
        let papers = self.now();
        if papers.is_led_to_by_a_root() { papers.renews_in().unwrap_or(LOOK_INTERVAL) } else { Duration::ZERO }
    }

    async fn renew(&mut self) -> Result<(), HomeError> {
        let renewed = self.now().renewed().await.map_err(HomeError::Papers)?;
        self.take_up(renewed)?;
        tracing::info!("certificate renewed");
        Ok(())
    }

    /// Until it fails, or a new certificate is needed.
    async fn follow(&mut self) -> Result<(), HomeError> {
        let tls = Arc::clone(&self.credentials.borrow().tls);
        let channel = uplink::channel_over(&self.dial, &self.now().home, tls).await.map_err(HomeError::Connect)?;
        let minded = self.minded.clone();
        let receipt = match &minded {
            Some(minded) => minded.progress.newest_receipt().map_err(HomeError::Progress)?,
            None => None,
        };
        let request = wire::FollowRequest {
            relay_version: env!("CARGO_PKG_VERSION").to_owned(),
            receipt: receipt.map(|receipt| receipt.encode().into()).unwrap_or_default(),
        };
        let ended = |status: tonic::Status| HomeError::Ended(Box::new(status));
        let mut client = IngestClient::new(channel);
        let mut states = client.follow(request).await.map_err(ended)?.into_inner();
        let _heard = minded.as_ref().map(|minded| Heard::begin(&minded.progress));
        let mut report = minded.map(|Minded { progress, standing, .. }| Reporter::new(progress, standing));
        loop {
            let state = tokio::select! {
                state = states.message() => state.map_err(ended)?.ok_or(HomeError::Closed)?,
                () = due(&mut report), if report.is_some() => {
                    if let Some(reporter) = &mut report && let Err(error) = reporter.report(&mut client).await {
                        warn(&error, "the relay's report did not reach home");
                    }
                    continue;
                }
            };
            let told = self.now().told(&state).map_err(HomeError::Papers)?;
            self.take_up(told)?;
            self.mind().await?;
            if !self.now().is_led_to_by_a_root() {
                return Ok(());
            }
        }
    }

    /// Puts into effect what home has said of forks and of itself. All of it may be done again.
    async fn mind(&self) -> Result<(), HomeError> {
        let Some(Minded { ledger, progress, .. }) = &self.minded else { return Ok(()) };
        let papers = self.now();
        for fork in papers.forked.iter().filter(|fork| !fork.is_over()) {
            let told = Act::Told { agent: fork.agent, at: fork.frozen_ns };
            ledger.freeze(told).await.map_err(HomeError::Ledger)?;
        }
        if let Some(signs_as) = papers.home_signs_as
            && progress.hear_of(signs_as).map_err(HomeError::Progress)?
        {
            tracing::warn!(%signs_as, "home signs with another key: what it may have forgotten is brought again");
        }
        Ok(())
    }

    fn now(&self) -> Arc<RelayPapers> {
        Arc::clone(&self.papers.borrow())
    }

    /// Keeps it, then lives by it.
    fn take_up(&mut self, papers: RelayPapers) -> Result<(), HomeError> {
        papers.store(&self.dir).map_err(HomeError::Papers)?;
        let papers = Arc::new(papers);
        self.trust.take_up(Arc::clone(&papers)).map_err(HomeError::Tls)?;
        self.credentials.send_replace(Arc::new(papers.credentials().map_err(HomeError::Papers)?));
        self.papers.send_replace(papers);
        Ok(())
    }
}

/// Home is heard for as long as this lives.
struct Heard(Arc<Progress>);

impl Heard {
    fn begin(progress: &Arc<Progress>) -> Self {
        note(progress, Some(super::unix_ns()));
        Self(Arc::clone(progress))
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        note(&self.0, None);
    }
}

/// What `relay status` shows is no reason to hang up.
fn note(progress: &Progress, since_ns: Option<u64>) {
    if let Err(error) = progress.connected(since_ns) {
        tracing::warn!(error = &error as &dyn std::error::Error, "whether home is heard can't be noted");
    }
}

async fn due(report: &mut Option<Reporter>) {
    match report {
        Some(report) => report.due().await,
        None => std::future::pending().await,
    }
}

fn warn(error: &HomeError, what: &'static str) {
    let cause = std::error::Error::source(error).map(|cause| match cause.source() {
        Some(inner) => format!("{cause}: {inner}"),
        None => cause.to_string(),
    });
    tracing::warn!(%error, cause, "{what}");
}
