//! Which bytes a record is written as, and what is refused as one.

use serde_json::json;

use super::*;

/// Reads and writes back.
fn rewritten(json: &str) -> String {
    String::from_utf8(Record::from_json(json.as_bytes()).unwrap().to_json()).unwrap()
}

#[test]
fn a_new_record_has_the_members_that_cloudtrail_always_writes() {
    let record = Record { event_time: format_time(0), ..Record::default() };
    assert_eq!(
        String::from_utf8(record.to_json()).unwrap(),
        concat!(
            r#"{"eventVersion":"1.11","userIdentity":{},"eventTime":"1970-01-01T00:00:00Z","eventSource":"","eventName":"","#,
            r#""awsRegion":"","sourceIPAddress":"","requestParameters":null,"responseElements":null,"#,
            r#""eventID":"00000000-0000-0000-0000-000000000000","eventType":"AwsApiCall","recipientAccountId":"","#,
            r#""eventCategory":"Management"}"#
        )
    );
}

#[test]
fn what_no_field_can_say_is_written_back_word_for_word() {
    let json = concat!(
        r#"{"eventVersion":"1.08","userIdentity":{"type":"Root","x":1.50,"sessionContext":{"attributes":{"y":[]},"z":{}}},"eventTime":"#,
        r#""2024-05-01T20:56:00Z","eventSource":"s","eventName":"n","awsRegion":"r","sourceIPAddress":"::1","userAgent":null,"#,
        r#""requestParameters":{"b":1e400,"a":100000000000000000000.0},"responseElements":null,"eventID":"not a UUID","#,
        r#""readOnly":"true","resources":[{"ARN":"a","more":1.0e0}],"eventType":"Odd","recipientAccountId":"111122223333","#,
        r#""eventCategory":"Management","first":{"b":1,"a":"\/"},"second":-0}"#
    );
    assert_eq!(rewritten(json), json);
}

#[test]
fn a_changed_field_is_written_as_it_is_now() {
    let mut record = Record::from_json(br#"{"requestParameters":{"n":1.50},"userIdentity":{"type":7}}"#).unwrap();
    record.request_parameters = Some(json!({"n": 2}));
    record.user_identity.kind = Some("Root".to_owned());
    let json = String::from_utf8(record.to_json()).unwrap();
    assert!(json.contains(r#""requestParameters":{"n":2}"#) && json.contains(r#"{"type":"Root"}"#), "{json}");
}

#[test]
fn white_space_between_tokens_goes_and_within_strings_stays() {
    assert_eq!(
        rewritten("{ \"a\" : \" \\\" { \" ,\n\"b\":\t[ 1 , 2 ] }").as_str().split_once("\"a\"").unwrap().1,
        r#":" \" { ","b":[1,2]}"#
    );
}

#[test]
fn what_is_no_record_is_refused() {
    assert!(matches!(Record::from_json(b"[]"), Err(RecordError::NotJson(_))));
    assert!(matches!(Record::from_json(br#"{"a":1,"a":2}"#), Err(RecordError::NotJson(_))));
    assert!(matches!(Record::from_json(br#"{"a":1} x"#), Err(RecordError::NotJson(_))));
    assert!(matches!(Record::from_json(b"{\"a\":\"\xff\"}"), Err(RecordError::NotUtf8)));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    assert!(matches!(Record::from_json(deep.as_bytes()), Err(RecordError::TooDeep)));
    assert!(matches!(Record::from_json(&vec![b' '; RECORD_BYTES_FOREIGN_MAX + 1]), Err(RecordError::TooLarge { .. })));
}
