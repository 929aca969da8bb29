//! Fields of a journal entry, as any local program may set them: lines NAME=VALUE, the first eight bytes the time.
#![no_main]

use std::collections::BTreeMap;

use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::journal::Entry;
use edgetrail_fuzz::Bench;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((time, lines)) = bytes.split_first_chunk::<8>() else { return };
    let realtime_us = u64::from_be_bytes(*time);
    let fields: BTreeMap<String, Vec<u8>> = lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            let name = std::str::from_utf8(line.get(..at)?).ok()?;
            Some((name.to_owned(), line.get(at + 1..)?.to_vec()))
        })
        .collect();
    let payload = Payload::Journal(Entry { realtime_us, fields });
    let time = realtime_us.saturating_mul(1000);
    let observation =
        Observation { source: SourceName::Journal, position: "cursor".to_owned(), time, payload, cursor: None, answer: None };
    Bench::default().judge(&observation);
});
