//! One gzip member and nothing after it, unpacked with a bound.

use std::io::Read;

use flate2::bufread::GzDecoder;

/// Most bytes an object may unpack to. Source: a log file's 15 MiB, a proof of a million leaves, and room.
pub const UNPACKED_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What an object unpacked to.
#[derive(Debug)]
pub struct Unpacked {
    pub bytes: Vec<u8>,
    /// Bytes behind the stream's end: readers that stop there never see them.
    pub trailing: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("not a whole gzip stream")]
    Damaged(#[source] std::io::Error),
    #[error("unpacks to more than {UNPACKED_BYTES_MAX} bytes")]
    TooLarge,
}

pub fn unpack(packed: &[u8]) -> Result<Unpacked, UnpackError> {
    let mut decoder = GzDecoder::new(packed);
    let mut bytes = Vec::new();
    let read = (&mut decoder).take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(UnpackError::Damaged)?;
    if read as u64 > UNPACKED_BYTES_MAX {
        return Err(UnpackError::TooLarge);
    }
    Ok(Unpacked { bytes, trailing: decoder.into_inner().len() })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bytes_behind_the_stream_are_counted() {
        let mut object = packed(b"digest");
        assert_eq!(unpack(&object).unwrap().trailing, 0);
        object.extend_from_slice(b"junk");
        let unpacked = unpack(&object).unwrap();
        assert_eq!((unpacked.bytes.as_slice(), unpacked.trailing), (b"digest".as_slice(), 4));
    }

    #[test]
    fn a_cut_or_altered_stream_is_refused() {
        let object = packed(b"digest digest digest");
        assert!(unpack(&object[..object.len() - 1]).is_err());
        assert!(unpack(b"").is_err());
        let mut altered = object.clone();
        let end = altered.len() - 6;
        altered[end] ^= 1;
        assert!(unpack(&altered).is_err());
    }
}
