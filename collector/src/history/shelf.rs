//! The row of files: which there are, what they span, and connections for reading them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use rusqlite::Connection;

use super::HistoryError;
use super::store;

/// Connections kept open between look-ups.
const READERS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
    /// By file number. Written by the consumer after each commit, read by look-ups.
    files: RwLock<BTreeMap<u32, Span>>,
    readers: Mutex<VecDeque<(u32, Connection)>>,
}

/// What a file holds, as of its last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub events: u64,
    pub closed: bool,
    /// Of eventTime, Unix seconds; meaningless without events.
    pub min_time: u64,
    pub max_time: u64,
    /// Of the ledger's commits, Unix nanoseconds; 0 without events.
    pub first_received: u64,
    pub last_received: u64,
}

impl Shelf {
    pub(super) fn open(dir: &Path) -> Result<Self, HistoryError> {
        let folder_error = |source| HistoryError::Folder { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(folder_error)?;
        let shelf = Self { dir: dir.to_owned(), files: RwLock::default(), readers: Mutex::default() };
        for entry in fs::read_dir(dir).map_err(folder_error)? {
            let name = entry.map_err(folder_error)?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_suffix(".sqlite")).and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if let Some(span) = shelf.read(number, store::span)? {
                shelf.set(number, span);
            }
        }
        Ok(shelf)
    }

    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}.sqlite"))
    }

    pub(super) fn set(&self, number: u32, span: Span) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(number, span);
    }

    pub(super) fn files(&self) -> BTreeMap<u32, Span> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the last file, where there is any.
    pub(super) fn last(&self) -> Option<u32> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).keys().next_back().copied()
    }

    /// Takes a file out of the row and unlinks it. A look-up that has it open reads on.
    pub(super) fn remove(&self, number: u32) -> Result<(), HistoryError> {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).retain(|(file, _)| *file != number);
        let path = self.path(number);
        for suffix in ["-wal", "-shm", ""] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            match fs::remove_file(&name) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(HistoryError::Folder { path, source }),
            }
        }
        Ok(())
    }

    /// Reads a file over a connection of its own.
    pub(super) fn read<T>(&self, number: u32, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, HistoryError> {
        let path = self.path(number);
        let file_error = |source| HistoryError::File { path: path.clone(), source };
        let kept = {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            readers.iter().position(|(file, _)| *file == number).and_then(|at| readers.remove(at))
        };
        let connection = match kept {
            Some((_, connection)) => connection,
            None => store::open_reader(&path)?,
        };
        let result = read(&connection).map_err(file_error)?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.push_back((number, connection));
        if readers.len() > READERS_MAX {
            readers.pop_front();
        }
        Ok(result)
    }
}
