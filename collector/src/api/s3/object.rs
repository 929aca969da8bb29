//! GetObject and HeadObject: an object's bytes with the metadata that the trail gave it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED,
};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use md5::{Digest, Md5};
use tokio::sync::Semaphore;

use super::{Bucket, sink_fault};
use crate::api::fault::{Fault, Protocol};
use crate::api::reply;
use crate::sinks::{OBJECT_BYTES_MAX, ObjectMeta, ObjectStat, Sink};

/// Which part of an object is asked for, as `Range` says it (RFC 9110 §14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// First and last byte, inclusive.
    Bytes {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

/// The object's share of `memory` is given back when its last byte is sent.
pub(super) async fn get(bucket: &Bucket, key: &str, head: &Parts, memory: &Arc<Semaphore>) -> Result<Response, Fault> {
    let sink = Sink::Directory(bucket.directory.clone());
    let stat = sink.head(key).await.map_err(|error| sink_fault(&error))?.ok_or_else(no_such_key)?;
    let mib = u32::try_from(stat.bytes.min(OBJECT_BYTES_MAX) / (1 << 20) + 1).unwrap_or(u32::MAX);
    let permit = Arc::clone(memory).acquire_many_owned(mib).await.map_err(|_| Fault::internal(Protocol::S3))?;
    let object = sink.get(key).await.map_err(|error| sink_fault(&error))?.ok_or_else(no_such_key)?;
    let range = head.headers.get("range").and_then(|range| range.to_str().ok());
    let (status, bytes, content_range) = match Part::of(range, object.stat.bytes) {
        Part::Whole => (StatusCode::OK, object.bytes, None),
        Part::Bytes { first, last } => {
            let range = format!("bytes {first}-{last}/{}", object.stat.bytes);
            (StatusCode::PARTIAL_CONTENT, slice(&object.bytes, first, last), Some(range))
        }
        Part::Unsatisfiable => {
            return Err(Fault::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "the range lies outside the object"));
        }
    };
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let body = Full::new(bytes).map_frame(move |frame| {
        let _held = &permit;
        frame
    });
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    describe(response.headers_mut(), &object.meta, &object.stat, length);
    if let Some(Ok(value)) = content_range.map(HeaderValue::try_from) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    Ok(response)
}

pub(super) async fn head(bucket: &Bucket, key: &str) -> Result<Response, Fault> {
    let sink = Sink::Directory(bucket.directory.clone());
    let stat = sink.head(key).await.map_err(|error| sink_fault(&error))?.ok_or_else(no_such_key)?;
    let meta = bucket.directory.meta(key).await.map_err(|error| sink_fault(&error))?;
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), &meta, &stat, stat.bytes);
    Ok(response)
}

/// HeadBucket: clients learn the region from it.
pub(super) fn region_reply(region: &str) -> Response {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, reply::XML);
    if let Ok(value) = HeaderValue::from_str(region) {
        response.headers_mut().insert(HeaderName::from_static("x-amz-bucket-region"), value);
    }
    response
}

pub(super) fn no_such_key() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "NoSuchKey", "the key does not exist")
}

/// Of an object's name and state. Not the MD5 of its bytes, which a listing would have to read whole: the `-1`, as of an
/// upload in one part, tells clients so.
pub(super) fn etag(stat: &ObjectStat) -> String {
    let hash = Md5::digest(format!("{}\n{}\n{}", stat.key, stat.bytes, stat.modified));
    format!("\"{}-1\"", hex::encode(hash))
}

pub(super) fn iso_time(seconds: u64) -> String {
    edgetrail_proto::record::format_time(seconds.saturating_mul(1_000_000_000)).replace('Z', ".000Z")
}

/// `Tue, 14 Nov 2023 22:13:20 GMT` (RFC 9110 §5.6.7).
fn http_time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn describe(headers: &mut HeaderMap, meta: &ObjectMeta, stat: &ObjectStat, length: u64) {
    let mut set = |name: HeaderName, value: &str| {
        // A sidecar's text that is no header value is left out rather than the object.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(CONTENT_TYPE, &meta.content_type);
    if let Some(encoding) = &meta.content_encoding {
        set(CONTENT_ENCODING, encoding);
    }
    set(ETAG, &etag(stat));
    set(LAST_MODIFIED, &http_time(stat.modified));
    set(ACCEPT_RANGES, "bytes");
    set(CONTENT_LENGTH, &length.to_string());
    for (name, value) in &meta.metadata {
        if let Ok(name) = HeaderName::try_from(format!("x-amz-meta-{name}")) {
            set(name, value);
        }
    }
}

fn slice(bytes: &Bytes, first: u64, last: u64) -> Bytes {
    let first = usize::try_from(first).unwrap_or(usize::MAX).min(bytes.len());
    let end = usize::try_from(last.saturating_add(1)).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(first..end.max(first))
}

impl Part {
    /// What is not one well-formed byte range is passed over, as the RFC asks.
    fn of(range: Option<&str>, bytes: u64) -> Self {
        let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")).and_then(|range| range.split_once('-'))
        else {
            return Self::Whole;
        };
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        match (number(first), number(last)) {
            (Some(first), last_byte) if last.is_empty() || last_byte.is_some() => {
                let last = last_byte.unwrap_or(u64::MAX).min(bytes.saturating_sub(1));
                match first {
                    _ if first >= bytes => Self::Unsatisfiable,
                    _ if last_byte.is_some_and(|last| last < first) => Self::Whole,
                    _ => Self::Bytes { first, last },
                }
            }
            (None, Some(count)) if first.is_empty() => match count {
                0 => Self::Unsatisfiable,
                _ if bytes == 0 => Self::Unsatisfiable,
                _ => Self::Bytes { first: bytes.saturating_sub(count), last: bytes - 1 },
            },
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let cases = [
            (None, Part::Whole),
            (Some("bytes=0-0"), Part::Bytes { first: 0, last: 0 }),
            (Some("bytes=2-"), Part::Bytes { first: 2, last: 9 }),
            (Some("bytes=2-99"), Part::Bytes { first: 2, last: 9 }),
            (Some("bytes=-3"), Part::Bytes { first: 7, last: 9 }),
            (Some("bytes=-30"), Part::Bytes { first: 0, last: 9 }),
            (Some("bytes=10-"), Part::Unsatisfiable),
            (Some("bytes=-0"), Part::Unsatisfiable),
            (Some("bytes=5-2"), Part::Whole),
            (Some("bytes=0-1,4-5"), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
            (Some("lines=1-2"), Part::Whole),
            (Some("bytes=-"), Part::Whole),
        ];
        for (range, expected) in cases {
            assert_eq!(Part::of(range, 10), expected, "{range:?}");
        }
        assert_eq!(Part::of(Some("bytes=-5"), 0), Part::Unsatisfiable);
    }

    #[test]
    fn times_are_those_of_http_and_s3() {
        assert_eq!(http_time(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(iso_time(1_700_000_000), "2023-11-14T22:13:20.000Z");
    }
}
