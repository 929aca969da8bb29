//! A body as audit events: an `EventList`, one event, or several one after another.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a body holds no events.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("the body is empty: POST an EventList of audit.k8s.io/v1")]
    Empty,
    #[error("the body is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the body is neither an EventList nor an event: it is {0}")]
    NotEvents(&'static str),
}

#[derive(Deserialize)]
struct EventList<'a> {
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// The events of a body, as parts of it. What an item holds is not looked at: it is recorded whatever it is.
pub fn events(body: &Bytes) -> Result<Vec<Bytes>, ListError> {
    let mut events = Vec::new();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
        let text = value?.get();
        match text.as_bytes().first() {
            Some(b'{') => {}
            Some(b'[') => return Err(ListError::NotEvents("an array: put it into `items` of an EventList")),
            _ => return Err(ListError::NotEvents("a plain value")),
        }
        match serde_json::from_str::<EventList<'_>>(text) {
            Ok(EventList { items: Some(items) }) => {
                events.extend(items.into_iter().map(|item| body.slice_ref(item.get().as_bytes())));
            }
            // An empty list of no items is one with nothing to say; everything else is an event itself.
            Ok(EventList { items: None }) if is_list(text) => {}
            Ok(EventList { items: None }) | Err(_) => events.push(body.slice_ref(text.as_bytes())),
        }
    }
    if events.is_empty() && body.iter().all(u8::is_ascii_whitespace) { Err(ListError::Empty) } else { Ok(events) }
}

fn is_list(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        kind: Option<std::borrow::Cow<'a, str>>,
    }
    serde_json::from_str::<Kind<'_>>(text).is_ok_and(|it| it.kind.as_deref() == Some("EventList"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>, ListError> {
        let events = events(&Bytes::copy_from_slice(text.as_bytes()))?;
        Ok(events.into_iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect())
    }

    #[test]
    fn lists_and_single_events_are_taken_and_items_keep_their_bytes() {
        let list = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"auditID": "a"},{"b":1}, 7]}"#;
        assert_eq!(read(list).unwrap(), [r#"{"auditID": "a"}"#, r#"{"b":1}"#, "7"]);
        assert_eq!(read("{\"kind\":\"Event\"}\n{\"kind\":\"Event\",\"x\":1}\n").unwrap().len(), 2);
        assert!(read(r#"{"kind":"EventList","items":null}"#).unwrap().is_empty());
        assert!(matches!(read(" \n"), Err(ListError::Empty)));
        assert!(matches!(read("[1]"), Err(ListError::NotEvents(_))));
        assert!(matches!(read("{\"items\":["), Err(ListError::NotJson(_))));
    }

    #[test]
    fn a_body_cut_at_any_byte_is_refused_for_its_sender_to_send_again() {
        let list = r#"{"kind":"EventList","metadata":{},"items":[{"auditID":"a","user":{"username":"é"}},{"auditID":"b"}]}"#;
        for end in 0..list.len() {
            assert!(events(&Bytes::copy_from_slice(&list.as_bytes()[..end])).is_err(), "{end}");
        }
        assert_eq!(read(list).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unread = events(&Bytes::from(bytes));
        }
    }
}
