//! Replacing the root: a second one beside the first, until nothing needs the first any more.
//!
//! ```text
//! before     ca.key  ca.pem
//! rotate     ca-next.key ca-next.pem               agents' certificates come from the next root, servers' from the first;
//!            ca.pem holds both                     both are trusted; agents learn the next one at renewal
//! retire     ca.key ca.pem are the next root       everything comes from it, the first one is trusted by nobody;
//!            retired/HASH.pem                      its certificate stays for auditors, its key is gone
//! ```
//! `roots.pem` holds every root that ever was: what `edgetrail-verify --ca` takes. Each step is one that a crash leaves
//! undone or done; [`finish_interrupted`] completes a retirement whose new key is in place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use edgetrail_link::tls;
use edgetrail_proto::chain::Hash;
use rustls::pki_types::CertificateDer;

use super::CA_FILE;
use super::authority::AuthorityError;
use super::files::{self as secret_files, FileError};
use super::root::{Root, belong_together};

const KEY_FILE: &str = "ca.key";
const NEXT_KEY_FILE: &str = "ca-next.key";
const NEXT_FILE: &str = "ca-next.pem";
const RETIRED_DIRECTORY: &str = "retired";

/// Every root that ever was, for auditors.
pub const ROOTS_FILE: &str = "roots.pem";

/// Most retired roots that are read: one a month for eight years.
const RETIRED_MAX: usize = 100;

/// Why the root can't be replaced now.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    #[error("a rotation is under way: `edgetrail-collector ca retire` ends it")]
    UnderWay,
    #[error("no rotation is under way: `edgetrail-collector ca rotate` begins one")]
    NotUnderWay,
    #[error("the authority can't be opened")]
    Authority(#[source] AuthorityError),
    #[error("the authority's files can't be replaced")]
    File(#[source] FileError),
}

/// The roots of a PKI directory.
pub(super) struct Roots {
    /// Servers' certificates and, without a next one, agents'.
    pub(super) serving: Root,
    /// Agents' certificates, while the root is being replaced.
    pub(super) next: Option<Root>,
    /// What signed once.
    pub(super) retired: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Opens what is there, or creates the first root. Bundles are brought up to date.
    pub(super) fn open(directory: &Path) -> Result<Self, AuthorityError> {
        secret_files::create_directory(directory).map_err(AuthorityError::File)?;
        finish_interrupted(directory).map_err(AuthorityError::File)?;
        let serving = Root::open(&directory.join(KEY_FILE), &directory.join(CA_FILE))?;
        let next = match directory.join(NEXT_KEY_FILE).exists() {
            true => Some(Root::open(&directory.join(NEXT_KEY_FILE), &directory.join(NEXT_FILE))?),
            false => None,
        };
        let roots = Self { serving, next, retired: retired(&directory.join(RETIRED_DIRECTORY))? };
        roots.write_bundles(directory).map_err(AuthorityError::File)?;
        Ok(roots)
    }

    /// Those that are trusted now, the servers' first.
    pub(super) fn trusted(&self) -> Vec<CertificateDer<'static>> {
        let both = [Some(&self.serving), self.next.as_ref()];
        both.into_iter().flatten().map(|root| root.certificate.clone()).collect()
    }

    /// Those, and the retired ones.
    pub(super) fn all(&self) -> Vec<CertificateDer<'static>> {
        let mut all = self.trusted();
        all.extend(self.retired.iter().cloned());
        all
    }

    fn write_bundles(&self, directory: &Path) -> Result<(), FileError> {
        for (name, roots) in [(CA_FILE, self.trusted()), (ROOTS_FILE, self.all())] {
            let (path, pem) = (directory.join(name), pem(&roots));
            if secret_files::read(&path)?.as_deref() != Some(pem.as_bytes()) {
                secret_files::write(&path, pem.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// The files of the authority that change when it is rotated.
pub(super) fn files(directory: &Path) -> [PathBuf; 4] {
    [KEY_FILE, CA_FILE, NEXT_KEY_FILE, NEXT_FILE].map(|name| directory.join(name))
}

/// Makes the next root. A running collector takes it up within seconds.
pub fn rotate(directory: &Path) -> Result<(), RotationError> {
    let roots = Roots::open(directory).map_err(RotationError::Authority)?;
    if roots.next.is_some() {
        return Err(RotationError::UnderWay);
    }
    // From the key file on, a crash recovers to the next root: its certificate is made from it whenever it is opened.
    Root::open(&directory.join(NEXT_KEY_FILE), &directory.join(NEXT_FILE)).map_err(RotationError::Authority)?;
    Roots::open(directory).map(drop).map_err(RotationError::Authority)
}

/// Puts the next root in the first one's place. Whether anybody still needs the first one is the caller's to know.
pub fn retire(directory: &Path) -> Result<(), RotationError> {
    let roots = Roots::open(directory).map_err(RotationError::Authority)?;
    if roots.next.is_none() {
        return Err(RotationError::NotUnderWay);
    }
    let retired = directory.join(RETIRED_DIRECTORY);
    secret_files::create_directory(&retired).map_err(RotationError::File)?;
    let former = &roots.serving.certificate;
    let name = retired.join(format!("{}.pem", Hash::of(former).to_hex()));
    secret_files::write(&name, pem(std::slice::from_ref(former)).as_bytes()).map_err(RotationError::File)?;
    let (from, to) = (directory.join(NEXT_KEY_FILE), directory.join(KEY_FILE));
    let renamed = fs::rename(&from, &to).map_err(|source| FileError::Write { path: to, source });
    // From here on a crash recovers to the next root: its key is in place and its certificate follows.
    renamed.map_err(RotationError::File)?;
    finish_interrupted(directory).map_err(RotationError::File)?;
    Roots::open(directory).map(drop).map_err(RotationError::Authority)
}

/// A retirement whose key is in place gets its certificate in place too.
fn finish_interrupted(directory: &Path) -> Result<(), FileError> {
    let (key, next) = (directory.join(KEY_FILE), directory.join(NEXT_FILE));
    if directory.join(NEXT_KEY_FILE).exists() || !belong_together(&key, &next) {
        return Ok(());
    }
    let path = directory.join(CA_FILE);
    match fs::rename(&next, &path).and_then(|()| secret_files::sync_directory(directory)) {
        // The collector and the command finish the same retirement: one of them was first.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.map_err(|source| FileError::Write { path, source }),
    }
}

fn retired(directory: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let failed = |source| AuthorityError::File(FileError::Read { path: directory.to_owned(), source });
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>().map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
    paths.sort();
    let mut retired = Vec::new();
    for path in paths.into_iter().take(RETIRED_MAX) {
        retired.extend(tls::read_certificates(&path).map_err(|_| AuthorityError::Damaged { path })?);
    }
    Ok(retired)
}

fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = BASE64.encode(certificate);
        for at in (0..text.len()).step_by(64) {
            pem.push_str(text.get(at..text.len().min(at + 64)).unwrap_or_default());
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}
