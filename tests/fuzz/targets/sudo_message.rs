//! What sudo tells its log server, and writes into its own log: no message or entry, or a record.
#![no_main]

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_agent::sources::sudo;
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"    \"") || bytes.starts_with(b"}") {
        let line = Line { bytes: bytes.to_vec().into(), format: Format::Sudo, path: "/var/log/sudo.json".into() };
        let (position, payload) = ("1.1.1:0".to_owned(), Payload::Line(line));
        Bench::default().judge(&Observation { source: SourceName::File, position, time: 0, payload, cursor: None, answer: None });
        return;
    }
    let Some(event) = sudo::event(bytes) else { return };
    let (position, payload) = ("sha256:0".to_owned(), Payload::Sudo(event));
    Bench::default().judge(&Observation { source: SourceName::Sudo, position, time: 0, payload, cursor: None, answer: None });
});
