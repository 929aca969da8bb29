//! TLS of a listener: its certificate from files, taken up anew when they change, and whom it asks for a certificate.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Settings;

/// Why TLS can't be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{} holds no PEM that can be used: {cause}", path.display())]
    Pem { path: PathBuf, cause: rustls_pki_types::pem::Error },
    #[error("certificate and key can't be used together: {0}")]
    Pair(rustls::Error),
    #[error("client_ca can't be used: {0}")]
    Clients(String),
}

/// A configuration that follows its files.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    current: Mutex<Current>,
}

/// PEM files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: Option<PathBuf>,
    /// Whether a client without a certificate of `client_ca` is turned away.
    pub(crate) must_show: bool,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    stamps: Stamps,
    looked: Instant,
}

/// When each file was last written.
type Stamps = Vec<Option<SystemTime>>;

/// Replaced files are taken up after at most this long.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Tls {
    /// `None` where the settings name no certificate.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (settings.certificate.clone(), settings.key.clone()) else { return Ok(None) };
        Self::of(Files { certificate, key, client_ca: settings.client_ca.clone(), must_show: true }).map(Some)
    }

    pub(crate) fn of(files: Files) -> Result<Self, TlsError> {
        let current = Current { stamps: files.stamps(), config: Arc::new(files.config()?), looked: Instant::now() };
        Ok(Self { files, current: Mutex::new(current) })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_INTERVAL {
            current.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps != current.stamps {
                match self.files.config() {
                    Ok(config) => (current.config, current.stamps) = (Arc::new(config), stamps),
                    // Half replaced, perhaps: looked at again, and served with what was right.
                    Err(error) => tracing::warn!(%error, "a changed certificate can't be taken up"),
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

impl Files {
    fn stamps(&self) -> Stamps {
        let stamp = |path: &PathBuf| std::fs::metadata(path).ok()?.modified().ok();
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().map(stamp).collect()
    }

    fn config(&self) -> Result<ServerConfig, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|cause| TlsError::Pem { path: self.key.clone(), cause })?;
        let builder = ServerConfig::builder();
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots.add(root).map_err(|error| TlsError::Clients(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
                let verifier = if self.must_show { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::Clients(error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause| TlsError::Pem { path: path.to_owned(), cause };
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}
