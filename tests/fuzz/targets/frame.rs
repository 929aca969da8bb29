//! Messages of the wire, in both directions, with what the collector does before it believes any of it.
#![no_main]

use edgetrail_link::wire::{FromAgent, FromCollector};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = FromAgent::decode(bytes) {
        edgetrail_collector::fuzzing::from_agent(message);
    }
    if let Ok(message) = FromCollector::decode(bytes) {
        assert_eq!(FromCollector::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(&message));
    }
});
