//! Certificates and keys as PEM files.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

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

/// A P-256 key in the form of RFC 5915 ("EC PRIVATE KEY", SEC 1) as PKCS#8, which every user of keys here reads. Another
/// curve's comes out as a key that none of them takes.
pub fn as_pkcs8(key: &PrivateSec1KeyDer<'_>) -> PrivatePkcs8KeyDer<'static> {
    // AlgorithmIdentifier: id-ecPublicKey, prime256v1. Source: RFC 5480 §2.1.1.
    const P256: [u8; 21] = [0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    const VERSION_0: [u8; 3] = [2, 1, 0];
    let key = der(0x04, key.secret_sec1_der());
    der(0x30, &[VERSION_0.as_slice(), &P256, &key].concat()).into()
}

/// One DER value.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = length.get(length.iter().take_while(|&&byte| byte == 0).count()..).unwrap_or_default();
    let mut value = vec![tag];
    match length {
        [] => value.push(0),
        [short @ ..0x80] => value.push(*short),
        // Proof: a usize has at most eight bytes.
        long => {
            value.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            value.extend_from_slice(long);
        }
    }
    value.extend_from_slice(content);
    value
}

/// The first private key of a PEM file.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| FileError::Pem { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    /// The inner key of what ring writes as PKCS#8, by the length that its curve gives it.
    fn sec1(pair: &KeyPair, length: usize) -> PrivateSec1KeyDer<'static> {
        let der = pair.serialize_der();
        der[der.len() - length..].to_vec().into()
    }

    #[test]
    fn a_p256_key_in_sec1_is_read_and_another_curves_is_not() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let read = KeyPair::try_from(&PrivateKeyDer::Pkcs8(as_pkcs8(&sec1(&pair, 109)))).unwrap();
        assert_eq!(read.public_key_raw(), pair.public_key_raw());
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(KeyPair::try_from(&PrivateKeyDer::Pkcs8(as_pkcs8(&sec1(&other, 158)))).is_err());
    }
}
