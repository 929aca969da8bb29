//! A body as events: one object, an array, or objects one after another (JSON lines).

use bytes::Bytes;
use edgetrail_proto::limits::BATCH_RECORDS_MAX;
use serde_json::value::RawValue;

use crate::sources::event::{self, EVENT_BYTES_MAX, EVENT_DEPTH_MAX, Event, EventError};

/// One event of a body, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its JSON text, a part of the body.
    pub(super) event: Bytes,
    /// The client's own id.
    pub(super) client_id: Option<String>,
    /// Unix nanoseconds, where the event says.
    pub(super) time: Option<u64>,
}

/// What a body held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) pieces: Vec<Piece>,
    /// Whether it was one object, not a list.
    pub(super) single: bool,
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is empty: send one event as a JSON object, or an array of events")]
    Empty,
    #[error("more than {BATCH_RECORDS_MAX} events in one body: send them in several requests")]
    TooMany,
    #[error("event {index} has {bytes} bytes, more than {EVENT_BYTES_MAX}: send its bulk elsewhere and name it by its hash")]
    TooLarge { index: usize, bytes: usize },
    #[error("the body is not JSON or not an event")]
    Text(#[source] EventError),
    #[error("event {index} is not as it must be")]
    Event {
        index: usize,
        single: bool,
        #[source]
        cause: EventError,
    },
}

impl BodyError {
    /// JSON path of the fault.
    pub(super) fn at(&self) -> String {
        match self {
            Self::Empty | Self::TooMany | Self::Text(_) => "$".to_owned(),
            Self::TooLarge { index, .. } => format!("$[{index}]"),
            Self::Event { single: true, cause, .. } => cause.path().to_owned(),
            Self::Event { index, cause, .. } => format!("$[{index}]{}", cause.path().strip_prefix('$').unwrap_or_default()),
        }
    }

    /// Byte of the body, where the fault has one.
    pub(super) fn offset(&self) -> Option<usize> {
        match self {
            Self::Text(cause) => cause.offset(),
            Self::Empty | Self::TooMany | Self::TooLarge { .. } | Self::Event { .. } => None,
        }
    }

    pub(super) const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooMany | Self::TooLarge { .. })
    }
}

impl Body {
    pub(super) fn parse(body: &Bytes) -> Result<Self, BodyError> {
        let text = event::utf8(body).map_err(BodyError::Text)?;
        let is_array = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[');
        event::check_depth(text, EVENT_DEPTH_MAX + usize::from(is_array)).map_err(BodyError::Text)?;
        let texts: Vec<&str> = if is_array { elements(text)? } else { objects(text)? };
        if texts.is_empty() && !is_array {
            return Err(BodyError::Empty);
        }
        if texts.len() > BATCH_RECORDS_MAX {
            return Err(BodyError::TooMany);
        }
        let single = !is_array && texts.len() == 1;
        let pieces = texts.iter().enumerate().map(|(index, text)| piece(body, index, text, single)).collect::<Result<_, _>>()?;
        Ok(Self { pieces, single })
    }
}

fn elements(text: &str) -> Result<Vec<&str>, BodyError> {
    let list: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| BodyError::Text(event::syntax(text, &error)))?;
    Ok(list.into_iter().map(RawValue::get).collect())
}

fn objects(text: &str) -> Result<Vec<&str>, BodyError> {
    let mut texts = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let value = value.map_err(|error| BodyError::Text(event::syntax(text, &error)))?;
        texts.push(value.get());
        if texts.len() > BATCH_RECORDS_MAX {
            return Err(BodyError::TooMany);
        }
    }
    Ok(texts)
}

fn piece(body: &Bytes, index: usize, text: &str, single: bool) -> Result<Piece, BodyError> {
    if text.len() > EVENT_BYTES_MAX {
        return Err(BodyError::TooLarge { index, bytes: text.len() });
    }
    let parsed = Event::parse_bounded(text).map_err(|cause| BodyError::Event { index, single, cause })?;
    Ok(Piece {
        event: body.slice_ref(text.as_bytes()),
        client_id: parsed.client_id(),
        time: parsed.event_time.and_then(event::time_ns),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = r#"{"eventSource":"a.b","eventName":"C"}"#;

    fn parse(text: &str) -> Result<Body, BodyError> {
        Body::parse(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn one_object_an_array_and_lines_are_all_taken() {
        assert!(parse(ONE).unwrap().single);
        assert_eq!(parse(&format!("[{ONE},\n{ONE}]")).unwrap().pieces.len(), 2);
        assert_eq!(parse(&format!("{ONE}\n{ONE}\n{ONE}\n")).unwrap().pieces.len(), 3);
        assert_eq!(parse("[]").unwrap().pieces.len(), 0);
    }

    #[test]
    fn faults_name_the_element_and_the_member() {
        let error = parse(&format!("[{ONE},{{\"eventSource\":\"a\",\"eventName\":3}}]")).unwrap_err();
        assert_eq!(error.at(), "$[1].eventName");
        let error = parse("{\"eventSource\":\"a\"}").unwrap_err();
        assert_eq!(error.at(), "$.eventName");
        assert_eq!(parse(" \n").unwrap_err(), BodyError::Empty);
        assert_eq!(parse(&format!("[{ONE},]")).unwrap_err().offset(), Some(ONE.len() + 2));
        let many = format!("[{}{ONE}]", format!("{ONE},").repeat(BATCH_RECORDS_MAX));
        assert_eq!(parse(&many).unwrap_err(), BodyError::TooMany);
        let large = format!(r#"{{"eventSource":"a","eventName":"b","x":"{}"}}"#, "y".repeat(EVENT_BYTES_MAX));
        assert!(parse(&large).unwrap_err().is_too_large());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unread = Body::parse(&Bytes::from(bytes));
        }
    }
}
