//! What home says while the relay runs: who is revoked, whose receipts are trusted, and the next certificate.
//!
//! A relay that can't reach home lives on by what it was told last; that is kept, so that a restart knows it too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::tls::TlsError;
use edgetrail_link::uplink::{self, Credentials};
use edgetrail_link::wire;
use edgetrail_link::wire::ingest_client::IngestClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::identity::{RelayError, RelayPapers};
use super::trust::RelayTrust;

/// The certificate's age is looked at this often, however far its half-life is.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// After a failure, of either kind.
const RETRY: Duration = Duration::from_secs(5);
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

/// Keeps what home says in use. One task: [`Home::run`].
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    papers: watch::Sender<Arc<RelayPapers>>,
    trust: RelayTrust,
    credentials: watch::Sender<Arc<Credentials>>,
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
}

impl Home {
    /// With whom the relay believes, and the credentials that it shows home.
    pub fn open(dir: PathBuf, papers: RelayPapers) -> Result<(Self, RelayTrust, watch::Receiver<Arc<Credentials>>), HomeError> {
        papers.statement().ok_or(HomeError::Papers(RelayError::Damaged))?;
        let papers = Arc::new(papers);
        let trust = RelayTrust::new(Arc::clone(&papers)).map_err(HomeError::Tls)?;
        let (credentials, receiver) = watch::channel(Arc::new(papers.credentials().map_err(HomeError::Papers)?));
        Ok((Self { dir, papers: watch::Sender::new(papers), trust: trust.clone(), credentials }, trust, receiver))
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
        let until = match self.now().renews_in() {
            Ok(left) if left.is_zero() => {
                if let Err(error) = self.renew().await {
                    warn(&error, "the relay's certificate could not be renewed");
                    return RENEWAL_RETRY;
                }
                LOOK_INTERVAL
            }
            Ok(left) => left.min(LOOK_INTERVAL).max(Duration::from_secs(1)),
            Err(_) => LOOK_INTERVAL,
        };
        match tokio::time::timeout(until, self.follow()).await {
            Err(_) => Duration::ZERO,
            Ok(error) => {
                warn(&error, "what home says can't be followed");
                RETRY
            }
        }
    }

    async fn renew(&mut self) -> Result<(), HomeError> {
        let renewed = self.now().renewed().await.map_err(HomeError::Papers)?;
        self.take_up(renewed)?;
        tracing::info!("certificate renewed");
        Ok(())
    }

    /// Until it fails.
    async fn follow(&mut self) -> HomeError {
        match self.following().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn following(&mut self) -> Result<std::convert::Infallible, HomeError> {
        let tls = Arc::clone(&self.credentials.borrow().tls);
        let channel = uplink::channel(&self.now().home, tls).await.map_err(HomeError::Connect)?;
        let request = wire::FollowRequest { relay_version: env!("CARGO_PKG_VERSION").to_owned() };
        let ended = |status: tonic::Status| HomeError::Ended(Box::new(status));
        let mut states = IngestClient::new(channel).follow(request).await.map_err(ended)?.into_inner();
        loop {
            let state = states.message().await.map_err(ended)?.ok_or(HomeError::Closed)?;
            let told = self.now().told(&state).map_err(HomeError::Papers)?;
            self.take_up(told)?;
        }
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

fn warn(error: &HomeError, what: &'static str) {
    let cause = std::error::Error::source(error).map(|cause| match cause.source() {
        Some(inner) => format!("{cause}: {inner}"),
        None => cause.to_string(),
    });
    tracing::warn!(%error, cause, "{what}");
}
