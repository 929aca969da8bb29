//! `../documents.toml`: documents that are refused, with the place that the message names and its way out.

use edgetrail_policy::{CHARACTERS_MAX, Policy, PolicyError, TEXT_BYTES_MAX};
use toml::{Table, Value};

const DOCUMENTS: &str = include_str!("../documents.toml");

#[test]
fn every_bad_document_is_refused_at_its_place_with_the_way_out() {
    let mut file: Table = DOCUMENTS.parse().expect("documents.toml is TOML");
    let Some(Value::Array(documents)) = file.remove("document") else { panic!("documents.toml has no documents") };
    assert!(documents.len() >= 30, "{} documents", documents.len());
    for document in &documents {
        let text = |key: &str| document[key].as_str().expect("text");
        let error = Policy::parse(text("text")).expect_err(text("name"));
        assert_eq!(error.place(), text("place"), "{}: {error}", text("name"));
        assert!(error.to_string().contains(text("message")), "{}: {error}", text("name"));
    }
}

#[test]
fn a_policy_may_have_6144_characters_and_white_space_beside() {
    let with = |bytes: usize| {
        let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::"}}"#;
        text.replace(":::\"", &format!(":::{}\"", "x".repeat(bytes - text.len())))
    };
    assert!(Policy::parse(&with(CHARACTERS_MAX)).is_ok());
    assert!(Policy::parse(&with(CHARACTERS_MAX).replace(',', ",\n      ")).is_ok());
    let error = Policy::parse(&with(CHARACTERS_MAX + 1)).unwrap_err();
    assert!(matches!(error, PolicyError::TooLong(6_145)), "{error}");
    let error = Policy::parse(&" ".repeat(TEXT_BYTES_MAX + 1)).unwrap_err();
    assert!(matches!(error, PolicyError::TooManyBytes(_)), "{error}");
}

#[test]
fn what_is_no_json_is_named_by_line_and_column() {
    for (text, line, column) in [("", 1, 0), ("{\n  \"Version\": }", 2, 14), ("{} {}", 1, 4), ("[[[[[[[[[[]]]]]]]]]]", 1, 9)] {
        let Err(PolicyError::NotJson { line: found_line, column: found_column, .. }) = Policy::parse(text) else {
            panic!("{text}")
        };
        assert_eq!((found_line, found_column), (line, column), "{text}");
    }
}

#[test]
fn a_place_in_a_message_is_short_whatever_the_document_names() {
    let name = "\u{1b}[31m".repeat(1_000);
    let error = Policy::parse(&format!("{{\"{}\": 1}}", name.replace('\u{1b}', "\\u001b"))).unwrap_err().to_string();
    assert!(error.len() < 1_500 && !error.contains('\u{1b}'), "{error}");
}
