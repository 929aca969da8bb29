//! One path and the files that were ever under it and may still be written: usually one, more around a rotation.
//!
//! The files are read oldest first. A file that was renamed away is kept until it is deleted, for its writer may hold it
//! open; beyond [`KEPT_MAX`] or a day without a write it is let go with a line in the agent's log, and taken up again where it
//! was left should it have grown when the directory next changes. The cursor names all of them, so that a restart goes
//! on with all, and takes none of them for new under whatever name.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::beside::{is_at, is_compressed, is_rotated, last_line_start, open, real, siblings};
use super::followee::{Followee, KEPT_MAX, Left};
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
    /// Where the next new file under the path is begun: only the first may be old.
    start: Start,
    /// Oldest first; the last is the one under the path, once that exists.
    pub(super) tails: Vec<Followee>,
    /// Files that were let go, the latest last: they lie beside the path, and are not to be read again.
    left: Vec<Left>,
    /// How far the file under the path was read when it was last truncated: a copy of it may lie beside.
    truncated: Option<Place>,
    generation: u64,
    /// Why the path could not be opened, said once.
    refused: Option<io::ErrorKind>,
}

/// A file that begins as one that is followed, as `copytruncate` leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// Up to here it was read as the other.
    Upto(u64),
    /// It is too short to tell: its writer may be at it.
    Growing,
}

/// What a path's cursor key begins with; the path follows.
pub(super) const CURSOR_PREFIX: &str = "file:";

/// Longest line of events, in bytes, and of CloudTrail's format, where one line may hold a whole log file.
const EVENT_LINE_BYTES_MAX: usize = crate::sources::event::EVENT_BYTES_MAX;
const CLOUDTRAIL_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Files of one path that are followed at once, and those that are remembered; older ones are given up with a report.
const TAILS_MAX: usize = 16;

impl Followed {
    /// A path of which nothing was read yet.
    pub(super) fn new(path: PathBuf, format: Format, start: Start) -> Self {
        let label = Arc::from(path.to_string_lossy());
        let generation = now_ns() / 1_000_000_000;
        let (tails, left, truncated, refused) = (Vec::new(), Vec::new(), None, None);
        Self { path, label, format, start, tails, left, truncated, generation, refused }
    }

    fn cursor(&self) -> Cursor {
        let left = self.left.iter().filter(|left| !left.is_gone).map(|left| &left.place);
        let places: Vec<&Place> = left.chain(self.tails.iter().map(|followee| &followee.tail.place)).collect();
        Cursor { key: format!("{CURSOR_PREFIX}{}", self.label), value: place::encode(&places) }
    }

    /// Where in a cursor the place of the tail at `index` stands.
    fn in_cursor(&self, index: usize) -> usize {
        self.left.iter().filter(|left| !left.is_gone).count() + index
    }

    /// Looks whether another file is under the path now. Called when its directory changed. `is_others`: whether a file is
    /// followed under a path of its own, however much its name looks like this one's.
    pub(super) fn look(&mut self, is_others: &dyn Fn(&Path, &Metadata) -> bool, out: &mut Vec<Observation>) {
        let file = match open(&self.path) {
            Ok(file) => file,
            Err(error) => return self.refuse(&error, out),
        };
        self.refused = None;
        let Ok(metadata) = file.metadata() else { return };
        if self.tails.iter().any(|followee| followee.tail.is(metadata.dev(), metadata.ino())) {
            return;
        }
        // One that was let go may be back.
        if let Some(at) = self.left.iter().position(|left| is_at(&left.place, &self.path, &metadata)) {
            let left = self.left.remove(at);
            self.follow(Tail::resume(file, left.place, self.format.framing()), out);
            return;
        }
        self.take_up_between((metadata.dev(), metadata.ino()), is_others, out);
        let offset = match std::mem::replace(&mut self.start, Start::Beginning) {
            Start::Beginning => 0,
            Start::End => last_line_start(&file, metadata.len()),
        };
        self.begin(file, offset, out);
    }

    /// Takes up the file under the path where one that it is a copy of was read to.
    pub(super) fn take_up_copy(&mut self, upto: u64, out: &mut Vec<Observation>) {
        self.start = Start::Beginning;
        match open(&self.path) {
            Ok(file) => self.begin(file, upto, out),
            Err(error) => self.refuse(&error, out),
        }
    }

    fn begin(&mut self, file: File, offset: u64, out: &mut Vec<Observation>) {
        match Tail::begin(file, self.next_generation(), offset, self.format.framing()) {
            Ok(tail) => self.follow(tail, out),
            Err(error) => self.refuse(&error, out),
        }
        // The start itself is made durable: a restart before the first line must not start at a later end.
        out.push(self.observation(String::new(), Payload::Nothing));
    }

    /// Takes files that were let go up again where they have grown since.
    pub(super) fn look_at_left(&mut self, out: &mut Vec<Observation>) {
        if self.left.iter().all(|left| left.is_gone) {
            return;
        }
        let siblings = siblings(&real(&self.path));
        for mut left in std::mem::take(&mut self.left) {
            let found = siblings.iter().find(|(path, metadata)| is_at(&left.place, path, metadata));
            left.is_gone = found.is_none();
            let grown = found.filter(|(_, metadata)| metadata.len() > left.place.offset);
            if let Some(file) = grown.and_then(|(path, _)| open(path).ok()) {
                self.follow(Tail::resume(file, left.place, self.format.framing()), out);
                // The oldest come first.
                self.tails.rotate_right(1);
                continue;
            }
            left.name = found.map(|(path, _)| path.clone()).or(left.name);
            self.left.push(left);
        }
    }

    /// Whether this file is, or was, one of this path's.
    pub(super) fn holds(&self, path: &Path, metadata: &Metadata) -> bool {
        self.tails.iter().any(|followee| followee.tail.is(metadata.dev(), metadata.ino()))
            || self.left.iter().any(|left| is_at(&left.place, path, metadata))
    }

    /// Device and inode of each file that is, or was, one of this path's.
    pub(super) fn ids(&self) -> impl Iterator<Item = (u64, u64)> {
        let tails = self.tails.iter().map(|followee| &followee.tail.place);
        tails.chain(self.left.iter().map(|left| &left.place)).map(|place| (place.device, place.inode))
    }

    /// Whether another file is a copy of one of this path's.
    pub(super) fn copied_by(&self, other: &File, length: u64) -> Option<Copy> {
        let tails = self.tails.iter().map(|followee| &followee.tail.place);
        let mut copy = None;
        for place in self.truncated.iter().chain(tails).filter(|place| place.offset > 0) {
            match place.head.begins_copy(other) {
                Some(true) if length >= place.offset => return Some(Copy::Upto(place.offset)),
                Some(true) | None => copy = Some(Copy::Growing),
                Some(false) => {}
            }
        }
        copy
    }

    /// Whether nothing is left to follow or to be known again, nor under the path.
    pub(super) fn is_over(&self) -> bool {
        self.tails.is_empty() && self.left.iter().all(|left| left.is_gone) && !self.path.exists()
    }

    /// Reads on in every file by one chunk. True if there may be more now.
    pub(super) fn read(&mut self, now: Instant, out: &mut Vec<Observation>) -> bool {
        let under = std::fs::metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let resting = self.resting();
        let mut more = false;
        for index in 0..self.tails.len() {
            more |= self.read_one(index, under, now, out);
        }
        let (done, tails): (Vec<Followee>, Vec<Followee>) = self.tails.drain(..).partition(|followee| followee.done);
        self.tails = tails;
        let is_changed = !done.is_empty() || self.resting() != resting;
        for followee in done {
            self.let_go(&followee, "it was deleted, or not written for a day");
        }
        for _ in KEPT_MAX..self.resting() {
            self.let_go_of_a_resting_one();
        }
        if is_changed {
            out.push(self.observation(String::new(), Payload::Nothing));
        }
        more
    }

    fn resting(&self) -> usize {
        self.tails.iter().filter(|followee| followee.tail.place.is_resting && !followee.is_deleted).count()
    }

    /// Lets the oldest file go that has nothing to read, if there is one.
    fn let_go_of_a_resting_one(&mut self) -> bool {
        let Some(at) = self.tails.iter().position(|followee| followee.tail.place.is_resting) else { return false };
        let followee = self.tails.remove(at);
        self.let_go(&followee, "later ones rest, too");
        true
    }

    fn let_go(&mut self, followee: &Followee, why: &str) {
        let Some(left) = Left::of(&followee.tail) else { return };
        let (file, offset) = (left.name.clone().unwrap_or_default(), left.place.offset);
        tracing::info!(path = %self.label, file = %file.display(), offset, why, "a rotated file is followed no more");
        if !followee.is_deleted {
            self.left.push(left);
            self.left.drain(..self.left.len().saturating_sub(TAILS_MAX));
        }
    }

    /// When a file that left its path may come to rest or be let go.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.tails.iter().filter_map(Followee::deadline).min()
    }

    fn read_one(&mut self, index: usize, under: Option<(u64, u64)>, now: Instant, out: &mut Vec<Observation>) -> bool {
        let line_bytes_max = self.line_bytes_max();
        let mut given = Vec::new();
        let Some(followee) = self.tails.get_mut(index) else { return false };
        let before = followee.tail.place.offset;
        let is_read = followee.tail.place.is_resting && followee.tail.is_read();
        let reach = match if is_read { Ok(Reach::End) } else { followee.tail.read(line_bytes_max, &mut given) } {
            Ok(reach) => reach,
            Err(error) => {
                tracing::warn!(path = %self.label, %error, "can't read a followed file");
                return false;
            }
        };
        match reach {
            Reach::End => followee.come_to_rest(under, now, &mut given),
            Reach::More => followee.written(),
            Reach::Truncated => {
                self.truncated(index, before, out);
                return true;
            }
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
                (offset, next, unparsed(&bytes, &reason))
            }
            Given::Unended { offset, next, bytes } => {
                (offset, next, unparsed(&bytes, "a line without its end in a file that was renamed and not written for 10 s"))
            }
            Given::Later { offset, next, bytes } => {
                (offset, next, unparsed(&bytes, "what came later of a line that was taken without its end"))
            }
        };
        let value = place::with_offset(&cursor.value, self.in_cursor(index), next);
        let cursor = Cursor { key: cursor.key.clone(), value };
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
        self.truncated = Some(Place { offset: before, ..followee.tail.place.clone() });
        followee.tail.restart(generation);
        if let Some(Given::Line { bytes, .. } | Given::Unended { bytes, .. } | Given::Later { bytes, .. }) = unfinished {
            out.push(self.observation(position, unparsed(&bytes, "the file was truncated before this line's end")));
        }
        self.lost(&format!("it was truncated after byte {before}: rotate by renaming to lose nothing"), out);
    }

    /// Finds the files of the cursor's places again, under the path or renamed beside it. [`Self::look`] follows.
    pub(super) fn resume(&mut self, cursor: &[u8], out: &mut Vec<Observation>) {
        let Some(places) = place::decode(cursor) else {
            return self.lost("the cursor of this path can't be read: what was written before now may be missing", out);
        };
        // What is under the path and in none of the places came while nobody looked.
        self.start = Start::Beginning;
        self.generation = places.iter().map(|place| place.generation).fold(self.generation, u64::max);
        let siblings = siblings(&real(&self.path));
        let mut kept = places.iter().filter(|place| place.is_resting).count();
        for place in places {
            let found = siblings.iter().find(|(path, metadata)| is_at(&place, path, metadata));
            let is_kept = !place.is_resting || kept <= KEPT_MAX;
            kept -= usize::from(place.is_resting);
            let Some(file) = found.and_then(|(path, _)| open(path).ok()) else {
                if !place.is_resting {
                    let (inode, offset) = (place.inode, place.offset);
                    let evidence =
                        format!("its file with inode {inode} is gone or rewritten: what followed byte {offset} was not read");
                    self.lost(&evidence, out);
                }
                self.truncated = Some(place);
                continue;
            };
            let tail = Tail::resume(file, place, self.format.framing());
            // One that has grown since is found by the next look, too.
            if is_kept { self.follow(tail, out) } else { self.left.extend(Left::of(&tail)) }
        }
    }

    /// Takes up files that came and went between the one last followed and the one under the path now.
    fn take_up_between(&mut self, under: (u64, u64), is_others: &dyn Fn(&Path, &Metadata) -> bool, out: &mut Vec<Observation>) {
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
            .filter(|(path, metadata)| is_rotated(&real, path) && !is_others(path, metadata) && !is_known(path, metadata))
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
        self.tails.push(Followee::new(tail));
        if self.tails.len() > TAILS_MAX && !self.let_go_of_a_resting_one() {
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

fn unparsed(bytes: &[u8], reason: &str) -> Payload {
    Payload::Unparsed(Unparsed { bytes: bytes.to_vec(), reason: reason.to_owned() })
}

fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
