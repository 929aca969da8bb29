//! What a store may ask of a disk.

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::real::FileSystem;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It must be there.
    Read,
    /// Made with mode 0600 where it is not there. The name is durable only after [`Volume::sync_dir`].
    Write,
}

/// Files and directories of one disk. Errors are the operating system's.
pub trait Volume: Debug + Send + Sync {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>>;

    /// With its parents; one that is there is no error.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Paths of what lies in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// The length of a file, or `None` where there is none.
    fn length(&self, path: &Path) -> io::Result<Option<u64>>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes names durable: files made, renamed or removed in `dir`.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// What is free for an ordinary user around `path`, bytes; `None` where that is not known.
    fn free_bytes(&self, path: &Path) -> Option<u64>;

    /// The SQLite VFS that reaches the same files; `None`: SQLite's own.
    fn vfs(&self) -> Option<&str>;
}

/// One open file.
pub trait Handle: Debug + Send + Sync {
    /// At most `bytes.len()`; 0 at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// May write less than asked.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    fn length(&self) -> io::Result<u64>;

    /// Cuts off, or extends with zeros.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Content and length are durable on return. After an error it is unknown what is: never ask again, open anew.
    fn sync(&self) -> io::Result<()>;

    /// Keeps other processes off; false when one is there already. Released when the handle is dropped.
    fn lock(&self) -> io::Result<bool>;

    fn read_exact_at(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.read_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    bytes = bytes.get_mut(count..).unwrap_or_default();
                    offset = offset.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset = offset.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A disk, shared by the stores on it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Medium(Arc<dyn Volume>);

impl Medium {
    /// The host's file system.
    pub fn real() -> Self {
        Self::on(FileSystem)
    }

    pub fn on(volume: impl Volume + 'static) -> Self {
        Self(Arc::new(volume))
    }

    /// Makes the name of a file durable that was just made, renamed or removed.
    pub fn sync_name(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }
}

impl Deref for Medium {
    type Target = dyn Volume;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
