//! A relay's connection to home, with a session for each of the agents whose batches it brings.
//!
//! HTTP/2 carries them side by side: a stream that waits at home holds up its own session alone. A session over a line
//! sends what there is, and ends when it is told to; whether another one follows is the relay's to know.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::connect::{self, ConnectError, Endpoint};
use super::session::{Progress, Session, SessionEnd, SessionError};
use super::shown::Shown;
use super::{Credentials, Status, WaitingStream};
use crate::outbox::Outbox;
use crate::transport::Dial;

/// One connection. Cheap to clone; it is made anew, by whoever uses it next, where it broke.
#[derive(Clone)]
pub struct Line {
    channel: Channel,
    dial: Arc<dyn Dial>,
    endpoint: Endpoint,
    credentials: Arc<Credentials>,
}

/// What a session over a line has done.
#[derive(Debug)]
pub struct Sent {
    /// An open was recorded, or a receipt stored.
    pub progress: bool,
    /// Streams that home takes nothing of before others bring what is missing.
    pub waiting: Vec<WaitingStream>,
    /// Home or the relay moved: name everything again.
    pub again: bool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Line {
    pub async fn connect(dial: Arc<dyn Dial>, endpoint: Endpoint, credentials: Arc<Credentials>) -> Result<Self, ConnectError> {
        let channel = connect::channel_over(&dial, &endpoint, Arc::clone(&credentials.tls)).await?;
        Ok(Self { channel, dial, endpoint, credentials })
    }

    /// Sends what the store holds of its agent, and what comes while this runs. Once `stop` is cancelled it ends as soon
    /// as everything that was sent has its receipt.
    pub async fn send(
        &self,
        outbox: &Arc<dyn Outbox>,
        version: &str,
        stop: &CancellationToken,
    ) -> Result<Sent, (SessionError, bool)> {
        // The line is made anew with renewed credentials: its sessions are short.
        let (_renews, renewals) = watch::channel(Arc::clone(&self.credentials));
        let (status, standing) = watch::channel(Status::default());
        let shown = Shown::default();
        let session = Session {
            outbox,
            dial: &self.dial,
            credentials: &self.credentials,
            renewals: &renewals,
            agent_version: version,
            status: &status,
            shown: &shown,
            stop,
        };
        let progress = Progress::default();
        let ended = session.run_on(self.channel.clone(), &self.endpoint, &progress).await;
        let waiting = standing.borrow().waiting.clone();
        match ended {
            Ok(end) => Ok(Sent { progress: progress.made(), waiting, again: end == SessionEnd::Resume }),
            Err(error) => Err((error, progress.made())),
        }
    }
}
