//! One path and the files that were ever under it and are not read to their end: usually one, more around a rotation.
//!
//! The files are read oldest first. A file that was renamed away is read on until it was quiet for [`LEAVING_QUIET`]:
//! its writer may hold it open. The cursor names all of them, so that a restart goes on with all.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::place::{self, Place};
use super::tail::{Given, Reach, Tail};
use super::{Format, Line, Start};
use crate::observation::{Cursor, GapCause, Loss, Observation, Payload, SourceName, Unparsed};

/// A path that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    path: PathBuf,
    label: Arc<str>,
    format: Format,
    /// Oldest first; the last is the one under the path, once that exists.
    pub(super) tails: Vec<Followee>,
    /// Files that were let go, the latest last: they lie beside the path, and are not to be read again.
    left: Vec<Left>,
    generation: u64,
    /// Why the path could not be opened, said once.
    refused: Option<io::ErrorKind>,
}

/// An open file of a path.
#[derive(Debug)]
pub(super) struct Followee {
    pub(super) tail: Tail,
    /// Since when it is under the path no more and had nothing to read.
    quiet_since: Option<Instant>,
    /// Read to its end for good.
    done: bool,
}

/// A file that was read to its end and let go.
#[derive(Debug)]
struct Left {
    place: Place,
    /// As it was then, and under which name.
    metadata: Metadata,
    name: Option<PathBuf>,
}

/// What a path's cursor key begins with; the path follows.
pub(super) const CURSOR_PREFIX: &str = "file:";

/// A file that left its path is let go when it was not written for this long: loggers reopen within seconds.
pub(super) const LEAVING_QUIET: Duration = Duration::from_secs(10);

/// Longest line of events, in bytes, and of CloudTrail's format, where one line may hold a whole log file.
const EVENT_LINE_BYTES_MAX: usize = crate::sources::event::EVENT_BYTES_MAX;
const CLOUDTRAIL_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Files of one path that are followed at once; older ones are given up with a report.
const TAILS_MAX: usize = 16;

impl Followed {
    /// Takes up a path: where its cursor says, else at its start or end. `named`: as [`Self::look`] has it.
    pub(super) fn open(
        path: PathBuf,
        format: Format,
        start: Start,
        cursor: Option<&[u8]>,
        named: &BTreeSet<PathBuf>,
        out: &mut Vec<Observation>,
    ) -> Self {
        let label = Arc::from(path.to_string_lossy());
        let generation = now_ns() / 1_000_000_000;
        let mut it = Self { path, label, format, tails: Vec::new(), left: Vec::new(), generation, refused: None };
        match cursor.map(place::decode) {
            Some(Some(places)) => it.resume(places, named, out),
            Some(None) => {
                it.lost("the cursor of this path can't be read: what was written before now may be missing", out);
                it.look(start, named, out);
            }
            None => it.look(start, named, out),
        }
        it
    }

    fn cursor(&self) -> Cursor {
        let places: Vec<&Place> = self.tails.iter().map(|followee| &followee.tail.place).collect();
        Cursor { key: format!("{CURSOR_PREFIX}{}", self.label), value: place::encode(&places) }
    }

    /// Looks whether another file is under the path now. Called when its directory changed. `named`: files that are followed
    /// under paths of their own, however much their names look like this one's.
    pub(super) fn look(&mut self, start: Start, named: &BTreeSet<PathBuf>, out: &mut Vec<Observation>) {
        let file = match open(&self.path) {
            Ok(file) => file,
            Err(error) => return self.refuse(&error, out),
        };
        self.refused = None;
        let Ok(metadata) = file.metadata() else { return };
        if self.tails.iter().any(|followee| followee.tail.is(metadata.dev(), metadata.ino())) {
            return;
        }
        self.take_up_between((metadata.dev(), metadata.ino()), named, out);
        let offset = match start {
            Start::Beginning => 0,
            Start::End => last_line_start(&file, metadata.len()),
        };
        match Tail::begin(file, self.next_generation(), offset, self.format.framing()) {
            Ok(tail) => self.follow(tail, out),
            Err(error) => self.refuse(&error, out),
        }
        // The start itself is made durable: a restart before the first line must not start at a later end.
        out.push(self.observation(String::new(), Payload::Nothing));
    }

    /// Whether nothing is left to follow, nor under the path.
    pub(super) fn is_over(&self) -> bool {
        self.tails.is_empty() && !self.path.exists()
    }

    /// Reads on in every file by one chunk. True if there may be more now.
    pub(super) fn read(&mut self, out: &mut Vec<Observation>) -> bool {
        let under = std::fs::metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let mut more = false;
        for index in 0..self.tails.len() {
            more |= self.read_one(index, under, out);
        }
        let (done, tails): (Vec<Followee>, Vec<Followee>) = self.tails.drain(..).partition(|followee| followee.done);
        self.tails = tails;
        if !done.is_empty() {
            self.left.extend(done.into_iter().filter_map(|followee| Left::of(&followee.tail)));
            self.left.drain(..self.left.len().saturating_sub(TAILS_MAX));
            out.push(self.observation(String::new(), Payload::Nothing));
        }
        more
    }

    /// When a file that left its path may be let go.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let left = |since: Instant| LEAVING_QUIET.saturating_sub(since.elapsed()) + Duration::from_millis(1);
        self.tails.iter().filter_map(|followee| followee.quiet_since.map(left)).min()
    }

    fn read_one(&mut self, index: usize, under: Option<(u64, u64)>, out: &mut Vec<Observation>) -> bool {
        let line_bytes_max = self.line_bytes_max();
        let mut given = Vec::new();
        let Some(followee) = self.tails.get_mut(index) else { return false };
        let before = followee.tail.place.offset;
        let reach = match followee.tail.read(line_bytes_max, &mut given) {
            Ok(reach) => reach,
            Err(error) => {
                tracing::warn!(path = %self.label, %error, "can't read a followed file");
                return false;
            }
        };
        let left = under.map_or_else(|| followee.tail.is_unlinked(), |(device, inode)| !followee.tail.is(device, inode));
        match reach {
            Reach::End if left && followee.quiet_since.is_none() => followee.quiet_since = Some(Instant::now()),
            Reach::End => {}
            Reach::More => followee.quiet_since = None,
            Reach::Truncated => {
                self.truncated(index, before, out);
                return true;
            }
        }
        if reach == Reach::End && followee.quiet_since.is_some_and(|since| since.elapsed() >= LEAVING_QUIET) {
            given.extend(followee.tail.rest());
            followee.done = true;
        }
        let cursor = self.cursor();
        for one in given {
            self.give(index, one, &cursor, out);
        }
        reach == Reach::More
    }

    /// Each line carries a cursor to just behind itself: a commit may end with any of them.
    fn give(&self, index: usize, given: Given, cursor: &Cursor, out: &mut Vec<Observation>) {
        let Some(followee) = self.tails.get(index) else { return };
        let (offset, next, payload) = match given {
            Given::Line { offset, next, bytes } => {
                (offset, next, Payload::Line(Line { bytes, format: self.format.clone(), path: Arc::clone(&self.label) }))
            }
            Given::TooLong { offset, next, bytes } => {
                let reason = format!("a line of more than {} bytes: only its beginning is here", self.line_bytes_max());
                (offset, next, Payload::Unparsed(Unparsed { bytes: bytes.to_vec(), reason }))
            }
        };
        let cursor = Cursor { key: cursor.key.clone(), value: place::with_offset(&cursor.value, index, next) };
        let position = followee.tail.position(offset);
        out.push(Observation { source: SourceName::File, position, time: now_ns(), payload, cursor: Some(cursor), answer: None });
    }

    /// Begins a truncated file anew. What was written to it between the last reading and the truncation is not to be
    /// known, so the loss has no count.
    fn truncated(&mut self, index: usize, before: u64, out: &mut Vec<Observation>) {
        let generation = self.next_generation();
        let Some(followee) = self.tails.get_mut(index) else { return };
        let unfinished = followee.tail.rest();
        let position = followee.tail.position(before);
        followee.tail.restart(generation);
        if let Some(Given::Line { bytes, .. }) = unfinished {
            let reason = "the file was truncated before this line's end".to_owned();
            out.push(self.observation(position, Payload::Unparsed(Unparsed { bytes: bytes.to_vec(), reason })));
        }
        self.lost(&format!("it was truncated after byte {before}: rotate by renaming to lose nothing"), out);
    }

    /// Finds the files of the cursor's places again: under the path, or renamed beside it.
    fn resume(&mut self, places: Vec<Place>, named: &BTreeSet<PathBuf>, out: &mut Vec<Observation>) {
        self.generation = places.iter().map(|place| place.generation).fold(self.generation, u64::max);
        let siblings = siblings(&real(&self.path));
        for place in places {
            let found = siblings.iter().find(|(path, metadata)| is_at(&place, path, metadata));
            match found.map(|(path, _)| open(path)) {
                Some(Ok(file)) => self.follow(Tail::resume(file, place, self.format.framing()), out),
                _ => {
                    let (inode, offset) = (place.inode, place.offset);
                    self.lost(
                        &format!("its file with inode {inode} is gone or rewritten: what followed byte {offset} was not read"),
                        out,
                    );
                }
            }
        }
        self.look(Start::Beginning, named, out);
    }

    /// Takes up files that came and went between the one last followed and the one under the path now.
    fn take_up_between(&mut self, under: (u64, u64), named: &BTreeSet<PathBuf>, out: &mut Vec<Observation>) {
        let last = self.tails.last().and_then(|followee| Left::of(&followee.tail));
        let Some(last) = last.as_ref().or(self.left.last()) else { return };
        let is_since = |metadata: &Metadata| {
            let is_written = metadata.modified().ok() >= last.metadata.modified().ok();
            // Not every file system tells when a file was made.
            is_written && metadata.created().ok().zip(last.metadata.created().ok()).is_none_or(|(its, last)| its >= last)
        };
        let known: Vec<Left> = self.tails.iter().filter_map(|followee| Left::of(&followee.tail)).collect();
        let is_known = |path: &Path, metadata: &Metadata| {
            self.tails.iter().any(|followee| followee.tail.is(metadata.dev(), metadata.ino()))
                || self.left.iter().any(|left| is_at(&left.place, path, metadata))
                || is_compressed(path) && known.iter().chain(&self.left).any(|left| left.name == Some(path.with_extension("")))
        };
        let real = real(&self.path);
        let mut between: Vec<_> = siblings(&real)
            .into_iter()
            .filter(|(_, metadata)| (metadata.dev(), metadata.ino()) != under && is_since(metadata))
            .filter(|(path, metadata)| is_rotated(&real, path) && !named.contains(path) && !is_known(path, metadata))
            .collect();
        between.sort_by_key(|(_, metadata)| metadata.modified().ok());
        for (path, _) in between {
            if is_compressed(&path) {
                self.lost(
                    &format!(
                        "{} was compressed before it was read: decompress it beside the path, or delay compression",
                        path.display()
                    ),
                    out,
                );
            } else if let Ok(tail) =
                open(&path).and_then(|file| Tail::begin(file, self.next_generation(), 0, self.format.framing()))
            {
                self.follow(tail, out);
            }
        }
    }

    fn follow(&mut self, tail: Tail, out: &mut Vec<Observation>) {
        self.tails.push(Followee { tail, quiet_since: None, done: false });
        if self.tails.len() > TAILS_MAX {
            self.tails.remove(0);
            let evidence = format!("it was rotated more than {TAILS_MAX} times before it could be read");
            self.lost_for(GapCause::SourceOverflow, &evidence, out);
        }
    }

    fn refuse(&mut self, error: &io::Error, out: &mut Vec<Observation>) {
        if error.kind() == io::ErrorKind::NotFound || self.refused == Some(error.kind()) {
            return;
        }
        self.refused = Some(error.kind());
        tracing::warn!(path = %self.label, %error, "can't open a followed file");
        self.lost(&format!("it can't be opened ({error}): let the agent's user read it, or give it CAP_DAC_READ_SEARCH"), out);
    }

    fn lost(&self, evidence: &str, out: &mut Vec<Observation>) {
        self.lost_for(GapCause::SourceUnreadable, evidence, out);
    }

    fn lost_for(&self, cause: GapCause, evidence: &str, out: &mut Vec<Observation>) {
        let now = now_ns();
        let evidence = format!("{}: {evidence}", self.label);
        let loss = Loss { cause, count: None, exact: false, evidence, from: now, to: now };
        out.push(self.observation(uuid::Uuid::new_v4().to_string(), Payload::Loss(loss)));
    }

    fn observation(&self, position: String, payload: Payload) -> Observation {
        let cursor = Some(self.cursor());
        Observation { source: SourceName::File, position, time: now_ns(), payload, cursor, answer: None }
    }

    const fn line_bytes_max(&self) -> usize {
        match self.format {
            Format::Events | Format::Syslog | Format::Sudo => EVENT_LINE_BYTES_MAX,
            Format::CloudTrail | Format::Kubernetes => CLOUDTRAIL_LINE_BYTES_MAX,
            Format::Mapped(_) => crate::sources::lines::LINE_BYTES_MAX,
        }
    }

    const fn next_generation(&mut self) -> u64 {
        self.generation = self.generation.saturating_add(1);
        self.generation
    }
}

impl Left {
    fn of(tail: &Tail) -> Option<Self> {
        let name = std::fs::read_link(tail.own_path()).ok().map(|name| {
            let name = name.to_string_lossy().into_owned();
            PathBuf::from(name.strip_suffix(" (deleted)").unwrap_or(&name))
        });
        Some(Self { place: tail.place.clone(), metadata: tail.metadata().ok()?, name })
    }
}

/// Whether the file is the one of a place.
fn is_at(place: &Place, path: &Path, metadata: &Metadata) -> bool {
    (metadata.dev(), metadata.ino()) == (place.device, place.inode)
        && metadata.len() >= place.offset
        && open(path).is_ok_and(|file| place.head.begins(&file))
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|end| ["gz", "xz", "zst", "bz2"].iter().any(|known| end == *known))
}

/// Whether rotation would name a file of the path so: `app.json.1`, `app.json-20260101`, `app-2026-01-01T00-00-00.json`.
fn is_rotated(path: &Path, other: &Path) -> bool {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned).unwrap_or_default();
    let (name, other) = (name(path), name(other));
    let stem = name.split_once('.').map_or(name.as_str(), |(stem, _)| stem);
    let begins = |rest: &str| rest.starts_with(['.', '-', '_', '~']);
    let is_numbered = |rest: &str| rest.chars().nth(1).is_some_and(|first| first.is_ascii_digit());
    other.strip_prefix(&name).is_some_and(begins)
        || other.strip_prefix(stem).is_some_and(|rest| begins(rest) && is_numbered(rest))
}

/// A regular file, opened without waiting for a writer should it be a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")) }
}

/// Where the file lies that a link leads to: rotation renames it there.
fn real(path: &Path) -> PathBuf {
    let target = || Some(path.parent()?.join(std::fs::read_link(path).ok()?));
    path.canonicalize().ok().or_else(target).unwrap_or_else(|| path.to_owned())
}

/// The path's file and those beside it that rotation named after it.
fn siblings(path: &Path) -> Vec<(PathBuf, Metadata)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let named_alike = |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(|other| other.starts_with(stem));
    let with_metadata = |entry: std::fs::DirEntry| std::fs::metadata(entry.path()).ok().map(|metadata| (entry.path(), metadata));
    entries.flatten().filter(named_alike).filter_map(with_metadata).filter(|(_, metadata)| metadata.is_file()).collect()
}

/// Where the line begins that is being written at the file's end.
fn last_line_start(file: &File, length: u64) -> u64 {
    use std::os::unix::fs::FileExt;
    let window = length.min(64 * 1024);
    let from = length - window;
    let mut bytes = vec![0; usize::try_from(window).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, from) {
        Ok(()) => memchr::memrchr(b'\n', &bytes).map_or(if from == 0 { 0 } else { length }, |at| from + at as u64 + 1),
        Err(_) => length,
    }
}

fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
