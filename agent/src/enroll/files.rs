//! Several files that change together.
//!
//! ```text
//! stage   NAME.new each, 0600, synced
//! commit  join.commit, synced          from here on a crash recovers to the new files
//! finish  rename each over NAME, remove join.commit
//! ```
//! A key and its certificate never come from two joins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{CERTIFICATE_FILE, EnrollError, IDENTITY_FILE, KEY_FILE, RECEIPT_KEYS_FILE, ROOTS_FILE};

const ALL: [&str; 5] = [KEY_FILE, CERTIFICATE_FILE, ROOTS_FILE, RECEIPT_KEYS_FILE, IDENTITY_FILE];

const COMMIT_FILE: &str = "join.commit";

/// Owner only.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// `None` where there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, EnrollError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EnrollError::File { path: path.to_owned(), source }),
    }
}

/// Swaps in all of these, or none.
pub(super) fn swap(directory: &Path, files: &[(&'static str, Vec<u8>)]) -> Result<(), EnrollError> {
    finish_interrupted(directory)?;
    for (name, bytes) in files {
        let path = staged(directory, name);
        write(&path, bytes).map_err(|source| EnrollError::File { path, source })?;
    }
    let commit = directory.join(COMMIT_FILE);
    let committed = write(&commit, b"").and_then(|()| sync(directory));
    committed.map_err(|source| EnrollError::File { path: commit, source })?;
    finish_interrupted(directory)
}

/// Brings a swap to its end that a crash has interrupted: forward if it was committed, back if not.
pub(super) fn finish_interrupted(directory: &Path) -> Result<(), EnrollError> {
    let commit = directory.join(COMMIT_FILE);
    let committed = commit.try_exists().map_err(|source| EnrollError::File { path: commit.clone(), source })?;
    for name in ALL {
        let path = staged(directory, name);
        let moved = if committed { fs::rename(&path, directory.join(name)) } else { fs::remove_file(&path) };
        match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved.map_err(|source| EnrollError::File { path, source })?,
        }
    }
    if committed {
        let removed = sync(directory).and_then(|()| fs::remove_file(&commit)).and_then(|()| sync(directory));
        removed.map_err(|source| EnrollError::File { path: commit, source })?;
    }
    Ok(())
}

/// Makes the state directory for its owner alone, if it is not there.
pub(super) fn create_directory(directory: &Path) -> Result<(), EnrollError> {
    let created = fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    created.map_err(|source| EnrollError::File { path: directory.to_owned(), source })
}

fn staged(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.new"))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(directory: &Path) -> Vec<Option<Vec<u8>>> {
        [KEY_FILE, CERTIFICATE_FILE].iter().map(|name| read(&directory.join(name)).unwrap()).collect()
    }

    #[test]
    fn a_crash_leaves_all_old_files_or_all_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        swap(directory, &[(KEY_FILE, b"old".to_vec()), (CERTIFICATE_FILE, b"old".to_vec())]).unwrap();
        let old = contents(directory);

        // Staged and not committed: back.
        write(&staged(directory, KEY_FILE), b"new").unwrap();
        finish_interrupted(directory).unwrap();
        assert_eq!(contents(directory), old);

        // Committed, one of two renamed: forward.
        write(&directory.join(KEY_FILE), b"new").unwrap();
        write(&staged(directory, CERTIFICATE_FILE), b"new").unwrap();
        write(&directory.join(COMMIT_FILE), b"").unwrap();
        finish_interrupted(directory).unwrap();
        assert_eq!(contents(directory), vec![Some(b"new".to_vec()); 2]);
        assert!(!directory.join(COMMIT_FILE).exists());
    }
}
