//! The socket in the file system: made beside its place and renamed into it, so that a stale one is replaced and no
//! connection ever meets it with other permissions than configured.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The socket, unlinked when dropped.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

/// Why the socket can't be opened; says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("`{mode}` is no mode: give permission bits in octal such as `0660`")]
    Mode { mode: String },
    #[error("{} is there and not a socket: remove it or configure sources.api.path", path.display())]
    NotASocket { path: PathBuf },
    #[error("another process listens on {}: stop it or configure sources.api.path", path.display())]
    Busy { path: PathBuf },
    #[error("can't make {}: its directory must exist and be writable by the agent, the path at most 107 bytes", path.display())]
    Io {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

impl Socket {
    /// Listens on `path`. Needs a runtime.
    pub(super) fn open(path: &Path, mode: &str) -> Result<Self, SocketError> {
        let bits = parse_mode(mode)?;
        let failed = |cause| SocketError::Io { path: path.to_owned(), cause };
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(SocketError::NotASocket { path: path.to_owned() }),
            // Connecting tells a living listener from a socket that a killed one left.
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(SocketError::Busy { path: path.to_owned() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match std::fs::remove_file(&beside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(cause)),
        }
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(bits)).map_err(failed)?;
        std::fs::rename(&beside, path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Gone already is as good; anything else leaves a stale socket that the next start replaces.
        let _gone = std::fs::remove_file(&self.path);
    }
}

fn parse_mode(mode: &str) -> Result<u32, SocketError> {
    let wrong = || SocketError::Mode { mode: mode.to_owned() };
    let bits = u32::from_str_radix(mode, 8).map_err(|_| wrong())?;
    if bits <= 0o777 { Ok(bits) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dropped std listener leaves its socket");
        let socket = Socket::open(&path, "0620").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        assert!(matches!(Socket::open(&path, "0620"), Err(SocketError::Busy { .. })));
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "not a socket").unwrap();
        assert!(matches!(Socket::open(&path, "0620"), Err(SocketError::NotASocket { .. })));
        assert!(matches!(Socket::open(&path, "9"), Err(SocketError::Mode { .. })));
    }
}
