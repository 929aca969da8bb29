//! Where in which file: what a cursor of this source says.
//!
//! A file is known by device, inode and the hash of its beginning: an inode is reused, a beginning is not. The
//! generation makes positions unique where all three agree (an inode reused by a file that begins alike): it grows
//! with every file begun under a path, and starts from the clock.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) generation: u64,
    /// Everything before it is done with.
    pub(super) offset: u64,
    /// Whether `offset` lies within an overlong line, the rest of which is skipped.
    pub(super) skipping: bool,
    /// Whether `offset` lies within a line whose beginning was given out as its writer had fallen silent.
    pub(super) is_within: bool,
    /// Whether the file had left its path and was read to its end: that it is gone is then no loss.
    pub(super) is_resting: bool,
    pub(super) head: Head,
}

/// The beginning of a file: its length, at most [`HEAD_BYTES_MAX`], and hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    length: u16,
    hash: [u8; 16],
}

/// Beginning that is hashed, in bytes: a JSON line or two, with a time in it.
const HEAD_BYTES_MAX: u16 = 1024;

/// Length of one encoded place.
const PLACE_BYTES: usize = 8 * 4 + 1 + 2 + 16;

/// Where in it the offset lies.
const OFFSET_AT: usize = 24;

/// Bits of the byte behind the numbers.
const SKIPPING: u8 = 1;
const WITHIN: u8 = 2;
const RESTING: u8 = 4;

/// First byte of an encoded cursor.
const VERSION: u8 = 1;

impl Head {
    /// Of the first `done` bytes of a file, or as many of them as count.
    pub(super) fn of(file: &File, done: u64) -> io::Result<Self> {
        let length = u16::try_from(done).unwrap_or(HEAD_BYTES_MAX).min(HEAD_BYTES_MAX);
        let mut bytes = vec![0; usize::from(length)];
        file.read_exact_at(&mut bytes, 0)?;
        let mut hash = [0; 16];
        let digest = Sha256::digest(&bytes);
        hash.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        Ok(Self { length, hash })
    }

    /// Whether a file still begins like this.
    pub(super) fn begins(&self, file: &File) -> bool {
        self.length == 0 || Self::of(file, u64::from(self.length)).is_ok_and(|now| now == *self)
    }

    /// Whether another file begins like this: `None` while it is too short to tell.
    pub(super) fn begins_copy(&self, file: &File) -> Option<bool> {
        let length = u64::from(self.length);
        (length == 0 || file.metadata().ok()?.len() >= length).then(|| length != 0 && self.begins(file))
    }

    pub(super) const fn is_full(&self) -> bool {
        self.length >= HEAD_BYTES_MAX
    }
}

/// A path's cursor: its places, oldest file first.
pub(super) fn encode(places: &[&Place]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + places.len() * PLACE_BYTES);
    value.push(VERSION);
    for place in places {
        for number in [place.device, place.inode, place.generation, place.offset] {
            value.extend_from_slice(&number.to_be_bytes());
        }
        value.push(
            [(place.skipping, SKIPPING), (place.is_within, WITHIN), (place.is_resting, RESTING)]
                .into_iter()
                .filter_map(|(is_set, flag)| is_set.then_some(flag))
                .sum(),
        );
        value.extend_from_slice(&place.head.length.to_be_bytes());
        value.extend_from_slice(&place.head.hash);
    }
    value
}

/// The same cursor with another offset for the place at `index`: one cursor a line, encoded once a chunk.
pub(super) fn with_offset(encoded: &[u8], index: usize, offset: u64) -> Vec<u8> {
    let mut value = encoded.to_vec();
    let at = 1 + index * PLACE_BYTES + OFFSET_AT;
    if let Some(bytes) = value.get_mut(at..at + 8) {
        bytes.copy_from_slice(&offset.to_be_bytes());
    }
    value
}

/// `None` for what [`encode`] did not make.
pub(super) fn decode(value: &[u8]) -> Option<Vec<Place>> {
    let (version, rest) = value.split_first()?;
    let (places, []) = rest.as_chunks::<PLACE_BYTES>() else { return None };
    if *version != VERSION {
        return None;
    }
    places.iter().map(decode_place).collect()
}

fn decode_place(bytes: &[u8; PLACE_BYTES]) -> Option<Place> {
    let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    let length = u16::from_be_bytes(bytes.get(33..35)?.try_into().ok()?);
    let hash = bytes.get(35..51)?.try_into().ok()?;
    let flags = *bytes.get(32)?;
    Some(Place {
        device: number(0)?,
        inode: number(8)?,
        generation: number(16)?,
        offset: number(OFFSET_AT)?,
        skipping: flags & SKIPPING != 0,
        is_within: flags & WITHIN != 0,
        is_resting: flags & RESTING != 0,
        head: Head { length: length.min(HEAD_BYTES_MAX), hash },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_round_trips() {
        let place = Place {
            device: 1,
            inode: u64::MAX,
            generation: 3,
            offset: 4,
            skipping: true,
            is_within: false,
            is_resting: true,
            head: Head { length: 9, hash: [5; 16] },
        };
        assert_eq!(decode(&encode(&[&place, &place])), Some(vec![place.clone(), place.clone()]));
        let moved = Place { offset: 77, ..place.clone() };
        assert_eq!(with_offset(&encode(&[&place, &place]), 1, 77), encode(&[&place, &moved]));
        let within = Place { skipping: false, is_within: true, is_resting: false, ..place };
        assert_eq!(decode(&encode(&[&within])), Some(vec![within]));
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[VERSION]), Some(vec![]));
        assert_eq!(decode(&[VERSION, 0]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_cursors_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _either = decode(&bytes);
        }
    }
}
