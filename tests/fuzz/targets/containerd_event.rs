//! Envelopes of containerd's events: none, or an event that the mapping makes a record of.
#![no_main]

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::docker::message;
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_agent::sources::lines::Mapping;
use edgetrail_agent::sources::lines::shape::AccessShape;
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(event) = message::event(bytes) else { return };
    let Ok(mapping) = Mapping::open("containerd", AccessShape::default()) else { return };
    let bytes = serde_json::Value::Object(event).to_string().into();
    let line = Line { bytes, format: Format::Mapped(mapping), path: "/run/containerd/containerd.sock".into() };
    let (position, payload) = ("1".to_owned(), Payload::Line(line));
    Bench::default().judge(&Observation { source: SourceName::Docker, position, time: 0, payload, cursor: None, answer: None });
});
