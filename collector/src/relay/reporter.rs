//! Tells home how the relay stands and what its ingest has noticed: at once when there is news, else now and then.

use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::wire;
use edgetrail_link::wire::ingest_client::IngestClient;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::forward::Standing;
use super::home::HomeError;
use super::progress::Progress;
use crate::ingest::NOTICES_MAX;

/// Reports follow one another no faster.
const PAUSE: Duration = Duration::from_secs(1);

/// Without news: the newest receipt moves all the time.
const INTERVAL: Duration = Duration::from_secs(10);

/// Home answers within this.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Over one connection.
#[derive(Debug)]
pub(super) struct Reporter {
    progress: Arc<Progress>,
    standing: watch::Receiver<Standing>,
    news: watch::Receiver<u64>,
    /// Not before this.
    earliest: Instant,
    latest: Instant,
}

impl Reporter {
    pub(super) fn new(progress: Arc<Progress>, standing: watch::Receiver<Standing>) -> Self {
        let (news, now) = (progress.news.subscribe(), Instant::now());
        Self { progress, standing, news, earliest: now, latest: now }
    }

    /// Returns when there is something to report. May be dropped and called again.
    pub(super) async fn due(&mut self) {
        tokio::time::sleep_until(self.earliest).await;
        tokio::select! {
            () = tokio::time::sleep_until(self.latest) => {}
            Ok(()) = self.standing.changed() => {}
            Ok(()) = self.news.changed() => {}
        }
        // Whoever drops this now is told at once when asking again.
        self.latest = Instant::now();
    }

    pub(super) async fn report(&mut self, client: &mut IngestClient<Channel>) -> Result<(), HomeError> {
        (self.earliest, self.latest) = (Instant::now() + PAUSE, Instant::now() + INTERVAL);
        let Standing { owing, waiting, .. } = *self.standing.borrow_and_update();
        let notices = self.progress.posted().map_err(HomeError::Progress)?;
        let standing = wire::RelayStanding {
            owing: u64::try_from(owing).unwrap_or(u64::MAX),
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            last_receipt: self.progress.last_receipt_ns().unwrap_or(0),
        };
        let report = wire::RelayReport { standing: Some(standing), notices: notices.clone() };
        let answered = tokio::time::timeout(ANSWER_TIME_MAX, client.report(report)).await;
        let answered = answered.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
        answered.map_err(|status| HomeError::Ended(Box::new(status)))?;
        self.progress.reported(&notices).map_err(HomeError::Progress)?;
        if notices.len() == NOTICES_MAX {
            self.latest = self.earliest;
        }
        Ok(())
    }
}
