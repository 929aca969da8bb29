//! What an OpenTelemetry exporter sends, in protobuf and JSON: refused as a whole, or each record is recorded.
#![no_main]

use edgetrail_agent::sources::otlp::{Encoding, observations};
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bench = Bench::default();
    let body = bytes.to_vec().into();
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        for observation in observations(&body, encoding, 0).unwrap_or_default() {
            bench.judge(&observation);
        }
    }
});
