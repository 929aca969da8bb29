//! Certificates and keys as PEM files.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{} can't be read as PEM", path.display())]
    Pem {
        path: PathBuf,
        #[source]
        source: PemError,
    },
    #[error("{} holds no certificate", path.display())]
    Empty { path: PathBuf },
}

/// Every certificate of a PEM file, in order.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let failed = |source| FileError::Pem { path: path.to_owned(), source };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() { Err(FileError::Empty { path: path.to_owned() }) } else { Ok(certificates) }
}

/// The first private key of a PEM file.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| FileError::Pem { path: path.to_owned(), source })
}
