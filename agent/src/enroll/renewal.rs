//! Renewing the certificate at half of its life, by the key that it binds.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::uplink::Credentials;
use edgetrail_link::{renewal, tls, wire};
use edgetrail_proto::chain::Hash;
use rcgen::{KeyPair, SigningKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::join::{JoinUrl, Received, client, request_for};
use super::supplied::Supplied;
use super::{EnrollError, Enrollment, files};

/// Looked at this often, however far the half-life is: clocks jump, hosts sleep.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// After a failure; there are 12 h left when the first attempt is made.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps the certificate young. One task: [`Renewal::run`].
#[derive(Debug)]
pub struct Renewal {
    enrollment: Enrollment,
    credentials: watch::Sender<Arc<Credentials>>,
    /// Somebody else renews, and this is where.
    supplied: Option<(Supplied, Hash)>,
}

impl Renewal {
    /// The receiver has the credentials of now, and each renewed ones after.
    pub fn new(enrollment: Enrollment) -> Result<(Self, watch::Receiver<Arc<Credentials>>), EnrollError> {
        let (credentials, receiver) = watch::channel(enrollment.credentials()?);
        Ok((Self { enrollment, credentials, supplied: None }, receiver))
    }

    /// The certificate comes from these files, and is taken up again whenever they change.
    pub fn from_files(mut self, supplied: Option<Supplied>) -> Self {
        self.supplied = supplied.map(|supplied| {
            let seen = supplied.fingerprint();
            (supplied, seen)
        });
        self
    }

    /// Until stopped. A failure is logged and tried again: nothing that is captured waits for it.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let wait = match self.look().await {
                Ok(_) if self.supplied.is_some() => super::supplied::LOOK_INTERVAL,
                Ok(left) => left.min(LOOK_INTERVAL).max(Duration::from_secs(1)),
                Err(error) if self.supplied.is_some() => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "the replaced certificate files are not taken up");
                    super::supplied::LOOK_INTERVAL
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "the certificate could not be renewed");
                    RETRY_INTERVAL
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Renews if half of the life is over; says how long until then.
    async fn look(&mut self) -> Result<Duration, EnrollError> {
        if let Some((supplied, seen)) = &mut self.supplied {
            let found = supplied.fingerprint();
            // What is found is tried once: files that are half-replaced are found again when they are whole.
            if std::mem::replace(seen, found) != found {
                let Enrollment { directory, identity, .. } = &self.enrollment;
                let taken_up = supplied.take_up(directory, &identity.host)?;
                if taken_up.identity.agent_id != identity.agent_id {
                    tracing::warn!("the certificate names another agent now: restart this one to become it");
                }
                self.enrollment = taken_up;
                self.credentials.send_replace(self.enrollment.credentials()?);
                tracing::info!("certificate files were replaced, and are taken up");
            }
            return Ok(super::supplied::LOOK_INTERVAL);
        }
        let left = |enrollment: &Enrollment| -> Result<Duration, EnrollError> {
            let (begin, end) = enrollment.validity()?;
            let half = begin.midpoint(end);
            let half = UNIX_EPOCH + Duration::from_secs(u64::try_from(half).unwrap_or(0));
            Ok(half.duration_since(SystemTime::now()).unwrap_or_default())
        };
        let until = left(&self.enrollment)?;
        if !until.is_zero() {
            return Ok(until);
        }
        self.enrollment = renew(&self.enrollment).await?;
        self.credentials.send_replace(self.enrollment.credentials()?);
        tracing::info!("certificate renewed");
        left(&self.enrollment)
    }
}

/// One renewal: asks, checks, swaps the files in.
pub(super) async fn renew(enrollment: &Enrollment) -> Result<Enrollment, EnrollError> {
    let url: JoinUrl = enrollment.identity.url.parse().map_err(|_| EnrollError::Answer("the identity's URL is malformed"))?;
    let leaf = enrollment.tls.chain.first().ok_or(EnrollError::Answer("no certificate"))?;
    let key = KeyPair::try_from(enrollment.tls.key.secret_der()).map_err(EnrollError::Key)?;
    let csr = request_for(&key)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let signature = key.sign(&renewal::message(&csr, leaf, time)).map_err(EnrollError::Key)?;
    let request = wire::RenewRequest { csr: csr.into(), certificate: leaf.to_vec().into(), time, signature: signature.into() };
    let trusted = tls::client_config(&enrollment.roots, None).map_err(EnrollError::Tls)?;
    let answered = client(&url.0, trusted).await?.renew(request).await;
    let answer = answered.map_err(|status| EnrollError::Refused { message: status.message().to_owned() })?.into_inner();

    let credentials = answer.credentials.ok_or(EnrollError::Answer("it has no credentials"))?;
    let received = Received::check(&credentials, &key, enrollment.identity.agent_id)?;
    files::swap(&enrollment.directory, &received.files()?)?;
    let identity = tls::Identity { chain: received.chain, key: enrollment.tls.key.clone_key() };
    let (roots, receipt_keys) = (received.roots, received.receipt_keys);
    Ok(Enrollment { tls: identity, roots, receipt_keys, ..enrollment.clone() })
}
