//! What sudo tells its log server: no message of the protocol, or a record.
#![no_main]

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::sudo;
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(event) = sudo::event(bytes) else { return };
    let (position, payload) = ("sha256:0".to_owned(), Payload::Sudo(event));
    Bench::default().judge(&Observation { source: SourceName::Sudo, position, time: 0, payload, cursor: None, answer: None });
});
