//! Lines of logs through every shipped mapping: the first byte chooses.
#![no_main]

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_agent::sources::lines::Mapping;
use edgetrail_agent::sources::lines::shape::AccessShape;
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, lines)) = bytes.split_first() else { return };
    let names: Vec<&str> = Mapping::shipped().collect();
    let Some(name) = names.get(usize::from(*kind) % names.len()) else { return };
    let Ok(mapping) = Mapping::open(name, AccessShape::default()) else { return };
    let mut bench = Bench::default();
    for (number, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        let format = Format::Mapped(mapping.clone());
        let line = Line { bytes: line.to_vec().into(), format, path: "/var/log/x.log".into() };
        let (position, payload) = (number.to_string(), Payload::Line(line));
        bench.judge(&Observation { source: SourceName::File, position, time: 1 << 60, payload, cursor: None, answer: None });
    }
});
