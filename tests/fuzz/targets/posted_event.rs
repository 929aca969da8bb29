//! What a local program posts to the agent's socket, and lines of followed files: refused, or made a record.
#![no_main]

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::event::Event;
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, text)) = bytes.split_first() else { return };
    if let Ok(event) = Event::parse(text) {
        drop(event.client_id());
    }
    let format = if kind % 2 == 0 { Format::Events } else { Format::CloudTrail };
    let line = Line { bytes: text.to_vec().into(), format, path: "/var/log/app.json".into() };
    let (position, payload) = ("1/0/0".to_owned(), Payload::Line(line));
    Bench::default().judge(&Observation { source: SourceName::File, position, time: 0, payload, cursor: None, answer: None });
});
