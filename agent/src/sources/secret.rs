//! Files that hold a secret, or decide who may do what: their modes are looked at before their texts.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why such a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("{} can't be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{} has mode {mode:o}: {way_out}", path.display())]
    Open { path: PathBuf, mode: u32, way_out: &'static str },
    #[error("the secret in {} is shorter than {SECRET_BYTES_MIN} bytes: make one with `openssl rand -base64 30`", path.display())]
    Short { path: PathBuf },
}

/// Shorter secrets could be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// Permission bits that no secret may have: others', and the group's right to change it.
const SECRET_MODE_REFUSED: u32 = 0o037;

/// Permission bits that a list of who may do what may not have.
const LIST_MODE_REFUSED: u32 = 0o022;

/// The one secret of a file.
pub(super) fn secret(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let way_out = "let nobody but its owner write to it and nobody but its owner and group read it (chmod 600)";
    let text = guarded(path, SECRET_MODE_REFUSED, way_out)?;
    let secret = Zeroizing::new(text.trim().to_owned());
    if secret.len() < SECRET_BYTES_MIN { Err(SecretError::Short { path: path.to_owned() }) } else { Ok(secret) }
}

/// The text of a file whose writers decide who may do what.
pub(super) fn list(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    guarded(path, LIST_MODE_REFUSED, "let nobody but its owner write to it (chmod 644)")
}

fn guarded(path: &Path, refused: u32, way_out: &'static str) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |cause| SecretError::Unreadable { path: path.to_owned(), cause };
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & refused != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode, way_out });
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)
}
