//! Whether the users' file has an id yet.
//!
//! useradd is heard of some milliseconds before it rewrites the file, and a user may be gone again soon after. Who waits
//! for a name looks often, and only while it waits.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How often to look while a name is awaited, milliseconds. A script that makes and deletes a user takes some tens.
pub const LOOK_EVERY: u64 = 5;

/// A larger file is not read this often: then the event waits as long as it may. 20,000 users.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Colon-separated, the id in the third field. Source: passwd(5).
#[derive(Debug)]
pub struct Accounts {
    path: PathBuf,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { path: "/etc/passwd".into() }
    }
}

impl Accounts {
    pub fn of_file(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn has(&self, uid: u32) -> bool {
        let mut text = String::new();
        let Ok(file) = File::open(&self.path) else { return false };
        if file.take(FILE_BYTES_MAX).read_to_string(&mut text).is_err() {
            return false;
        }
        text.lines().any(|line| line.split(':').nth(2).and_then(|id| id.parse().ok()) == Some(uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_there_once_the_file_has_it() {
        let etc = tempfile::tempdir().unwrap();
        let path = etc.path().join("passwd");
        let accounts = Accounts::of_file(&path);
        assert!(!accounts.has(0), "no file has no users");
        std::fs::write(&path, "root:x:0:0::/:/bin/sh\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n").unwrap();
        assert!(accounts.has(0) && accounts.has(1000) && !accounts.has(100));
    }
}
