//! Lines of auth.log, as whoever reaches sshd may shape them: none panics, and each makes only records that a collector takes.
#![no_main]

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

/// The clock of the reading, Unix nanoseconds.
const NOW: u64 = 1_795_474_800_000_000_000;

fuzz_target!(|lines: &[u8]| {
    let mut bench = Bench::default();
    for line in lines.split(|byte| *byte == b'\n') {
        let line = Line { bytes: line.to_vec().into(), format: Format::Syslog, path: "auth.log".into() };
        let (source, position, payload) = (SourceName::File, "1".to_owned(), Payload::Line(line));
        bench.judge(&Observation { source, position, time: NOW, payload, cursor: None, answer: None });
    }
});
