//! One root of the built-in authority: an ECDSA P-256 key and its self-signed certificate, as two files.

use std::path::Path;
use std::time::{Duration, SystemTime};

use edgetrail_link::tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SigningKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::authority::{AuthorityError, leaf_params};
use super::files;

/// Replaced by rotation, long before.
const LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// A root that can sign.
pub(super) struct Root {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: CertificateDer<'static>,
}

impl Root {
    /// Opens the root in these two files, or creates it there. The certificate file may go on with other roots.
    pub(super) fn open(key_path: &Path, certificate_path: &Path) -> Result<Self, AuthorityError> {
        let key = files::read(key_path).map_err(AuthorityError::File)?;
        let certificate = files::read(certificate_path).map_err(AuthorityError::File)?;
        let damaged = |path: &Path| AuthorityError::Damaged { path: path.to_owned() };
        let key = match key {
            Some(pem) => {
                let pem = zeroize::Zeroizing::new(String::from_utf8(pem).map_err(|_| damaged(key_path))?);
                KeyPair::from_pem(&pem).map_err(|_| damaged(key_path))?
            }
            None if certificate.is_some() => return Err(AuthorityError::NoKey { path: certificate_path.to_owned() }),
            None => {
                let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Create)?;
                let pem = zeroize::Zeroizing::new(key.serialize_pem());
                files::write(key_path, pem.as_bytes()).map_err(AuthorityError::File)?;
                // From here on a crash recovers to this key: the certificate is made from it at the next start.
                key
            }
        };
        let certificate = match certificate {
            Some(pem) => CertificateDer::from_pem_slice(&pem).map_err(|_| damaged(certificate_path))?,
            None => {
                let made = params(&key, SystemTime::now()).self_signed(&key).map_err(AuthorityError::Create)?;
                files::write(certificate_path, made.pem().as_bytes()).map_err(AuthorityError::File)?;
                made.der().clone()
            }
        };
        // The certificate must be this key's, or nothing that is issued would verify.
        if !is_of(&key, &certificate)? {
            return Err(damaged(certificate_path));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| damaged(certificate_path))?;
        Ok(Self { issuer, certificate })
    }
}

/// Whether a certificate binds this key.
fn is_of(key: &KeyPair, certificate: &CertificateDer<'_>) -> Result<bool, AuthorityError> {
    let proof = key.sign(b"edgetrail").map_err(AuthorityError::Create)?;
    Ok(tls::signed_by(certificate, b"edgetrail", &proof))
}

/// Whether these two files belong together. Files that are not there or not readable do not.
pub(super) fn belong_together(key_path: &Path, certificate_path: &Path) -> bool {
    let read = |path| files::read(path).ok().flatten();
    let key = read(key_path).and_then(|pem| String::from_utf8(pem).ok()).and_then(|pem| KeyPair::from_pem(&pem).ok());
    let certificate = read(certificate_path).and_then(|pem| CertificateDer::from_pem_slice(&pem).ok());
    key.zip(certificate).is_some_and(|(key, certificate)| is_of(&key, &certificate).unwrap_or(false))
}

fn params(key: &KeyPair, now: SystemTime) -> CertificateParams {
    // A name of its own for each root: clients that trust several look a root up by name.
    let id = edgetrail_proto::chain::Hash::of(key.der_bytes()).to_hex();
    let mut params = leaf_params(&format!("Edgetrail CA {}", id.get(..12).unwrap_or(&id)), now, LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}
