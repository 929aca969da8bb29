//! A mapping file, then a line for it: refused, or applied.
#![no_main]

use std::sync::Arc;

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_agent::sources::lines::Mapping;
use edgetrail_agent::sources::lines::shape::AccessShape;
use edgetrail_fuzz::{Bench, pieces};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut pieces = pieces(bytes);
    let (Some(text), Some(line)) = (pieces.next().and_then(|text| std::str::from_utf8(text).ok()), pieces.next()) else { return };
    let Ok(mapping) = Mapping::parse("own.toml", text, AccessShape::default()) else { return };
    let line = Line { bytes: line.to_vec().into(), format: Format::Mapped(Arc::new(mapping)), path: "/x".into() };
    let (position, payload) = ("1".to_owned(), Payload::Line(line));
    Bench::default().judge(&Observation {
        source: SourceName::File,
        position,
        time: 1 << 60,
        payload,
        cursor: None,
        answer: None,
    });
});
