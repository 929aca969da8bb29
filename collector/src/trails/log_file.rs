//! One log file while it is being made: `{"Records":[` records, as the agents made them, `]}`, as one gzip member.
//!
//! The same records give the same bytes at any time and in any process: the header holds no time and no name, and the
//! level is fixed. That is what lets a planned file be made again from its range of the ledger.

use std::io::Write as _;

use bytes::Bytes;
use edgetrail_proto::chain::Hash;
use flate2::{Compression, GzBuilder, write::GzEncoder};
use sha2::{Digest as _, Sha256};

/// Between time and size. Measured on records of 950 bytes, in µs and bytes each: level 1 2.1 and 94, 3 2.8 and 57,
/// 4 4.2 and 53, 6 6.2 and 48. (The SHA-256 beside it costs 1.3 µs.)
const LEVEL: u32 = 3;

const HEAD: &[u8] = b"{\"Records\":[";
const TAIL: &[u8] = b"]}";

/// Records of one account and region, in ledger order.
#[derive(Debug)]
pub(super) struct LogFile {
    /// First ledger_index of the range.
    pub(super) from: u64,
    gzip: GzEncoder<Vec<u8>>,
    hash: Sha256,
    bytes: u64,
    records: u64,
    /// eventTime, Unix seconds.
    oldest: u64,
    newest: u64,
}

/// A closed log file.
#[derive(Clone, Debug)]
pub(super) struct ClosedFile {
    /// Compressed, as it is stored.
    pub(super) body: Bytes,
    /// Of the uncompressed bytes.
    pub(super) sha256: Hash,
    pub(super) records: u64,
    pub(super) oldest: u64,
    pub(super) newest: u64,
}

impl LogFile {
    pub(super) fn new(from: u64) -> Self {
        let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(LEVEL));
        let mut file = Self { from, gzip, hash: Sha256::new(), bytes: 0, records: 0, oldest: u64::MAX, newest: 0 };
        file.write(HEAD);
        file
    }

    /// `time` is the record's eventTime, Unix seconds.
    pub(super) fn append(&mut self, record: &[u8], time: u64) {
        if self.records > 0 {
            self.write(b",");
        }
        self.write(record);
        self.records += 1;
        self.oldest = self.oldest.min(time);
        self.newest = self.newest.max(time);
    }

    /// Uncompressed.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it holds of memory: the compressed bytes so far.
    pub(super) fn held_bytes(&self) -> u64 {
        self.gzip.get_ref().len() as u64
    }

    pub(super) fn close(mut self) -> ClosedFile {
        self.write(TAIL);
        #[expect(clippy::expect_used, reason = "compressing into a Vec has no error to report")]
        let body = self.gzip.finish().expect("a Vec takes every write");
        let sha256 = Hash(self.hash.finalize().into());
        ClosedFile { body: body.into(), sha256, records: self.records, oldest: self.oldest, newest: self.newest }
    }

    fn write(&mut self, bytes: &[u8]) {
        #[expect(clippy::expect_used, reason = "compressing into a Vec has no error to report")]
        self.gzip.write_all(bytes).expect("a Vec takes every write");
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

/// One gzip member of bytes that are at hand, for digests and proofs.
pub(super) fn compress(bytes: &[u8]) -> Bytes {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(LEVEL));
    #[expect(clippy::expect_used, reason = "compressing into a Vec has no error to report")]
    let body = gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("a Vec takes every write");
    body.into()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn a_file_is_the_records_bytes_in_cloudtrails_envelope() {
        let mut file = LogFile::new(7);
        file.append(br#"{"a":1}"#, 20);
        file.append(br#"{"b" : 2}"#, 10);
        let plain = br#"{"Records":[{"a":1},{"b" : 2}]}"#;
        let closed = file.close();
        assert_eq!(gunzip(&closed.body), plain);
        assert_eq!(closed.sha256, Hash::of(plain));
        assert_eq!((closed.oldest, closed.newest, closed.records), (10, 20, 2));
    }

    #[test]
    fn the_same_records_give_the_same_bytes() {
        let make = || {
            let mut file = LogFile::new(0);
            (0..5_000u32).for_each(|i| file.append(format!("{{\"n\":{i},\"x\":\"{}\"}}", i % 97).as_bytes(), 1));
            file.close().body
        };
        assert_eq!(make(), make());
        // Byte 4–7 of a gzip header are the time; 10 is where data begins when no name stands before it.
        assert_eq!(make().get(..10).unwrap()[4..8], [0; 4]);
    }
}
