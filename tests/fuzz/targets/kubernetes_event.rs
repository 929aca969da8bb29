//! What is posted to the audit webhook: refused as a whole, or each item is recorded, as an event or as it is.
#![no_main]

use edgetrail_agent::sources::kubernetes;
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bench = Bench::default();
    let body = bytes.to_vec().into();
    let events = kubernetes::events(&body).unwrap_or_default();
    // A followed log's line needs not even be JSON.
    for event in events.into_iter().chain([body]) {
        bench.judge(&kubernetes::observation(event, 0));
    }
});
