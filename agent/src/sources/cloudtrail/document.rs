//! The records of a document, byte for byte: a log file, a list of records, records one after another, or a bus's
//! envelope around one.

use std::collections::HashMap;
use std::io::Read as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sources::event::{check_depth, utf8};

/// Largest document, uncompressed, bytes. Source: CloudTrail closes a log file at 50 MB.
pub const DOCUMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Levels of a document: a record's and those around it.
const DEPTH_MAX: usize = edgetrail_proto::limits::JSON_DEPTH_MAX + 4;

/// Why a document gives no records.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("it is not gzip to its end: {0}")]
    Compressed(std::io::Error),
    #[error("it has more than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("{0}")]
    Text(#[from] crate::sources::event::EventError),
    #[error("it is not JSON to its end: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it holds something that is no record of CloudTrail's")]
    NoRecord,
}

/// What stands around records.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "Records")]
    records: Option<Vec<&'a RawValue>>,
    /// EventBridge's: the record is the detail.
    #[serde(borrow, rename = "detail")]
    detail: Option<&'a RawValue>,
    #[serde(borrow, rename = "detail-type")]
    detail_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "eventName")]
    event_name: Option<&'a RawValue>,
}

/// The bytes of a file, decompressed where they are gzip.
pub fn expanded(bytes: Vec<u8>) -> Result<Vec<u8>, DocumentError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return if bytes.len() as u64 > DOCUMENT_BYTES_MAX { Err(DocumentError::TooLarge) } else { Ok(bytes) };
    }
    let mut plain = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(bytes.as_slice());
    decoder.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut plain).map_err(DocumentError::Compressed)?;
    if plain.len() as u64 > DOCUMENT_BYTES_MAX { Err(DocumentError::TooLarge) } else { Ok(plain) }
}

/// Whether a document says itself where it ends: as gzip, or as one list. Records one after another are whole at the end of
/// each: more may follow, or have followed once.
pub fn has_an_end(raw: &[u8], bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct List {
        #[serde(rename = "Records")]
        _records: serde::de::IgnoredAny,
    }
    let is_list =
        || serde_json::from_slice::<List>(bytes).is_ok() || serde_json::from_slice::<Vec<serde::de::IgnoredAny>>(bytes).is_ok();
    raw.starts_with(&[0x1f, 0x8b]) || is_list()
}

/// The records in order, each as it stands there.
pub fn records(bytes: &[u8]) -> Result<Vec<&[u8]>, DocumentError> {
    let text = utf8(bytes)?.trim_start_matches('\u{feff}');
    check_depth(text, DEPTH_MAX)?;
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        take(value?.get(), &mut found)?;
    }
    // One object alone may be another service's document; whatever else it is, it is kept.
    if let [one] = found.as_slice()
        && is_of_config(one)
    {
        return Err(DocumentError::NoRecord);
    }
    Ok(found)
}

/// Whether an object is a snapshot or history of AWS Config's, which is delivered beside log files.
fn is_of_config(object: &[u8]) -> bool {
    let members = |bytes| serde_json::from_slice::<HashMap<String, serde::de::IgnoredAny>>(bytes);
    members(object).is_ok_and(|members| members.contains_key("configurationItems") && !members.contains_key("eventName"))
}

fn take<'a>(value: &'a str, found: &mut Vec<&'a [u8]>) -> Result<(), DocumentError> {
    if value.starts_with('[') {
        for element in serde_json::from_str::<Vec<&'a RawValue>>(value)? {
            take_object(element.get(), found)?;
        }
        return Ok(());
    }
    take_object(value, found)
}

fn take_object<'a>(value: &'a str, found: &mut Vec<&'a [u8]>) -> Result<(), DocumentError> {
    if !value.starts_with('{') {
        return Err(DocumentError::NoRecord);
    }
    // A record whose members are of other types, or twice, is still a record.
    let envelope = serde_json::from_str::<Envelope<'a>>(value);
    match envelope {
        Ok(Envelope { records: Some(records), event_name: None, .. }) => {
            for record in records {
                if !record.get().starts_with('{') {
                    return Err(DocumentError::NoRecord);
                }
                found.push(record.get().as_bytes());
            }
        }
        Ok(Envelope { detail: Some(detail), detail_type: Some(_), event_name: None, .. }) if detail.get().starts_with('{') => {
            found.push(detail.get().as_bytes());
        }
        _ => found.push(value.as_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_keep_their_bytes_whatever_is_around_them() {
        let one = r#"{"eventName": "A",  "x":[1 , 2]}"#;
        let two = r#"{"eventName":"B"}"#;
        for document in [
            format!("{{ \"Records\" : [ {one} ,\n {two} ] }}\n"),
            format!("[{one},{two}]"),
            format!("{one}\n{two}\n"),
            format!(
                r#"{{"version":"0","detail-type":"AWS API Call via CloudTrail","detail":{one}}}{{"meta":1,"Records":[{two}]}}"#
            ),
        ] {
            assert_eq!(records(document.as_bytes()).unwrap(), [one.as_bytes(), two.as_bytes()], "{document}");
        }
        for wrong in ["[1]", "1", "{\"Records\":[1]}", "{", "\u{1}"] {
            assert!(records(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(records(b"").unwrap().is_empty() && expanded(vec![0x1f, 0x8b, 8]).is_err());
    }

    #[test]
    fn a_document_says_where_it_ends_or_does_not() {
        for (document, expected) in [
            (r#"{"Records":[]}"#, true),
            (r#"{"Records":[{"eventName":"A"}],"more":1}"#, true),
            (r#"[{"eventName":"A"}]"#, true),
            (r#"{"eventName":"A"}"#, false),
            ("{\"Records\":[]}\n{\"Records\":[]}", false),
            ("", false),
        ] {
            assert_eq!(has_an_end(document.as_bytes(), document.as_bytes()), expected, "{document}");
        }
        assert!(has_an_end(&[0x1f, 0x8b], b"{}\n"));
    }

    #[test]
    fn a_document_of_something_else_is_no_record() {
        let config =
            r#"{"fileVersion":"1.0","configSnapshotId":"s","configurationItems":[{"resourceType":"AWS::EC2::Instance"}]}"#;
        assert!(records(config.as_bytes()).is_err());
        assert_eq!(records(br#"{"eventVersion":"1.11"}"#).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_documents_never_panic(text in "\\PC{0,60}|[{}\\[\\]\":,a0 ]{0,60}") {
            let _either = records(text.as_bytes());
        }
    }
}
