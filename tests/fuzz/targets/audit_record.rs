//! Lines of audit.log, all the way to records: whatever a privileged writer puts there, every line is in some record and
//! every record is one that a collector takes.
#![no_main]

use edgetrail_agent::sources::audit::log;
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &[u8]| {
    let mut bench = Bench::default();
    let read = log::parse(lines, |observation| bench.judge(&observation));
    assert!(read.is_ok(), "bytes in memory are readable");
});
