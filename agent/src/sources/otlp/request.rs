//! A request as log records: its lists walked, each record kept as the bytes that it was.
//!
//! The request is refused only where its lists can't be walked. What a record holds is not looked at here: it is
//! recorded whatever it is.

use std::collections::HashMap;

use bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::json;
use super::log::Log;
use crate::observation::{Observation, Payload, SourceName, Unparsed};

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// Why a request holds no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the request is no ExportLogsServiceRequest in protobuf")]
    NotProtobuf,
    #[error("the request is no ExportLogsServiceRequest in JSON: {0}")]
    NotJson(String),
    #[error("the request has more than {RECORDS_MAX} records: send smaller batches")]
    TooMany,
}

/// Most records of one request: eight times a Collector's batch.
pub(super) const RECORDS_MAX: usize = 65_536;

/// Largest record with its resource and scope, in bytes: beyond, it is kept as text, cut, with its size and hash.
const LOG_BYTES_MAX: usize = 1024 * 1024;

/// The observations of a request; `now` in Unix nanoseconds.
pub fn observations(body: &Bytes, encoding: Encoding, now: u64) -> Result<Vec<Observation>, RequestError> {
    let logs = match encoding {
        Encoding::Protobuf => protobuf(body)?,
        Encoding::Json => json::logs(body)?,
    };
    // What is in one request twice, to the byte, happened twice.
    let mut seen: HashMap<[u8; 32], u32> = HashMap::new();
    let observation = |log: Log| {
        let hash = hash(&log);
        let count = seen.entry(hash).or_default();
        let mut position = format!("sha256:{}/{count}", hex::encode(hash));
        if !log.tells_time() {
            // Nothing tells it from the same act at another time.
            position = format!("random:{}", Uuid::new_v4());
        }
        *count = count.saturating_add(1);
        let payload = match log.resource.len() + log.scope.len() + log.record.len() {
            ..=LOG_BYTES_MAX => Payload::Log(log),
            bytes => {
                let reason = format!("a log record of {bytes} bytes, more than {LOG_BYTES_MAX}: only its beginning is here");
                Payload::Unparsed(Unparsed { bytes: log.record.to_vec(), reason })
            }
        };
        Observation { source: SourceName::Otlp, position, time: now, payload, cursor: None, answer: None }
    };
    Ok(logs.into_iter().map(observation).collect())
}

/// docs/protocol.md §2: of a record with its resource and scope, so that a request that is sent again makes the same eventIDs.
fn hash(log: &Log) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [&log.resource, &log.scope, &log.record] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// ExportLogsServiceRequest{1: ResourceLogs{1: resource, 2: ScopeLogs{1: scope, 2: record}}}.
fn protobuf(body: &Bytes) -> Result<Vec<Log>, RequestError> {
    let mut logs = Vec::new();
    for resource_logs in (Walk { rest: body.clone(), tag: 1 }) {
        let resource_logs = resource_logs?;
        let resource = last(&resource_logs, 1)?;
        for scope_logs in (Walk { rest: resource_logs, tag: 2 }) {
            let scope_logs = scope_logs?;
            let scope = last(&scope_logs, 1)?;
            for record in (Walk { rest: scope_logs, tag: 2 }) {
                if logs.len() == RECORDS_MAX {
                    return Err(RequestError::TooMany);
                }
                let (resource, scope) = (resource.clone(), scope.clone());
                logs.push(Log { encoding: Encoding::Protobuf, resource, scope, record: record? });
            }
        }
    }
    Ok(logs)
}

/// The last field of this number; empty where there is none.
fn last(message: &Bytes, tag: u32) -> Result<Bytes, RequestError> {
    Walk { rest: message.clone(), tag }.try_fold(Bytes::new(), |_, field| field)
}

/// The length-delimited fields of one number in a message, as parts of its bytes.
struct Walk {
    rest: Bytes,
    tag: u32,
}

impl Iterator for Walk {
    type Item = Result<Bytes, RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.field() {
                Ok(Some(bytes)) => return Some(Ok(bytes)),
                Ok(None) => {}
                Err(error) => {
                    self.rest = Bytes::new();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Walk {
    fn field(&mut self) -> Result<Option<Bytes>, RequestError> {
        let wrong = |_| RequestError::NotProtobuf;
        let (tag, kind) = decode_key(&mut self.rest).map_err(wrong)?;
        if tag != self.tag || kind != WireType::LengthDelimited {
            skip_field(kind, tag, &mut self.rest, DecodeContext::default()).map_err(wrong)?;
            return Ok(None);
        }
        let length = decode_varint(&mut self.rest).map_err(wrong)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= self.rest.len());
        Ok(Some(self.rest.split_to(length.ok_or(RequestError::NotProtobuf)?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field of number 1 or 2 with these bytes.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![tag << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn every_record_is_found_with_its_resource_and_scope_in_any_order() {
        let scope_logs = [field(2, b"r1"), field(1, b"scope"), field(2, b"r2"), field(3, b"schema")].concat();
        // A resource behind its records, as a writer may order it.
        let resource_logs = [field(2, &scope_logs), field(2, &field(2, b"r3")), field(1, b"resource")].concat();
        let body = Bytes::from([field(1, &resource_logs), field(1, &[])].concat());
        let logs = protobuf(&body).unwrap();
        let seen: Vec<_> = logs.iter().map(|log| (&log.resource[..], &log.scope[..], &log.record[..])).collect();
        let resource = &b"resource"[..];
        assert_eq!(seen, [(resource, &b"scope"[..], &b"r1"[..]), (resource, b"scope", b"r2"), (resource, b"", b"r3")]);
        for end in 1..body.len() {
            drop(protobuf(&body.slice(..end)));
        }
    }

    #[test]
    fn what_is_there_twice_has_two_ids_and_the_same_request_again_has_the_same() {
        let body = Bytes::from(field(1, &field(2, &[field(2, b"r"), field(2, b"r"), field(2, b"s")].concat())));
        let positions =
            || -> Vec<String> { observations(&body, Encoding::Protobuf, 0).unwrap().into_iter().map(|it| it.position).collect() };
        let first = positions();
        assert_eq!(first, positions());
        assert!(first[0].ends_with("/0") && first[1].ends_with("/1") && first[2].ends_with("/0"));
        assert_ne!(first[0], first[2]);
    }

    #[test]
    fn what_says_no_time_is_another_act_each_time() {
        let body = |record: &str| Bytes::from(format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#));
        let position = |body: &Bytes| observations(body, Encoding::Json, 7).unwrap().remove(0).position;
        let timeless = body(r#"{"eventName":"a"}"#);
        assert_ne!(position(&timeless), position(&timeless));
        let timed = body(r#"{"eventName":"a","observedTimeUnixNano":"7"}"#);
        assert_eq!(position(&timed), position(&timed));
    }

    #[test]
    fn bounds_hold() {
        let many = Bytes::from(field(1, &field(2, &[0x12, 0].repeat(RECORDS_MAX + 1))));
        assert_eq!(observations(&many, Encoding::Protobuf, 0).unwrap_err(), RequestError::TooMany);
        let large = Bytes::from(field(1, &field(2, &field(2, &vec![0; LOG_BYTES_MAX + 1]))));
        let observations = observations(&large, Encoding::Protobuf, 0).unwrap();
        assert!(matches!(observations[0].payload, Payload::Unparsed(_)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for encoding in [Encoding::Protobuf, Encoding::Json] {
                drop(observations(&Bytes::from(bytes.clone()), encoding, 0));
            }
        }
    }
}
