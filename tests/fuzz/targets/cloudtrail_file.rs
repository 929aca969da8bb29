//! A log file of CloudTrail's, plain or gzip: its records are parts of it, byte for byte.
#![no_main]

use edgetrail_agent::sources::cloudtrail::document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(plain) = document::expanded(bytes.to_vec()) else { return };
    let Ok(records) = document::records(&plain) else { return };
    for record in records {
        assert!(record.first() == Some(&b'{') && record.last() == Some(&b'}'));
    }
});
