//! One open file, read line by line.
//!
//! A line is given out once it has its end. What was read of an unfinished one is kept, and its place in the cursor is
//! the line's beginning.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::place::{Head, Place};
use crate::sources::lines::cri;
use crate::sources::lines::framing::Framing;

/// An open file and how far it is read.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    pub(super) place: Place,
    /// Bytes from `place.offset` on that are read and not yet given out: no line's end among them.
    carry: BytesMut,
    /// `DEVICE.INODE.GENERATION:`, what positions begin with.
    prefix: String,
    pub(super) watch: Option<i32>,
    framing: Framing,
}

/// What a file had to give.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// `next` is where the line after it begins.
    Line { offset: u64, next: u64, bytes: Bytes },
    /// A line over the limit: its beginning. The rest is skipped.
    TooLong { offset: u64, next: u64, bytes: Bytes },
    /// A last line that nobody ended and that is not known to be whole.
    Unended { offset: u64, next: u64, bytes: Bytes },
    /// What came later of a line whose beginning was given out as [`Tail::rest`].
    Later { offset: u64, next: u64, bytes: Bytes },
}

/// Whether there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    More,
    End,
    /// The file is shorter than what was read of it, or begins differently.
    Truncated,
}

/// Read at once, in bytes: some 300 events, so that a group's commit carries many.
const CHUNK_BYTES: usize = 256 * 1024;

/// What stands behind the last entry of sudo's log: it is written over, and is the rest of no entry.
const OBJECT_END: &[u8] = b"}";

/// Kept of an overlong line.
const TOO_LONG_KEPT_BYTES: usize = 64 * 1024;

impl Tail {
    /// From `place` on. The caller has checked that it is the same file.
    pub(super) fn resume(file: File, place: Place, framing: Framing) -> Self {
        let prefix = prefix(&place);
        Self { file, place, carry: BytesMut::new(), prefix, watch: None, framing }
    }

    /// From `offset` of a file that was not followed before.
    pub(super) fn begin(file: File, generation: u64, offset: u64, framing: Framing) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let head = Head::of(&file, framing.settled(offset))?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        let place = Place { device, inode, generation, offset, skipping: false, is_within: false, is_resting: false, head };
        Ok(Self::resume(file, place, framing))
    }

    /// The position of the line at `offset`. docs/protocol.md §2.
    pub(super) fn position(&self, offset: u64) -> String {
        let mut number = [0; 20];
        let mut position = String::with_capacity(self.prefix.len() + number.len());
        position.push_str(&self.prefix);
        position.push_str(decimal(offset, &mut number));
        position
    }

    pub(super) fn is(&self, device: u64, inode: u64) -> bool {
        (self.place.device, self.place.inode) == (device, inode)
    }

    /// The same file anew, after it was truncated.
    pub(super) fn restart(&mut self, generation: u64) {
        let (device, inode) = (self.place.device, self.place.inode);
        let head = Head::default();
        self.place = Place { device, inode, generation, offset: 0, skipping: false, is_within: false, is_resting: false, head };
        self.prefix = prefix(&self.place);
        self.carry = BytesMut::new();
    }

    /// Whether no name leads to the file any more.
    pub(super) fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// For how long it was not written, by its own time.
    pub(super) fn unwritten(&self) -> Duration {
        let modified = self.file.metadata().and_then(|metadata| metadata.modified()).ok();
        modified.and_then(|modified| modified.elapsed().ok()).unwrap_or_default()
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// A name under which this very file can be watched, whatever lies under its path by now.
    pub(super) fn own_path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Reads on by one chunk and gives what is complete. `line_bytes_max` bounds memory.
    pub(super) fn read(&mut self, line_bytes_max: usize, given: &mut Vec<Given>) -> io::Result<Reach> {
        let read_to = self.place.offset + self.carry.len() as u64;
        let held = self.carry.len();
        // No more memory than there is to read: every file is looked at whenever one is written. One byte on top shows growth.
        let ahead = usize::try_from(self.file.metadata()?.len().saturating_sub(read_to)).unwrap_or(CHUNK_BYTES);
        self.carry.resize(held + CHUNK_BYTES.min(ahead.saturating_add(1)), 0);
        let read = loop {
            match self.file.read_at(self.carry.get_mut(held..).unwrap_or_default(), read_to) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        // Judged behind the reading: a file that is still the same now was so when it was read.
        if read.is_ok() && !self.is_the_same(read_to)? {
            self.carry.truncate(held);
            return Ok(Reach::Truncated);
        }
        self.carry.truncate(held + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.take_lines(held, line_bytes_max, given);
        if !self.place.head.is_full() {
            let longer = Head::of(&self.file, self.framing.settled(self.place.offset))?;
            // Truncated since, it is found out by the next reading: with the old head, not with one of what follows.
            if self.is_the_same(read_to)? {
                self.place.head = longer;
            }
        }
        if self.carry.is_empty() {
            // An idle file holds no memory.
            self.carry = BytesMut::new();
        }
        Ok(if read == 0 { Reach::End } else { Reach::More })
    }

    /// Whether the file still holds what was read of it, as far as length and beginning tell.
    fn is_the_same(&self, read_to: u64) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() >= read_to && self.place.head.begins(&self.file))
    }

    /// Whether the file is as long as what was read of it.
    pub(super) fn is_read(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() == self.place.offset + self.carry.len() as u64)
    }

    /// The unfinished last line of a file that nobody seems to write any more. What comes of it after all is
    /// [`Given::Later`].
    pub(super) fn rest(&mut self) -> Option<Given> {
        if self.place.skipping || self.framing == Framing::Members && self.carry.trim_ascii() == OBJECT_END {
            return None;
        }
        let bytes = self.carry.split().freeze();
        if bytes.is_empty() {
            return None;
        }
        let offset = self.place.offset;
        self.place.offset += bytes.len() as u64;
        let next = self.place.offset;
        if std::mem::replace(&mut self.place.is_within, true) {
            return Some(Given::Later { offset, next, bytes });
        }
        // JSON says itself whether it is whole; half a line of text reads as another.
        if bytes.first() == Some(&b'{') {
            return Some(Given::Line { offset, next, bytes });
        }
        Some(Given::Unended { offset, next, bytes })
    }

    fn take_lines(&mut self, held: usize, line_bytes_max: usize, given: &mut Vec<Given>) {
        let Some(last_end) = self.last_end(held) else {
            if self.place.skipping {
                self.place.offset += self.carry.len() as u64;
                self.carry.clear();
            } else if self.carry.len() > line_bytes_max {
                let bytes = self.carry.split().freeze();
                let offset = self.place.offset;
                self.place.offset += bytes.len() as u64;
                self.place.skipping = true;
                self.place.is_within = false;
                let bytes = bytes.slice(..bytes.len().min(TOO_LONG_KEPT_BYTES));
                given.push(Given::TooLong { offset, next: self.place.offset, bytes });
            }
            return;
        };
        let whole = self.carry.split_to(last_end).freeze();
        let mut from = 0;
        for end in self.framing.ends(&whole, self.place.skipping || self.place.is_within) {
            let offset = self.place.offset + from as u64;
            let line = trimmed(whole.slice(from..end));
            from = end + 1;
            let is_within = std::mem::take(&mut self.place.is_within);
            if std::mem::take(&mut self.place.skipping) || line.is_empty() {
                continue;
            }
            let next = self.place.offset + from as u64;
            if is_within {
                given.push(Given::Later { offset, next, bytes: line.slice(..TOO_LONG_KEPT_BYTES.min(line.len())) });
            } else if line.len() > line_bytes_max {
                given.push(Given::TooLong { offset, next, bytes: line.slice(..TOO_LONG_KEPT_BYTES.min(line.len())) });
            } else {
                given.push(Given::Line { offset, next, bytes: line });
            }
        }
        self.place.offset += whole.len() as u64;
    }

    /// Behind the last entry that is whole. Of lines, up to `held` there is none.
    fn last_end(&self, held: usize) -> Option<usize> {
        if self.framing == Framing::Lines || self.framing == Framing::Cri && !cri::may_be_cut(&self.carry) {
            let fresh = self.carry.get(held..).unwrap_or_default();
            return memchr::memrchr(b'\n', fresh).map(|at| held + at + 1);
        }
        self.framing.ends(&self.carry, self.place.skipping || self.place.is_within).last().map(|at| at + 1)
    }
}

fn prefix(place: &Place) -> String {
    format!("{:x}.{:x}.{}:", place.device, place.inode, place.generation)
}

fn trimmed(line: Bytes) -> Bytes {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Bytes::new();
    }
    match line.split_last() {
        Some((b'\r', before)) => line.slice(..before.len()),
        _ => line,
    }
}

/// Decimal digits without the formatting machinery: this runs once a line.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &str {
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        // Proof: a remainder by ten fits a byte.
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        used += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(20 - used..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(given: &[Given]) -> Vec<String> {
        given
            .iter()
            .map(|given| match given {
                Given::Line { offset, bytes, .. } => format!("{offset}:{}", String::from_utf8_lossy(bytes)),
                Given::TooLong { offset, bytes, .. } => format!("{offset}!{}", bytes.len()),
                Given::Unended { offset, bytes, .. } => format!("{offset}?{}", String::from_utf8_lossy(bytes)),
                Given::Later { offset, bytes, .. } => format!("{offset}+{}", String::from_utf8_lossy(bytes)),
            })
            .collect()
    }

    fn read(tail: &mut Tail, max: usize) -> (Vec<String>, Reach) {
        let mut given = Vec::new();
        let reach = tail.read(max, &mut given).unwrap();
        (lines(&given), reach)
    }

    #[test]
    fn a_partial_last_line_waits_for_its_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::begin(file.reopen().unwrap(), 1, 0, Framing::Lines).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(read(&mut tail, 100), (vec!["0:one".to_owned()], Reach::More));
        assert_eq!(tail.place.offset, 4);
        assert_eq!(read(&mut tail, 100), (vec![], Reach::End));
        file.write_all(b"o\r\n\n \nthree\n").unwrap();
        assert_eq!(read(&mut tail, 100).0, ["4:two", "12:three"]);
    }

    #[test]
    fn an_overlong_line_is_named_once_and_skipped() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::begin(file.reopen().unwrap(), 1, 0, Framing::Lines).unwrap();
        file.write_all(&[b'x'; 50]).unwrap();
        assert_eq!(read(&mut tail, 10).0, ["0!50"]);
        file.write_all(&[b'x'; 50]).unwrap();
        assert_eq!(read(&mut tail, 10).0, Vec::<String>::new());
        file.write_all(b"x\nnext\n").unwrap();
        assert_eq!(read(&mut tail, 10).0, ["102:next"]);
    }

    #[test]
    fn a_shorter_file_and_another_beginning_are_truncation() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::begin(file.reopen().unwrap(), 1, 0, Framing::Lines).unwrap();
        file.write_all(b"one\ntwo\n").unwrap();
        read(&mut tail, 100);
        file.as_file().set_len(0).unwrap();
        assert_eq!(read(&mut tail, 100).1, Reach::Truncated);
        std::fs::write(file.path(), "another\nand more\n").unwrap();
        assert_eq!(read(&mut tail, 100).1, Reach::Truncated);
    }

    #[test]
    fn a_containers_cut_line_waits_for_its_end_and_others_are_lines() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::begin(file.reopen().unwrap(), 1, 0, Framing::Cri).unwrap();
        let line = |tag: &str, text: &str| format!("2025-12-31T17:37:40Z stdout {tag} {text}\n");
        file.write_all(format!("{}{}", line("F", "whole"), line("P", "a")).as_bytes()).unwrap();
        assert_eq!(read(&mut tail, 1000).0.len(), 1);
        assert_eq!(read(&mut tail, 1000), (vec![], Reach::End), "the part waits");
        file.write_all(format!("{}plain\n", line("F", "b")).as_bytes()).unwrap();
        let given = read(&mut tail, 1000).0;
        assert!(given.len() == 2 && given[0].contains(" a\n") && given[0].ends_with(" b"), "{given:?}");
        assert!(given[1].ends_with(":plain"));
    }

    /// As real sudo 1.9.13 writes it: each entry over the end of the one before.
    #[test]
    fn entries_of_sudos_log_are_whole_though_its_end_is_written_over() {
        use std::io::{Seek, SeekFrom};
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::begin(file.reopen().unwrap(), 1, 0, Framing::Members).unwrap();
        let entry = |n: u32| format!("\n    \"accept\": {{\n        \"t\": {{\n            \"n\": {n}\n        }}\n    }}\n}}\n");
        file.write_all(format!("{{{}", entry(1)).as_bytes()).unwrap();
        let mut all = read(&mut tail, 1000).0;
        for n in 2..4 {
            let place = tail.place.clone();
            file.as_file_mut().seek(SeekFrom::End(-3)).unwrap();
            file.write_all(format!(",{}", entry(n)).as_bytes()).unwrap();
            if n == 3 {
                // After a restart.
                assert!(place.head.begins(file.as_file()));
                tail = Tail::resume(file.reopen().unwrap(), place, Framing::Members);
            }
            let (given, reach) = read(&mut tail, 1000);
            assert_ne!(reach, Reach::Truncated);
            all.extend(given);
        }
        assert_eq!(all.len(), 3, "{all:?}");
        for (n, entry) in (1..).zip(&all) {
            assert!(entry.contains(&format!("\"n\": {n}\n")) && entry.matches("accept").count() == 1, "{entry}");
        }
    }

    #[test]
    fn decimals_are_right_at_the_ends() {
        for number in [0, 7, 10, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string());
        }
    }
}
