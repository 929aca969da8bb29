//! A request's body, read and decompressed within bounds.
//!
//! One budget for all requests of a listener: what no request may hold more of, all together hold at most a few times.
//! Who finds none left is told to come back; nobody waits while holding.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads bodies.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    bytes_max: u64,
    budget: Arc<Semaphore>,
}

/// A body, as it was before it was compressed. Its room is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    _room: Room,
}

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body has more than {bytes_max} bytes: send smaller batches, or raise body_max")]
    TooLarge { bytes_max: u64 },
    #[error("Content-Encoding `{encoding}` is not read here: use gzip, zstd, deflate or none")]
    Encoding { encoding: String },
    #[error("the body is not {encoding}")]
    Compressed { encoding: &'static str },
    #[error("the body ended early: nothing was taken, send again")]
    Broken,
    #[error("the body did not arrive within {} s: nothing was taken, send again", BODY_WAIT.as_secs())]
    Slow,
    #[error("too many requests at once: nothing was taken, send again")]
    Busy,
}

/// Room taken from the budget, in KiB.
#[derive(Debug)]
struct Room {
    budget: Arc<Semaphore>,
    permits: Option<OwnedSemaphorePermit>,
    kib: u64,
}

/// A body that takes longer is given up.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// All bodies together hold as much as this many of the largest.
const BODIES_AT_ONCE: u64 = 2;

/// zstd windows above this are refused. Source: RFC 8878 §3.1.1.1.2, what every decoder should support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decompressed in pieces of this many bytes: room is taken before the next.
const PIECE_BYTES: usize = 64 * 1024;

impl BodyError {
    /// Whether the same request may be taken later.
    pub(crate) const fn is_retryable(&self) -> bool {
        match self {
            Self::Broken | Self::Slow | Self::Busy => true,
            Self::TooLarge { .. } | Self::Encoding { .. } | Self::Compressed { .. } => false,
        }
    }
}

impl Reader {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let kib = usize::try_from(bytes_max.saturating_mul(BODIES_AT_ONCE) / 1024).unwrap_or(usize::MAX);
        Self { bytes_max, budget: Arc::new(Semaphore::new(kib.clamp(1, Semaphore::MAX_PERMITS))) }
    }

    /// The whole body, compressed as `encoding` says (`None`: not at all).
    pub(crate) async fn read(&self, body: Incoming, encoding: Option<&str>) -> Result<Body, BodyError> {
        let encoding = Encoding::named(encoding.unwrap_or("identity"))?;
        let received = tokio::time::timeout(BODY_WAIT, self.receive(body)).await.unwrap_or(Err(BodyError::Slow))?;
        self.expand(received, encoding)
    }

    /// The same of a message within a body that is compressed by itself. An uncompressed one stays a part of its body.
    pub(crate) fn expand_part(&self, part: Bytes, encoding: Option<&str>) -> Result<Body, BodyError> {
        let encoding = Encoding::named(encoding.unwrap_or("identity"))?;
        self.expand(Body { bytes: part, _room: self.room() }, encoding)
    }

    fn room(&self) -> Room {
        Room { budget: Arc::clone(&self.budget), permits: None, kib: 0 }
    }

    async fn receive(&self, mut body: Incoming) -> Result<Body, BodyError> {
        let too_large = || BodyError::TooLarge { bytes_max: self.bytes_max };
        if body.size_hint().lower() > self.bytes_max {
            return Err(too_large());
        }
        let mut room = self.room();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            let length = bytes.len() as u64 + data.len() as u64;
            if length > self.bytes_max {
                return Err(too_large());
            }
            room.grow(length)?;
            bytes.extend_from_slice(&data);
        }
        Ok(Body { bytes: bytes.freeze(), _room: room })
    }

    fn expand(&self, body: Body, encoding: Encoding) -> Result<Body, BodyError> {
        let failed = BodyError::Compressed { encoding: encoding.name() };
        let mut decoder: Box<dyn Read + '_> = match encoding {
            Encoding::Identity => return Ok(body),
            Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&*body.bytes)),
            Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(&*body.bytes)),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(&*body.bytes).map_err(|_| failed.clone())?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| failed.clone())?;
                Box::new(decoder)
            }
        };
        let mut room = self.room();
        let mut bytes = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = decoder.read(&mut piece).map_err(|_| failed.clone())?;
            if count == 0 {
                break;
            }
            let length = bytes.len() as u64 + count as u64;
            if length > self.bytes_max {
                return Err(BodyError::TooLarge { bytes_max: self.bytes_max });
            }
            room.grow(length)?;
            bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
        Ok(Body { bytes: bytes.into(), _room: room })
    }
}

impl Room {
    /// Takes what `bytes` need beyond what is held already.
    fn grow(&mut self, bytes: u64) -> Result<(), BodyError> {
        let kib = bytes.div_ceil(1024);
        let Some(more) = kib.checked_sub(self.kib).filter(|more| *more > 0) else { return Ok(()) };
        let more = u32::try_from(more).map_err(|_| BodyError::Busy)?;
        let permits = Arc::clone(&self.budget).try_acquire_many_owned(more).map_err(|_| BodyError::Busy)?;
        match &mut self.permits {
            Some(held) => held.merge(permits),
            held @ None => *held = Some(permits),
        }
        self.kib = kib;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Encoding {
    fn named(name: &str) -> Result<Self, BodyError> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            other => Err(BodyError::Encoding { encoding: other.chars().take(32).collect() }),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn body(reader: &Reader, bytes: Vec<u8>) -> Body {
        Body { bytes: bytes.into(), _room: reader.room() }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_encoding_gives_the_bytes_back_and_a_bomb_is_stopped_at_the_bound() {
        let reader = Reader::new(1024 * 1024);
        let plain = b"who did what ".repeat(1000);
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(&plain).unwrap();
        let zstd = zstd::bulk::compress(&plain, 3).unwrap();
        for (encoding, bytes) in
            [(Encoding::Gzip, gzip(&plain)), (Encoding::Deflate, deflate.finish().unwrap()), (Encoding::Zstd, zstd)]
        {
            assert_eq!(reader.expand(body(&reader, bytes.clone()), encoding).unwrap().bytes, plain);
            let cut = bytes[..bytes.len() / 2].to_vec();
            assert_eq!(
                reader.expand(body(&reader, cut), encoding).unwrap_err(),
                BodyError::Compressed { encoding: encoding.name() }
            );
        }
        let zeros = vec![0; 8 * 1024 * 1024];
        for (encoding, bomb) in [(Encoding::Gzip, gzip(&zeros)), (Encoding::Zstd, zstd::bulk::compress(&zeros, 3).unwrap())] {
            let error = reader.expand(body(&reader, bomb), encoding).unwrap_err();
            assert_eq!(error, BodyError::TooLarge { bytes_max: 1024 * 1024 });
        }
    }

    #[test]
    fn who_finds_no_room_comes_back_and_room_is_given_back() {
        let reader = Reader::new(1024 * 1024);
        let one = gzip(&vec![7; 1024 * 1024]);
        let hold = |_| reader.expand(body(&reader, one.clone()), Encoding::Gzip);
        let held: Vec<_> = (0..2).map(hold).collect::<Result<_, _>>().unwrap();
        assert_eq!(hold(2).unwrap_err(), BodyError::Busy);
        drop(held);
        assert!(hold(3).is_ok());
    }
}
