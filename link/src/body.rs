//! A batch's records on the wire and in the ledger: each behind its length, then compressed as a whole.
//!
//! ```text
//! body = (length u32 big-endian ‖ record)*          decoded, at most BODY_BYTES_MAX
//! wire = identity(body) | zstd(body) | gzip(body)
//! ```
//! A decoder never makes more bytes than it was told to expect, and never more than [`BODY_BYTES_MAX`]: whatever the
//! input claims, memory is bounded before the first byte is decoded.

use std::io::Read;

use edgetrail_proto::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_FRAME_BYTES};

use crate::wire;

/// Largest decoded body, in bytes: a full batch's records, each in its frame.
pub const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_RECORDS_MAX * RECORD_FRAME_BYTES;

/// Source: measured on CloudTrail records of 830 bytes, level 3 costs half of level 6's CPU for 5 % more bytes.
const ZSTD_LEVEL: i32 = 3;

/// Largest window that a zstd frame may ask for, as a power of two: 2 MiB holds the largest body.
const ZSTD_WINDOW_LOG_MAX: u32 = 21;

const _: () = assert!(BODY_BYTES_MAX <= 1 << ZSTD_WINDOW_LOG_MAX);

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    Identity,
    Zstd,
    Gzip,
}

/// The bytes are not a batch body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("a body of {bytes} bytes is announced; at most {BODY_BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("the body decodes to another length than the {announced} bytes that were announced")]
    Length { announced: usize },
    #[error("the body is not valid {encoding:?}")]
    Encoding {
        encoding: Encoding,
        #[source]
        source: std::io::Error,
    },
    #[error("the frame at byte {offset} reaches beyond the body's end")]
    Frame { offset: usize },
    #[error("the body frames more than {BATCH_RECORDS_MAX} records")]
    Count,
}

impl Encoding {
    /// `None` for an encoding of a later version.
    pub fn from_wire(encoding: i32) -> Option<Self> {
        Some(match wire::Encoding::try_from(encoding).ok()? {
            wire::Encoding::Identity => Self::Identity,
            wire::Encoding::Zstd => Self::Zstd,
            wire::Encoding::Gzip => Self::Gzip,
        })
    }

    pub fn to_wire(self) -> i32 {
        let encoding = match self {
            Self::Identity => wire::Encoding::Identity,
            Self::Zstd => wire::Encoding::Zstd,
            Self::Gzip => wire::Encoding::Gzip,
        };
        encoding.into()
    }
}

/// Appends one record in its frame. A record's length fits u32: limits keep it far below.
pub fn frame(body: &mut Vec<u8>, record: &[u8]) {
    body.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(record);
}

/// The records of a decoded body, borrowed, in order; stops at the first error.
pub fn unframe(body: &[u8]) -> Records<'_> {
    Records { body, offset: 0, count: 0 }
}

/// Reads one frame after another.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    offset: usize,
    count: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<&'a [u8], BodyError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.body.get(self.offset..).filter(|rest| !rest.is_empty())?;
        if self.count == BATCH_RECORDS_MAX {
            self.offset = self.body.len();
            return Some(Err(BodyError::Count));
        }
        let record = rest.split_first_chunk::<RECORD_FRAME_BYTES>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            rest.get(..length)
        });
        Some(match record {
            Some(record) => {
                self.offset += RECORD_FRAME_BYTES + record.len();
                self.count += 1;
                Ok(record)
            }
            None => {
                let offset = std::mem::replace(&mut self.offset, self.body.len());
                Err(BodyError::Frame { offset })
            }
        })
    }
}

/// Compresses bodies with one context that is kept from batch to batch.
pub struct Encoder(zstd::bulk::Compressor<'static>);

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// Fails only where the context's memory can't be had.
    pub fn new() -> std::io::Result<Self> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL).map(Self)
    }

    /// Encodes as zstd; what does not become smaller stays as it is.
    pub fn encode(&mut self, body: Vec<u8>) -> (Encoding, Vec<u8>) {
        match self.0.compress(&body) {
            Ok(encoded) if encoded.len() < body.len() => (Encoding::Zstd, encoded),
            Ok(_) | Err(_) => (Encoding::Identity, body),
        }
    }
}

/// Decodes bodies with one context that is kept from batch to batch.
pub struct Decoder(zstd::bulk::Decompressor<'static>);

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// Fails only where the context's memory can't be had.
    pub fn new() -> std::io::Result<Self> {
        let mut context = zstd::bulk::Decompressor::new()?;
        context.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
        Ok(Self(context))
    }

    /// The decoded body, exactly `announced` bytes long. Trailing bytes behind the encoded body are an error.
    pub fn decode(&mut self, encoding: Encoding, encoded: &[u8], announced: usize) -> Result<Vec<u8>, BodyError> {
        if announced > BODY_BYTES_MAX {
            return Err(BodyError::TooLong { bytes: announced });
        }
        let failed = |source| BodyError::Encoding { encoding, source };
        let body = match encoding {
            Encoding::Identity if encoded.len() == announced => encoded.to_vec(),
            Encoding::Identity => return Err(BodyError::Length { announced }),
            // One pass into a buffer of the announced size: zstd stops at its end, and no window is allocated beside it.
            Encoding::Zstd => self.0.decompress(encoded, announced).map_err(failed)?,
            Encoding::Gzip => gunzip(encoded, announced).map_err(failed)?,
        };
        if body.len() == announced { Ok(body) } else { Err(BodyError::Length { announced }) }
    }
}

/// Reads one gzip member, at most one byte more than was announced, and nothing behind it.
fn gunzip(encoded: &[u8], announced: usize) -> std::io::Result<Vec<u8>> {
    let mut decoder = flate2::bufread::GzDecoder::new(encoded);
    let mut body = Vec::with_capacity(announced);
    let cap = u64::try_from(announced).unwrap_or(u64::MAX).saturating_add(1);
    decoder.by_ref().take(cap).read_to_end(&mut body)?;
    if body.len() <= announced && !decoder.into_inner().is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "bytes follow the gzip member"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn framed(records: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        records.iter().for_each(|record| frame(&mut body, record));
        body
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_went_in(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..50)) {
            let body = framed(&records);
            let (encoding, encoded) = Encoder::new().unwrap().encode(body.clone());
            let mut decoder = Decoder::new().unwrap();
            let decoded = decoder.decode(encoding, &encoded, body.len()).unwrap();
            let back: Vec<Vec<u8>> = unframe(&decoded).map(|record| record.unwrap().to_vec()).collect();
            prop_assert_eq!(&back, &records);
            prop_assert_eq!(decoder.decode(Encoding::Gzip, &gzip(&body), body.len()).unwrap(), body);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_grow(bytes in prop::collection::vec(any::<u8>(), 0..2000), announced in 0..5000usize) {
            let mut decoder = Decoder::new().unwrap();
            for encoding in [Encoding::Identity, Encoding::Zstd, Encoding::Gzip] {
                if let Ok(body) = decoder.decode(encoding, &bytes, announced) {
                    prop_assert_eq!(body.len(), announced);
                }
            }
            let mut used = 0;
            for record in unframe(&bytes).flatten() {
                used += record.len() + RECORD_FRAME_BYTES;
            }
            prop_assert!(used <= bytes.len());
        }
    }

    #[test]
    fn a_bomb_stops_at_the_announced_length() {
        let zeros = vec![0; 64 * 1024 * 1024];
        let mut decoder = Decoder::new().unwrap();
        let zstd_bomb = zstd::bulk::compress(&zeros, 19).unwrap();
        assert!(zstd_bomb.len() < 16 * 1024);
        for (encoding, bomb) in [(Encoding::Zstd, zstd_bomb), (Encoding::Gzip, gzip(&zeros))] {
            assert!(decoder.decode(encoding, &bomb, 1024).is_err(), "{encoding:?}");
            assert!(matches!(decoder.decode(encoding, &bomb, zeros.len()), Err(BodyError::TooLong { .. })), "{encoding:?}");
        }
    }

    #[test]
    fn what_follows_an_encoded_body_is_refused() {
        let body = framed(&[b"{}".to_vec()]);
        let mut decoder = Decoder::new().unwrap();
        let with_junk = |mut bytes: Vec<u8>| {
            bytes.extend_from_slice(b"junk");
            bytes
        };
        assert!(decoder.decode(Encoding::Gzip, &with_junk(gzip(&body)), body.len()).is_err());
        assert!(decoder.decode(Encoding::Zstd, &with_junk(zstd::bulk::compress(&body, 3).unwrap()), body.len()).is_err());
        assert!(decoder.decode(Encoding::Identity, &with_junk(body.clone()), body.len()).is_err());
    }

    #[test]
    fn a_frame_beyond_the_end_and_too_many_records_are_named() {
        let mut short = framed(&[b"abc".to_vec(), b"def".to_vec()]);
        short.pop();
        let last = unframe(&short).last().unwrap();
        assert!(matches!(last, Err(BodyError::Frame { offset: 7 })));
        let many = framed(&vec![Vec::new(); BATCH_RECORDS_MAX + 1]);
        assert!(matches!(unframe(&many).last().unwrap(), Err(BodyError::Count)));
    }
}
