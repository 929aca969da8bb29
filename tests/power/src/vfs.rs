//! SQLite's way to the simulated disk: a VFS in its C interface. The one place with `unsafe` in the tree, and tests only.
//!
//! Why it holds: SQLite hands each method a pointer that it got from [`x_open`] (or the VFS that was registered), never
//! after `xClose`; buffers are as long as it says. Every method takes the disk's one lock; no reference to a file's
//! content outlives it. Shared memory is leaked to SQLite as pointers into boxes that live as long as any connection.
//!
//! Locks are the rules of <https://sqlite.org/lockingv3.html> and of `xShmLock`, in memory.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use crate::disk::{Disk, FileId};

pub(crate) const NAME: &str = "edgetrail-power";
const C_NAME: &CStr = c"edgetrail-power";

const SHM_LOCKS: usize = ffi::SQLITE_SHM_NLOCK as usize;

/// What the connections to one database share: file locks and the log's index.
#[derive(Debug, Default)]
pub(crate) struct Common {
    locks: Mutex<Locks>,
}

#[derive(Debug, Default)]
struct Locks {
    /// Connections that hold SHARED or more.
    shared: usize,
    /// The connection that holds RESERVED, PENDING or EXCLUSIVE.
    reserved: Option<u64>,
    pending: Option<u64>,
    exclusive: Option<u64>,
    /// Whole 8-byte words, as SQLite's index wants to lie.
    regions: Vec<Box<[u64]>>,
    /// Of each lock: -1 exclusive, else how many share it.
    index: [i32; SHM_LOCKS],
    mapped: usize,
}

#[repr(C)]
struct Slot {
    base: sqlite3_file,
    file: *mut OpenFile,
}

struct OpenFile {
    place: Place,
    connection: u64,
    level: c_int,
    mapped: bool,
    /// Locks of the index that this connection holds, a bit each.
    shares: u16,
    excludes: u16,
}

enum Place {
    Disk {
        disk: Disk,
        id: FileId,
        epoch: u64,
        common: Arc<Common>,
        path: PathBuf,
        /// A log that was just made: SQLite syncs its name with its first content.
        sync_name: bool,
    },
    /// A temporary file: nothing that must outlive anything.
    Memory(Vec<u8>),
}

impl Common {
    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the VFS known to SQLite, once.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default VFS exists as long as the process; what is registered is leaked and so does too.
        unsafe {
            let default = ffi::sqlite3_vfs_find(std::ptr::null());
            let mut vfs = *default;
            vfs.iVersion = 2;
            vfs.szOsFile = c_int::try_from(size_of::<Slot>()).unwrap();
            vfs.mxPathname = 512;
            vfs.pNext = std::ptr::null_mut();
            vfs.zName = C_NAME.as_ptr();
            vfs.pAppData = std::ptr::null_mut();
            vfs.xOpen = Some(x_open);
            vfs.xDelete = Some(x_delete);
            vfs.xAccess = Some(x_access);
            vfs.xFullPathname = Some(x_full_pathname);
            vfs.xDlOpen = None;
            vfs.xDlError = None;
            vfs.xDlSym = None;
            vfs.xDlClose = None;
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0);
            assert_eq!(code, ffi::SQLITE_OK);
        }
    });
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_unlock),
    xCheckReservedLock: Some(x_check_reserved_lock),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_device_characteristics),
    xShmMap: Some(x_shm_map),
    xShmLock: Some(x_shm_lock),
    xShmBarrier: Some(x_shm_barrier),
    xShmUnmap: Some(x_shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// # Safety
/// `name` is a C string.
unsafe fn path_of(name: *const c_char) -> PathBuf {
    // SAFETY: as the caller says.
    let name = unsafe { CStr::from_ptr(name) };
    PathBuf::from(name.to_str().expect("this test's paths are UTF-8"))
}

/// # Safety
/// `file` came from [`x_open`] and was not closed.
unsafe fn opened<'a>(file: *mut sqlite3_file) -> &'a mut OpenFile {
    // SAFETY: x_open put a leaked box there; SQLite uses a file from one thread at a time.
    unsafe { &mut *(*file.cast::<Slot>()).file }
}

fn next_connection() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

unsafe extern "C" fn x_open(
    _vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives szOsFile bytes; with no methods it will not call xClose.
    unsafe { (*file).pMethods = std::ptr::null() };
    let place = if name.is_null() {
        Place::Memory(Vec::new())
    } else {
        // SAFETY: SQLite's name is a C string.
        let path = unsafe { path_of(name) };
        let Some(disk) = Disk::of(&path) else { return ffi::SQLITE_CANTOPEN };
        let mut state = disk.state();
        let epoch = state.epoch();
        if state.alive(epoch).is_err() {
            return ffi::SQLITE_CANTOPEN;
        }
        let found = state.find(&path);
        let id = match found {
            Some(id) => id,
            None if flags & ffi::SQLITE_OPEN_CREATE != 0 => match state.find_or_make(&path, epoch) {
                Ok(id) => id,
                Err(_) => return ffi::SQLITE_CANTOPEN,
            },
            None => return ffi::SQLITE_CANTOPEN,
        };
        let common = Arc::clone(state.shared.entry(id).or_default());
        let is_log = flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
        drop(state);
        Place::Disk { disk, id, epoch, common, path, sync_name: found.is_none() && is_log }
    };
    let open =
        OpenFile { place, connection: next_connection(), level: ffi::SQLITE_LOCK_NONE, mapped: false, shares: 0, excludes: 0 };
    // SAFETY: `file` has room for a Slot; `out_flags` may be null.
    unsafe {
        (*file.cast::<Slot>()).file = Box::into_raw(Box::new(open));
        (*file).pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: see `opened`.
    let open = unsafe { opened(file) };
    unlock(open, ffi::SQLITE_LOCK_NONE);
    unmap(open);
    // SAFETY: the box that x_open leaked; SQLite does not use it again.
    unsafe {
        drop(Box::from_raw((*file.cast::<Slot>()).file));
        (*file).pMethods = std::ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_read(file: *mut sqlite3_file, into: *mut c_void, amount: c_int, offset: ffi::sqlite3_int64) -> c_int {
    // SAFETY: `into` holds `amount` bytes.
    let (open, into) = unsafe { (opened(file), std::slice::from_raw_parts_mut(into.cast::<u8>(), amount as usize)) };
    let fill = |content: &[u8], into: &mut [u8]| {
        let from = (offset as usize).min(content.len());
        let count = into.len().min(content.len() - from);
        into[..count].copy_from_slice(&content[from..from + count]);
        into[count..].fill(0);
        if count == into.len() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
    };
    match &open.place {
        Place::Memory(content) => fill(content, into),
        Place::Disk { disk, id, epoch, .. } => {
            let state = disk.state();
            match (state.alive(*epoch), state.files.get(id)) {
                (Ok(()), Some(file)) => fill(&file.current, into),
                _ => ffi::SQLITE_IOERR_READ,
            }
        }
    }
}

unsafe extern "C" fn x_write(file: *mut sqlite3_file, from: *const c_void, amount: c_int, offset: ffi::sqlite3_int64) -> c_int {
    // SAFETY: `from` holds `amount` bytes.
    let (open, bytes) = unsafe { (opened(file), std::slice::from_raw_parts(from.cast::<u8>(), amount as usize)) };
    let offset = offset as usize;
    match &mut open.place {
        Place::Memory(content) => {
            if content.len() < offset + bytes.len() {
                content.resize(offset + bytes.len(), 0);
            }
            content[offset..offset + bytes.len()].copy_from_slice(bytes);
            ffi::SQLITE_OK
        }
        Place::Disk { disk, id, epoch, .. } => match disk.state().write(*id, *epoch, offset, bytes) {
            Ok(count) if count == bytes.len() => ffi::SQLITE_OK,
            // As SQLite's own VFS says it of a disk that is full.
            Ok(_) | Err(28) => ffi::SQLITE_FULL,
            Err(_) => ffi::SQLITE_IOERR_WRITE,
        },
    }
}

unsafe extern "C" fn x_truncate(file: *mut sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: see `opened`.
    match unsafe { &mut opened(file).place } {
        Place::Memory(content) => {
            content.resize(size as usize, 0);
            ffi::SQLITE_OK
        }
        Place::Disk { disk, id, epoch, .. } => {
            let done = disk.state().set_length(*id, *epoch, size as usize);
            done.map_or(ffi::SQLITE_IOERR_TRUNCATE, |()| ffi::SQLITE_OK)
        }
    }
}

unsafe extern "C" fn x_sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: see `opened`.
    match unsafe { &mut opened(file).place } {
        Place::Memory(_) => ffi::SQLITE_OK,
        Place::Disk { disk, id, epoch, path, sync_name, .. } => {
            let mut state = disk.state();
            if state.sync(*id, *epoch).is_err() {
                return ffi::SQLITE_IOERR_FSYNC;
            }
            if std::mem::take(sync_name) {
                let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
                state.sync_names(&dir);
            }
            ffi::SQLITE_OK
        }
    }
}

unsafe extern "C" fn x_file_size(file: *mut sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: see `opened`; `size` is SQLite's variable.
    let (open, size) = unsafe { (opened(file), &mut *size) };
    match &open.place {
        Place::Memory(content) => *size = content.len() as i64,
        Place::Disk { disk, id, epoch, .. } => {
            let state = disk.state();
            match (state.alive(*epoch), state.files.get(id)) {
                (Ok(()), Some(file)) => *size = file.current.len() as i64,
                _ => return ffi::SQLITE_IOERR_FSTAT,
            }
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see `opened`.
    let open = unsafe { opened(file) };
    if open.level >= level {
        return ffi::SQLITE_OK;
    }
    let Place::Disk { common, .. } = &open.place else {
        open.level = level;
        return ffi::SQLITE_OK;
    };
    let me = Some(open.connection);
    let mut locks = common.locks();
    let other = |holder: Option<u64>| holder.is_some() && holder != me;
    match level {
        ffi::SQLITE_LOCK_SHARED => {
            if other(locks.pending) || other(locks.exclusive) {
                return ffi::SQLITE_BUSY;
            }
            locks.shared += 1;
        }
        ffi::SQLITE_LOCK_RESERVED => {
            if other(locks.reserved) || other(locks.pending) {
                return ffi::SQLITE_BUSY;
            }
            locks.reserved = me;
        }
        _ => {
            if other(locks.reserved) || other(locks.pending) {
                return ffi::SQLITE_BUSY;
            }
            locks.pending = me;
            if locks.shared > 1 {
                open.level = ffi::SQLITE_LOCK_PENDING;
                return ffi::SQLITE_BUSY;
            }
            locks.exclusive = me;
        }
    }
    open.level = level;
    ffi::SQLITE_OK
}

fn unlock(open: &mut OpenFile, level: c_int) {
    if open.level <= level {
        return;
    }
    if let Place::Disk { common, .. } = &open.place {
        let mut locks = common.locks();
        let me = Some(open.connection);
        let locks = &mut *locks;
        for holder in [&mut locks.reserved, &mut locks.pending, &mut locks.exclusive] {
            if *holder == me {
                *holder = None;
            }
        }
        if level == ffi::SQLITE_LOCK_NONE {
            locks.shared -= 1;
        }
    }
    open.level = level;
}

unsafe extern "C" fn x_unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see `opened`.
    unlock(unsafe { opened(file) }, level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_check_reserved_lock(file: *mut sqlite3_file, held: *mut c_int) -> c_int {
    // SAFETY: see `opened`; `held` is SQLite's variable.
    let (open, held) = unsafe { (opened(file), &mut *held) };
    *held = match &open.place {
        Place::Memory(_) => 0,
        Place::Disk { common, .. } => c_int::from(common.locks().reserved.is_some()),
    };
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_file_control(_file: *mut sqlite3_file, _op: c_int, _argument: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

/// As SQLite's own VFS says.
unsafe extern "C" fn x_sector_size(_file: *mut sqlite3_file) -> c_int {
    4096
}

/// As SQLite's own VFS says: bytes beside a write are not touched when the power fails.
unsafe extern "C" fn x_device_characteristics(_file: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn x_shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    at: *mut *mut c_void,
) -> c_int {
    // SAFETY: see `opened`; `at` is SQLite's variable.
    let (open, at) = unsafe { (opened(file), &mut *at) };
    *at = std::ptr::null_mut();
    let Place::Disk { common, .. } = &open.place else { return ffi::SQLITE_IOERR_SHMMAP };
    let mut locks = common.locks();
    if !open.mapped {
        open.mapped = true;
        locks.mapped += 1;
    }
    let region = region as usize;
    while extend != 0 && locks.regions.len() <= region {
        locks.regions.push(vec![0; size as usize / 8].into_boxed_slice());
    }
    if let Some(region) = locks.regions.get_mut(region) {
        *at = region.as_mut_ptr().cast();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_shm_lock(file: *mut sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: see `opened`.
    let open = unsafe { opened(file) };
    let Place::Disk { common, .. } = &open.place else { return ffi::SQLITE_IOERR_SHMLOCK };
    let range = first as usize..(first + count) as usize;
    let mask = range.clone().fold(0u16, |mask, bit| mask | 1 << bit);
    let mut locks = common.locks();
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        for at in range {
            if open.excludes & 1 << at != 0 {
                locks.index[at] = 0;
            } else if open.shares & 1 << at != 0 {
                locks.index[at] -= 1;
            }
        }
        open.shares &= !mask;
        open.excludes &= !mask;
        return ffi::SQLITE_OK;
    }
    if flags & ffi::SQLITE_SHM_SHARED != 0 {
        if open.shares & mask != 0 {
            return ffi::SQLITE_OK;
        }
        if range.clone().any(|at| locks.index[at] < 0) {
            return ffi::SQLITE_BUSY;
        }
        range.for_each(|at| locks.index[at] += 1);
        open.shares |= mask;
    } else {
        if range.clone().any(|at| locks.index[at] != 0) {
            return ffi::SQLITE_BUSY;
        }
        range.for_each(|at| locks.index[at] = -1);
        open.excludes |= mask;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_shm_barrier(_file: *mut sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

fn unmap(open: &mut OpenFile) {
    let Place::Disk { common, .. } = &open.place else { return };
    let mut locks = common.locks();
    for at in 0..SHM_LOCKS {
        if open.excludes & 1 << at != 0 {
            locks.index[at] = 0;
        } else if open.shares & 1 << at != 0 {
            locks.index[at] -= 1;
        }
    }
    (open.shares, open.excludes) = (0, 0);
    if std::mem::take(&mut open.mapped) {
        locks.mapped -= 1;
    }
    // The first connection after the last one finds no index and builds it from the log.
    if locks.mapped == 0 {
        locks.regions.clear();
    }
}

unsafe extern "C" fn x_shm_unmap(file: *mut sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: see `opened`.
    unmap(unsafe { opened(file) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_delete(_vfs: *mut sqlite3_vfs, name: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: SQLite's name is a C string.
    let path = unsafe { path_of(name) };
    let Some(disk) = Disk::of(&path) else { return ffi::SQLITE_IOERR_DELETE };
    let mut state = disk.state();
    let epoch = state.epoch();
    if state.find(&path).is_none() {
        return ffi::SQLITE_IOERR_DELETE_NOENT;
    }
    if state.remove(&path, epoch).is_err() {
        return ffi::SQLITE_IOERR_DELETE;
    }
    if sync_dir != 0 && state.sync_dir(path.parent().unwrap_or(Path::new("/")), epoch).is_err() {
        return ffi::SQLITE_IOERR_DIR_FSYNC;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_access(_vfs: *mut sqlite3_vfs, name: *const c_char, _flags: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite's name is a C string, `out` its variable.
    let (path, out) = unsafe { (path_of(name), &mut *out) };
    *out = 0;
    if let Some(disk) = Disk::of(&path) {
        let state = disk.state();
        let length = state.find(&path).and_then(|id| state.files.get(&id)).map(|file| file.current.len());
        // As SQLite's own VFS: an empty log counts as none.
        *out = c_int::from(length.is_some_and(|length| length > 0));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_full_pathname(_vfs: *mut sqlite3_vfs, name: *const c_char, room: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite's name is a C string; `out` has `room` bytes.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > room as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}
