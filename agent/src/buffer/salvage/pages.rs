//! The pages of a database that SQLite no longer reads, with what its write-ahead log says of them.
//!
//! The log's checksums are not asked: what is read of a page is hashed against a header before it is believed. Frames
//! count up to the last commit that the log shows.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use edgetrail_disk::{Access, Handle, Medium};

use super::cells::{self, Cell, PAGE_BYTES};

const LOG_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// A damaged database, read-only.
#[derive(Debug)]
pub(super) struct Pages {
    file: Option<Box<dyn Handle>>,
    log: Option<Box<dyn Handle>>,
    count: u32,
    /// Where in the log a page lies.
    in_log: HashMap<u32, u64>,
}

impl Pages {
    pub(super) fn open(medium: &Medium, path: &Path) -> io::Result<Self> {
        let open = |path: &Path| match medium.open(path, Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        };
        let mut log_path = path.as_os_str().to_owned();
        log_path.push("-wal");
        let (file, log) = (open(path)?, open(&PathBuf::from(log_path))?);
        if file.is_none() && log.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let length = file.as_ref().map(|file| file.length()).transpose()?.unwrap_or(0);
        let mut pages = Self {
            file,
            log,
            count: u32::try_from(length.div_ceil(PAGE_BYTES as u64)).unwrap_or(u32::MAX),
            in_log: HashMap::new(),
        };
        pages.read_log()?;
        Ok(pages)
    }

    /// Notes each page's last frame. Frames of an earlier round of the log have other salts.
    fn read_log(&mut self) -> io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let length = log.length()?;
        let mut salts = [0; 8];
        let mut committed = HashMap::new();
        let mut pending = HashMap::new();
        let mut at = LOG_HEADER_BYTES;
        if length < at || log.read_exact_at(&mut salts, 16).is_err() {
            return Ok(());
        }
        while at + (FRAME_HEADER_BYTES + PAGE_BYTES) as u64 <= length {
            let mut header = [0; FRAME_HEADER_BYTES];
            let read = log.read_exact_at(&mut header, at).is_ok();
            let number = u32_at(&header, 0).filter(|&number| read && number > 0 && header.get(8..16) == Some(salts.as_slice()));
            if let Some(number) = number {
                pending.insert(number, at + FRAME_HEADER_BYTES as u64);
                // What the database's size is after a commit; zero in its other frames.
                if u32_at(&header, 4) != Some(0) {
                    committed.extend(pending.drain());
                }
            }
            at += (FRAME_HEADER_BYTES + PAGE_BYTES) as u64;
        }
        self.count = self.count.max(committed.keys().copied().max().unwrap_or(0));
        self.in_log = committed;
        Ok(())
    }

    /// Pages are numbered from 1.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A page's bytes; `None` where the disk does not give them.
    pub(super) fn page(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; PAGE_BYTES];
        let read = match (self.in_log.get(&number), &self.log, &self.file) {
            (Some(&at), Some(log), _) => log.read_exact_at(&mut page, at),
            (_, _, Some(file)) => {
                let at = u64::from(number.checked_sub(1)?) * PAGE_BYTES as u64;
                // The last page of a file that was cut is read as far as it goes.
                let length = file.length().ok()?.checked_sub(at)?.min(PAGE_BYTES as u64);
                file.read_exact_at(page.get_mut(..usize::try_from(length).ok()?)?, at)
            }
            _ => return None,
        };
        read.ok().map(|()| page)
    }

    /// A row's bytes, with those that lie in further pages.
    pub(super) fn row(&self, page: &[u8], cell: &Cell) -> Option<Vec<u8>> {
        let end = cell.start.checked_add(cell.local)?;
        let mut row = Vec::with_capacity(cell.bytes);
        row.extend_from_slice(page.get(cell.start..end)?);
        let mut next = u32_at(page, end);
        while row.len() < cell.bytes {
            let further = self.page(next.filter(|&number| number > 0)?)?;
            next = u32_at(&further, 0);
            let wanted = (cell.bytes - row.len()).min(PAGE_BYTES - 4);
            row.extend_from_slice(further.get(4..4 + wanted)?);
        }
        Some(row)
    }

    /// Pages that hold nothing any more: what is read there was deleted. As far as the chain of their names is whole.
    pub(super) fn free(&self) -> HashSet<u32> {
        let mut free = HashSet::new();
        let mut trunk = self.page(1).and_then(|page| u32_at(&page, 32)).unwrap_or(0);
        while trunk > 0 && trunk <= self.count && free.insert(trunk) {
            let Some(page) = self.page(trunk) else { break };
            let names = u32_at(&page, 4).map_or(0, |count| usize::try_from(count).unwrap_or(0)).min(PAGE_BYTES / 4 - 2);
            free.extend((0..names).filter_map(|index| u32_at(&page, 8 + 4 * index)));
            trunk = u32_at(&page, 0).unwrap_or(0);
        }
        free
    }

    /// The row at a place that [`cells::offsets`] named.
    pub(super) fn row_at(&self, number: u32, offset: u16) -> Option<Vec<u8>> {
        let page = self.page(number)?;
        self.row(&page, &cells::cell(number, &page, offset)?)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}
