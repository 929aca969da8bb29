//! The disk: names, files, the power, and the call at which something happens.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use edgetrail_disk::{Access, Handle, Medium, Volume};

use crate::file::File;
use crate::rng::Rng;
use crate::vfs;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Eio,
    Enospc,
    /// A part is written, then the disk is full.
    Short,
    /// Not this call, but the next sync: EIO.
    Sync,
}

pub const FAULTS: [Fault; 4] = [Fault::Eio, Fault::Enospc, Fault::Short, Fault::Sync];

/// A disk in memory. Cheap to clone; all clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: u64,
    state: Mutex<State>,
}

pub(crate) type FileId = u64;

#[derive(Debug)]
pub(crate) struct State {
    rng: Rng,
    /// Times the power came on: what was opened before is dead.
    epoch: u64,
    powered: bool,
    /// Calls that change something.
    calls: u64,
    cut_at: Option<u64>,
    fault: Option<(u64, Fault)>,
    /// Bytes that files may take in all.
    capacity: Option<u64>,
    names: BTreeMap<PathBuf, FileId>,
    durable_names: BTreeMap<PathBuf, FileId>,
    pending_names: Vec<NameChange>,
    pub(crate) files: HashMap<FileId, File>,
    next_file: FileId,
    locked: HashSet<FileId>,
    pub(crate) shared: HashMap<FileId, Arc<vfs::Common>>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, FileId),
    Remove(PathBuf),
    Move(PathBuf, PathBuf, FileId),
}

/// What becomes of a call.
pub(crate) enum Verdict {
    Done,
    /// The power fails in the middle of it.
    Cut,
    Short,
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            Self::Set(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Move(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Set(path, _) | Self::Remove(path) | Self::Move(_, path, _) => path.parent(),
        }
    }
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Every disk by its number, for SQLite, which knows only paths.
fn disks() -> &'static Mutex<HashMap<u64, Weak<Shared>>> {
    static DISKS: OnceLock<Mutex<HashMap<u64, Weak<Shared>>>> = OnceLock::new();
    DISKS.get_or_init(Mutex::default)
}

impl Disk {
    /// An empty disk; `seed` decides what a power cut leaves.
    pub fn new(seed: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        vfs::register();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let state = State {
            rng: Rng::new(seed ^ 0x5eed),
            epoch: 0,
            powered: true,
            calls: 0,
            cut_at: None,
            fault: None,
            capacity: None,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            files: HashMap::new(),
            next_file: 1,
            locked: HashSet::new(),
            shared: HashMap::new(),
        };
        let shared = Arc::new(Shared { id, state: Mutex::new(state) });
        let mut disks = disks().lock().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|_, disk| disk.strong_count() > 0);
        disks.insert(id, Arc::downgrade(&shared));
        Self(shared)
    }

    pub fn medium(&self) -> Medium {
        Medium::on(self.clone())
    }

    /// A path on this disk, unlike any on another.
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/disk-{}/{name}", self.0.id))
    }

    /// The disk that a path lies on.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let first = path.components().nth(1)?.as_os_str().to_str()?;
        let id: u64 = first.strip_prefix("disk-")?.parse().ok()?;
        disks().lock().unwrap_or_else(PoisonError::into_inner).get(&id)?.upgrade().map(Self)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far that change something: each is a place to cut the power at.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The power fails in the middle of the `calls`-th call from now on, from 1.
    pub fn cut_after(&self, calls: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.calls + calls);
    }

    /// The `calls`-th call from now on fails, from 1.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.calls + calls, fault));
    }

    /// Whether a fault that was asked for is still to come.
    pub fn has_fault_ahead(&self) -> bool {
        let state = self.state();
        state.fault.is_some_and(|(at, fault)| at > state.calls || fault == Fault::Sync)
    }

    pub fn is_powered(&self) -> bool {
        self.state().powered
    }

    /// The power fails now, where it has not failed yet, and comes back.
    pub fn reboot(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let kept = state.rng.below(state.pending_names.len() + 1);
        for change in state.pending_names.drain(..).take(kept) {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        let named: HashSet<FileId> = state.names.values().copied().collect();
        state.files.retain(|id, _| named.contains(id));
        // In a fixed order: a seed loses the same bytes each time.
        let mut ids: Vec<FileId> = named.into_iter().collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(file) = state.files.get_mut(&id) {
                file.lose_power(&mut state.rng);
            }
        }
        (state.cut_at, state.fault) = (None, None);
        state.locked.clear();
        state.shared.clear();
        state.epoch += 1;
        state.powered = true;
    }

    /// Every process on the disk is killed: what it had open is dead, what it wrote is in the page cache still.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locked.clear();
        state.shared.clear();
        state.epoch += 1;
    }

    /// Bytes that files may take in all; a write beyond fails with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes that files take.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// What a file holds, as a reader sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.files.get(state.names.get(path)?)?.current.clone())
    }

    /// Puts content under a name, durably, as no program did; `None` removes it.
    pub fn replace(&self, path: &Path, content: Option<Vec<u8>>) {
        let mut state = self.state();
        match content {
            None => {
                state.names.remove(path);
                state.durable_names.remove(path);
            }
            Some(content) => {
                let id = match state.names.get(path) {
                    Some(&id) => id,
                    None => state.make(path),
                };
                state.durable_names.insert(path.to_owned(), id);
                state.files.entry(id).or_default().replace(content);
            }
        }
    }

    pub fn names(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }
}

impl State {
    /// A file without a name takes nothing.
    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.current.len() as u64).sum()
    }

    /// Counts a call that changes something and says what becomes of it.
    fn step(&mut self, epoch: u64) -> Result<Verdict, i32> {
        if !self.powered || epoch != self.epoch {
            return Err(EIO);
        }
        self.calls += 1;
        if self.cut_at == Some(self.calls) {
            self.powered = false;
            return Ok(Verdict::Cut);
        }
        match self.fault.filter(|&(at, _)| at == self.calls) {
            None | Some((_, Fault::Sync)) => Ok(Verdict::Done),
            Some((_, Fault::Short)) => Ok(Verdict::Short),
            Some((_, Fault::Eio)) => Err(EIO),
            Some((_, Fault::Enospc)) => Err(ENOSPC),
        }
    }

    /// Reading and looking is no change, but needs power too.
    pub(crate) fn alive(&self, epoch: u64) -> Result<(), i32> {
        if self.powered && epoch == self.epoch { Ok(()) } else { Err(EIO) }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn find(&self, path: &Path) -> Option<FileId> {
        self.names.get(path).copied()
    }

    fn make(&mut self, path: &Path) -> FileId {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, File::default());
        self.names.insert(path.to_owned(), id);
        self.pending_names.push(NameChange::Set(path.to_owned(), id));
        id
    }

    /// A name that is there, or a new file under it.
    pub(crate) fn find_or_make(&mut self, path: &Path, epoch: u64) -> Result<FileId, i32> {
        self.alive(epoch)?;
        match self.find(path) {
            Some(id) => Ok(id),
            None => {
                self.plain(epoch)?;
                Ok(self.make(path))
            }
        }
    }

    /// A call that is done or not, and never in part.
    fn plain(&mut self, epoch: u64) -> Result<(), i32> {
        match self.step(epoch)? {
            Verdict::Done => Ok(()),
            Verdict::Short => Err(ENOSPC),
            Verdict::Cut => Err(EIO),
        }
    }

    /// Gives how many bytes were written.
    pub(crate) fn write(&mut self, id: FileId, epoch: u64, offset: usize, bytes: &[u8]) -> Result<usize, i32> {
        let verdict = self.step(epoch)?;
        let free = self.capacity.map(|capacity| capacity.saturating_sub(self.used()));
        let Some(file) = self.files.get_mut(&id) else { return Err(EIO) };
        let grows = (offset + bytes.len()).saturating_sub(file.current.len()) as u64;
        if free.is_some_and(|free| grows > free) {
            return Err(ENOSPC);
        }
        match verdict {
            Verdict::Done => {
                file.write(offset, bytes);
                Ok(bytes.len())
            }
            Verdict::Cut => {
                file.write(offset, bytes);
                Err(EIO)
            }
            Verdict::Short => {
                let part = self.rng.below(bytes.len());
                file.write(offset, &bytes[..part]);
                Ok(part)
            }
        }
    }

    pub(crate) fn set_length(&mut self, id: FileId, epoch: u64, length: usize) -> Result<(), i32> {
        let verdict = self.step(epoch)?;
        let Some(file) = self.files.get_mut(&id) else { return Err(EIO) };
        match verdict {
            Verdict::Done => file.set_length(length),
            Verdict::Cut => {
                file.set_length(length);
                return Err(EIO);
            }
            Verdict::Short => return Err(ENOSPC),
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self, id: FileId, epoch: u64) -> Result<(), i32> {
        let mut verdict = self.step(epoch);
        if matches!(verdict, Ok(Verdict::Done)) && self.fault.is_some_and(|(at, fault)| fault == Fault::Sync && at <= self.calls)
        {
            self.fault = None;
            verdict = Err(EIO);
        }
        let Some(file) = self.files.get_mut(&id) else { return Err(EIO) };
        match verdict {
            Ok(Verdict::Done) => {
                file.sync();
                Ok(())
            }
            Ok(Verdict::Cut) => Err(EIO),
            Ok(Verdict::Short) => {
                file.fail_sync(&mut self.rng);
                Err(ENOSPC)
            }
            Err(errno) => {
                if self.powered && epoch == self.epoch {
                    file.fail_sync(&mut self.rng);
                }
                Err(errno)
            }
        }
    }

    pub(crate) fn remove(&mut self, path: &Path, epoch: u64) -> Result<(), i32> {
        self.plain(epoch)?;
        self.names.remove(path);
        self.pending_names.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    pub(crate) fn sync_dir(&mut self, dir: &Path, epoch: u64) -> Result<(), i32> {
        self.plain(epoch)?;
        self.sync_names(dir);
        Ok(())
    }

    /// Changes of names reach the disk in order: those before the last one of `dir` too.
    pub(crate) fn sync_names(&mut self, dir: &Path) {
        let last = self.pending_names.iter().rposition(|change| change.dir() == Some(dir));
        for change in self.pending_names.drain(..last.map_or(0, |last| last + 1)) {
            change.apply(&mut self.durable_names);
        }
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: Disk,
    id: FileId,
    epoch: u64,
    locked: Mutex<bool>,
}

impl Volume for Disk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn Handle>> {
        let mut state = self.state();
        let epoch = state.epoch;
        let id = match access {
            Access::Write => state.find_or_make(path, epoch).map_err(error)?,
            Access::Read => {
                state.alive(epoch).map_err(error)?;
                state.find(path).ok_or(io::ErrorKind::NotFound)?
            }
        };
        Ok(Box::new(OpenFile { disk: self.clone(), id, epoch, locked: Mutex::new(false) }))
    }

    fn make_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        state.alive(state.epoch).map_err(error)?;
        Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        let state = self.state();
        state.alive(state.epoch).map_err(error)?;
        Ok(state.find(path).and_then(|id| state.files.get(&id)).map(|file| file.current.len() as u64))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let epoch = state.epoch;
        state.plain(epoch).map_err(error)?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        state.pending_names.push(NameChange::Move(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let epoch = state.epoch;
        state.find(path).ok_or(io::ErrorKind::NotFound)?;
        state.remove(path, epoch).map_err(error)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let epoch = state.epoch;
        state.sync_dir(dir, epoch).map_err(error)
    }

    fn free_bytes(&self, _path: &Path) -> Option<u64> {
        let used = self.used();
        self.state().capacity.map(|capacity| capacity.saturating_sub(used))
    }

    fn vfs(&self) -> Option<&str> {
        Some(vfs::NAME)
    }
}

impl Handle for OpenFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.alive(self.epoch).map_err(error)?;
        let content = &state.files.get(&self.id).ok_or_else(|| error(EIO))?.current;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = bytes.len().min(content.len() - from);
        bytes[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(|_| error(EIO))?;
        self.disk.state().write(self.id, self.epoch, offset, bytes).map_err(error)
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive(self.epoch).map_err(error)?;
        Ok(state.files.get(&self.id).map_or(0, |file| file.current.len() as u64))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| error(EIO))?;
        self.disk.state().set_length(self.id, self.epoch, length).map_err(error)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync(self.id, self.epoch).map_err(error)
    }

    fn lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.alive(self.epoch).map_err(error)?;
        let free = state.locked.insert(self.id);
        *self.locked.lock().unwrap_or_else(PoisonError::into_inner) |= free;
        Ok(free)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if *self.locked.lock().unwrap_or_else(PoisonError::into_inner) && state.epoch == self.epoch {
            state.locked.remove(&self.id);
        }
    }
}
