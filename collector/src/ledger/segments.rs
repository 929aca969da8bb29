//! Append-only files that hold batch bodies as received.
//!
//! ```text
//! segments/00000001.seg   frame*            up to 64 MiB, then the next number
//! frame = length u32 ‖ crc32 u32 ‖ ledger_index u64 ‖ body[length]        crc over ledger_index ‖ body; big-endian
//! ```
//!
//! A frame counts only once a committed row names it: [`Segments::sync`] comes before that commit, and what no row
//! names behind the last named frame is cut off at start. Never read without its checksum and index being compared.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use edgetrail_disk::{Access, Handle, Medium};

use super::LedgerError;

/// A segment is followed by the next one at this size, in bytes: few are open, and retention frees disk soon.
pub(super) const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

const FRAME_HEADER_BYTES: usize = 16;

/// Where a body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// Of the body, without the frame's header.
    pub(super) length: u32,
}

/// The writing end. One per ledger, owned by the writer.
#[derive(Debug)]
pub(super) struct Segments {
    medium: Medium,
    dir: PathBuf,
    segment: u32,
    file: Box<dyn Handle>,
    /// End of the frames in `file`; what lies beyond is nothing.
    end: u64,
    segment_bytes: u64,
    unsynced: bool,
}

impl Position {
    pub(super) fn end(&self) -> u64 {
        self.offset + FRAME_HEADER_BYTES as u64 + u64::from(self.length)
    }
}

impl Segments {
    /// Opens for appending behind `last`, the last frame that a committed row names, and removes what lies beyond it.
    pub(super) fn recover(medium: &Medium, dir: &Path, last: Option<Position>, segment_bytes: u64) -> Result<Self, LedgerError> {
        medium.make_dir(dir).map_err(|source| io_error(dir, source))?;
        let (segment, end) = last.map_or((1, 0), |position| (position.segment, position.end()));
        for (number, path) in list(medium, dir)? {
            if number > segment {
                medium.remove(&path).map_err(|source| io_error(&path, source))?;
            }
        }
        let path = segment_path(dir, segment);
        let failed = |source| io_error(&path, source);
        let file = medium.open(&path, Access::Write).map_err(failed)?;
        let length = file.length().map_err(failed)?;
        if length < end {
            return Err(LedgerError::Damaged { what: "a segment is shorter than its committed frames", path });
        }
        if length > end {
            tracing::info!(path = %path.display(), cut_bytes = length - end, "cut off frames that no commit names");
            file.set_length(end).and_then(|()| file.sync()).map_err(failed)?;
        }
        sync_dir(medium, dir)?;
        if let Some(last) = last {
            read_frame(&*file, &path, last)?;
        }
        Ok(Self { medium: medium.clone(), dir: dir.to_owned(), segment, file, end, segment_bytes, unsynced: false })
    }

    /// Writes a frame behind the others. It is not durable before [`Segments::sync`].
    pub(super) fn append(&mut self, index: u64, body: &[u8]) -> Result<Position, LedgerError> {
        if self.end >= self.segment_bytes {
            self.roll()?;
        }
        let path = segment_path(&self.dir, self.segment);
        let length = u32::try_from(body.len()).map_err(|_| LedgerError::TooLong { bytes: body.len() })?;
        let mut header = [0; FRAME_HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&checksum(index, body).to_be_bytes());
        header[8..].copy_from_slice(&index.to_be_bytes());
        let position = Position { segment: self.segment, offset: self.end, length };
        let written = self
            .file
            .write_all_at(&header, position.offset)
            .and_then(|()| self.file.write_all_at(body, position.offset + FRAME_HEADER_BYTES as u64));
        written.map_err(|source| io_error(&path, source))?;
        self.end = position.end();
        self.unsynced = true;
        Ok(position)
    }

    /// Makes every frame written so far durable.
    pub(super) fn sync(&mut self) -> Result<(), LedgerError> {
        if self.unsynced {
            let path = segment_path(&self.dir, self.segment);
            self.file.sync().map_err(|source| LedgerError::Sync { path, source })?;
            self.unsynced = false;
        }
        Ok(())
    }

    pub(super) fn mark(&self) -> (u32, u64) {
        (self.segment, self.end)
    }

    /// Forgets what was appended since `mark`: the transaction that named it was rolled back.
    pub(super) fn rewind(&mut self, mark: (u32, u64)) -> Result<(), LedgerError> {
        if self.segment != mark.0 {
            let path = segment_path(&self.dir, mark.0);
            let file = self.medium.open(&path, Access::Write).map_err(|source| io_error(&path, source))?;
            for number in mark.0 + 1..=self.segment {
                let path = segment_path(&self.dir, number);
                self.medium.remove(&path).map_err(|source| io_error(&path, source))?;
            }
            self.file = file;
            self.segment = mark.0;
        }
        self.end = mark.1;
        let path = segment_path(&self.dir, self.segment);
        self.file.set_length(self.end).map_err(|source| io_error(&path, source))
    }

    fn roll(&mut self) -> Result<(), LedgerError> {
        self.sync()?;
        let segment = self.segment + 1;
        let path = segment_path(&self.dir, segment);
        let file = self.medium.open(&path, Access::Write).map_err(|source| io_error(&path, source))?;
        // What a group that failed may have left under this name.
        file.set_length(0).map_err(|source| io_error(&path, source))?;
        self.file = file;
        // The name must be as durable as the frames that will lie under it.
        sync_dir(&self.medium, &self.dir)?;
        (self.segment, self.end) = (segment, 0);
        Ok(())
    }
}

/// Reads one body and compares its checksum and index.
pub(super) fn read_body(medium: &Medium, dir: &Path, index: u64, position: Position) -> Result<Bytes, LedgerError> {
    let path = segment_path(dir, position.segment);
    let file = match medium.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(LedgerError::Released { index }),
        Err(source) => return Err(io_error(&path, source)),
    };
    let (found, body) = read_frame(&*file, &path, position)?;
    if found != index {
        return Err(LedgerError::Damaged { what: "a frame belongs to another ledger index", path });
    }
    Ok(body)
}

/// Removes a segment whose batches every consumer has passed.
pub(super) fn remove(medium: &Medium, dir: &Path, segment: u32) -> Result<(), LedgerError> {
    let path = segment_path(dir, segment);
    match medium.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read_frame(file: &dyn Handle, path: &Path, position: Position) -> Result<(u64, Bytes), LedgerError> {
    let damaged = |what| LedgerError::Damaged { what, path: path.to_owned() };
    let mut frame = vec![0; FRAME_HEADER_BYTES + position.length as usize];
    match file.read_exact_at(&mut frame, position.offset) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged("a segment ends inside a frame")),
        Err(source) => return Err(io_error(path, source)),
    }
    let mut frame = Bytes::from(frame);
    let header = frame.split_to(FRAME_HEADER_BYTES);
    let field = |range: std::ops::Range<usize>| header.get(range).and_then(|field| field.try_into().ok());
    let length = u32::from_be_bytes(field(0..4).unwrap_or_default());
    let crc = u32::from_be_bytes(field(4..8).unwrap_or_default());
    let index = header.get(8..).and_then(|field| field.try_into().ok()).map_or(0, u64::from_be_bytes);
    if length != position.length || crc != checksum(index, &frame) {
        return Err(damaged("a frame does not match its checksum"));
    }
    Ok((index, frame))
}

fn checksum(index: u64, body: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(&index.to_be_bytes());
    crc.update(body);
    crc.sum()
}

fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}.seg"))
}

fn list(medium: &Medium, dir: &Path) -> Result<Vec<(u32, PathBuf)>, LedgerError> {
    let paths = medium.list(dir).map_err(|source| io_error(dir, source))?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok();
    Ok(paths.into_iter().filter_map(|path| Some((number(&path)?, path))).collect())
}

fn sync_dir(medium: &Medium, dir: &Path) -> Result<(), LedgerError> {
    medium.sync_dir(dir).map_err(|source| LedgerError::Sync { path: dir.to_owned(), source })
}

fn io_error(path: &Path, source: io::Error) -> LedgerError {
    LedgerError::Io { path: path.to_owned(), source }
}
