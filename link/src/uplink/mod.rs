//! The sending end of the wire: connect, resume, keep a window of batches in flight, store receipts.
//!
//! A batch leaves the store only against a receipt that verified under a key that the CA has signed. Whatever goes
//! wrong on the way (a cut, a refusal, a collector that stands elsewhere than thought), the answer is the same: end
//! the session, wait a little, resume by naming everything. Nothing is remembered between sessions but the store.

mod backoff;
mod connect;
mod course;
mod line;
mod preference;
mod session;
mod shown;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use edgetrail_proto::chain::Hash;
use edgetrail_proto::identity::StreamId;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use connect::{ConnectError, Endpoint, EndpointError, channel, channel_over};
pub use line::{Line, Sent};
pub use session::SessionError;

use self::preference::Preference;
use self::session::{Session, SessionEnd};
use self::shown::Shown;
use crate::outbox::Outbox;
use crate::receipt_keys::ReceiptKeys;
use crate::tls;
use crate::transport::{Dial, Tcp};

/// How long a preferred collector must have been reachable before the uplink returns to it, where nothing else is set.
pub const RETURN_AFTER: Duration = Duration::from_secs(30);

/// After a stop, and before a change of collector, what is sealed may still go out for this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// What the sender shows and what it trusts. Replaced as a whole at renewal and re-join.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub tls: Arc<ClientConfig>,
    /// What `tls` shows, leaf first: a session goes on under a renewed certificate of the same key.
    pub chain: Vec<CertificateDer<'static>>,
    pub roots: Vec<CertificateDer<'static>>,
    pub receipt_keys: ReceiptKeys,
}

impl Credentials {
    /// Whether both certificates bind one key.
    fn is_for_the_key_of(&self, other: &Self) -> bool {
        let key = |credentials: &Self| credentials.chain.first().and_then(|leaf| tls::public_key_of(leaf).ok());
        key(self).is_some_and(|ours| key(other) == Some(ours))
    }
}

/// What an uplink is made of.
#[derive(Debug)]
pub struct UplinkOptions {
    /// In order of preference; the first that answers is taken.
    pub endpoints: Vec<Endpoint>,
    /// How long a preferred one must have been reachable before it is returned to.
    pub return_after: Duration,
    pub credentials: watch::Receiver<Arc<Credentials>>,
    pub agent_version: String,
}

/// How the uplink stands, for `status`.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The endpoint that a session is open with.
    pub connected: Option<Endpoint>,
    /// Since when that session is open.
    pub connected_since: Option<SystemTime>,
    /// The preferred endpoints that are not used, and why.
    pub passed_over: Vec<PassedOver>,
    pub last_receipt: Option<ReceiptSeen>,
    /// Batches sent and without a receipt.
    pub in_flight: usize,
    /// What went wrong last, and since when nothing has worked. Cleared by a completed resume.
    pub trouble: Option<Trouble>,
    /// The collector holds two branches of a stream: join again with a token.
    pub forked: bool,
    /// Streams that stand still until another collector brings what it gave a receipt for.
    pub waiting: Vec<WaitingStream>,
}

/// A stream of which the collector lacks batches that the sender holds no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingStream {
    pub stream: StreamId,
    /// First and last missing batch.
    pub from: u64,
    pub to: u64,
    /// SHA-256 of the receipt key that vouches for them.
    pub signer: Hash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptSeen {
    pub stream: StreamId,
    pub k: u64,
    /// Commit time at the collector, Unix nanoseconds.
    pub t_received: u64,
    pub seen: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// With its causes, outermost first.
    pub error: String,
    pub since: SystemTime,
}

/// A collector that would be preferred and is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub endpoint: Endpoint,
    /// With its causes, outermost first.
    pub error: String,
    pub since: SystemTime,
}

/// The sending end; [`Uplink::run`] is its one task.
pub struct Uplink {
    outbox: Arc<dyn Outbox>,
    options: UplinkOptions,
    dial: Arc<dyn Dial>,
    status: watch::Sender<Status>,
}

impl std::fmt::Debug for Uplink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uplink").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Uplink {
    pub fn new(outbox: Arc<dyn Outbox>, options: UplinkOptions) -> (Self, watch::Receiver<Status>) {
        let (status, receiver) = watch::channel(Status::default());
        (Self { outbox, options, dial: Tcp::dialer(), status }, receiver)
    }

    /// Over another network than the host's.
    pub fn over(mut self, dial: Arc<dyn Dial>) -> Self {
        self.dial = dial;
        self
    }

    /// Sends until stopped; then what is sealed goes out for at most a few seconds more, if a session is open.
    pub async fn run(mut self, stop: CancellationToken) {
        let drained = stop.clone();
        let deadline = async move {
            drained.cancelled().await;
            tokio::time::sleep(DRAIN_TIME_MAX).await;
        };
        tokio::select! {
            () = self.sessions(&stop) => {}
            () = deadline => tracing::warn!("stopped with batches that have no receipt; they go out at the next start"),
        }
        self.status.send_modify(|status| (status.connected, status.connected_since) = (None, None));
    }

    /// One session after another until stopped.
    async fn sessions(&mut self, stop: &CancellationToken) {
        let mut preference = Preference::new(self.options.endpoints.clone(), self.options.return_after);
        let shown = Shown::default();
        while !stop.is_cancelled() {
            let next = preference.next(Instant::now());
            if next.is_none_or(|(_, from)| from > Instant::now()) {
                tokio::select! {
                    () = until(next.map(|(_, from)| from)) => {}
                    () = stop.cancelled() => {}
                    // Without a sender there will be none: wait.
                    Ok(()) = self.options.credentials.changed() => preference.begin_anew(),
                }
                continue;
            }
            let Some((index, _)) = next else { continue };
            let Some(endpoint) = preference.endpoint(index).cloned() else { continue };
            let credentials = Arc::clone(&self.options.credentials.borrow_and_update());
            let passed_over = preference.passed_over(index);
            self.status.send_modify(|status| status.passed_over = passed_over);
            let leave = stop.child_token();
            let session = Session {
                outbox: &self.outbox,
                dial: &self.dial,
                credentials: &credentials,
                renewals: &self.options.credentials,
                agent_version: &self.options.agent_version,
                status: &self.status,
                shown: &shown,
                stop: &leave,
            };
            let (progress, begun) = (session::Progress::default(), Instant::now());
            let ended = tokio::select! {
                ended = session.run(&endpoint, &progress) => ended,
                () = left(&mut preference, index, &self.dial, &self.options.credentials, &self.status, &leave) => Ok(SessionEnd::Resume),
            };
            self.status.send_modify(|status| {
                (status.connected, status.connected_since) = (None, None);
                status.in_flight = 0;
                status.waiting.clear();
            });
            if progress.made() {
                preference.worked(index);
            }
            match ended {
                Ok(SessionEnd::Drained) if stop.is_cancelled() => return,
                // Left for one that is preferred: it is ready.
                Ok(SessionEnd::Drained) => {}
                Ok(SessionEnd::Resume) => preference.ended(index),
                // Another key: a new connection to the same collector, at once. What was in flight is named again.
                Ok(SessionEnd::HandOver) => tracing::info!(%endpoint, "credentials replaced, connecting anew"),
                Err(error) => {
                    let text = self.report(&endpoint, &error);
                    if matches!(error, SessionError::Forked { .. }) {
                        preference.rest(index);
                    } else {
                        preference.failed(index, &text, if progress.made() { Duration::ZERO } else { begun.elapsed() });
                    }
                }
            }
        }
    }

    /// Logs and shows why a session ended; gives the text.
    fn report(&self, endpoint: &Endpoint, error: &SessionError) -> String {
        let text = with_causes(error);
        tracing::warn!(%endpoint, error = text, "uplink session ended");
        self.status.send_modify(|status| {
            status.forked |= matches!(error, SessionError::Forked { .. });
            let since = status.trouble.as_ref().map_or_else(SystemTime::now, |trouble| trouble.since);
            status.trouble = Some(Trouble { error: text.clone(), since });
        });
        text
    }
}

/// Probes the collectors that are preferred to the one in use. Once one is to be returned to, the session is told to
/// end in order; returns if it has not after a few seconds.
async fn left(
    preference: &mut Preference,
    index: usize,
    dial: &Arc<dyn Dial>,
    credentials: &watch::Receiver<Arc<Credentials>>,
    status: &watch::Sender<Status>,
    leave: &CancellationToken,
) {
    'probing: loop {
        let Some(wait) = preference.probe_wait(index) else { return std::future::pending().await };
        tokio::time::sleep(wait).await;
        for preferred in 0..index {
            let Some(endpoint) = preference.endpoint(preferred).cloned() else { continue };
            let tls = Arc::clone(&credentials.borrow().tls);
            let connected = channel_over(dial, &endpoint, tls).await;
            let found = connected.map(drop).map_err(|error| with_causes(&error));
            let to_return = preference.probed(preferred, found);
            let passed_over = preference.passed_over(index);
            status.send_if_modified(|status| {
                let changed = status.passed_over != passed_over;
                status.passed_over = passed_over;
                changed
            });
            if to_return {
                tracing::info!(%endpoint, "a preferred collector is reachable again: returning to it");
                break 'probing;
            }
        }
    }
    leave.cancel();
    tokio::time::sleep(DRAIN_TIME_MAX).await;
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// An error and its causes in one line, for the one place that shows it.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
