//! Command lines and parameters through redaction: whatever stands before it, the secret at the end of the line goes.
#![no_main]

use edgetrail_agent::normalize::Made;
use edgetrail_agent::redact::{Config, Redactor};
use edgetrail_proto::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The fuzzer learns the secret from the comparison below, and would give it in a place of no password.
    if text.contains("hunter2hunter2") {
        return;
    }
    let redactor = Redactor::new(Config::default()).unwrap_or_else(|error| panic!("the default is valid: {error}"));
    let line = format!("{text} --password=hunter2hunter2");
    let parameters = Some(serde_json::json!({ "commandLine": line, "password": text }));
    let mut made = Made::Record(Box::new(Record { request_parameters: parameters, ..Record::default() }));
    redactor.redact(&mut made);
    let text = json(&made);
    assert!(!text.contains("hunter2hunter2"), "{text}");
});

fn json(made: &Made) -> String {
    match made {
        Made::Record(record) => String::from_utf8_lossy(&record.to_json()).into_owned(),
        Made::Written(bytes) | Made::Foreign(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}
