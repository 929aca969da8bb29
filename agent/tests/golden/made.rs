//! The records that the product makes of an input, as `edgetrail-agent parse` does, without the original beside them.

use std::path::Path;

use bytes::Bytes;
use edgetrail_agent::normalize::audit::Decoder;
use edgetrail_agent::normalize::names::Names;
use edgetrail_agent::normalize::{Host, Made, Normalizer};
use edgetrail_agent::observation::{Observation, Payload, SourceName};
use edgetrail_agent::sources::audit::log;
use edgetrail_agent::sources::file::{Format, Line};
use edgetrail_agent::sources::journal::Entry;
use edgetrail_proto::identity::AgentId;
use serde_json::Value;

/// A host that knows root alone.
fn normalizer() -> Normalizer {
    let host = Host {
        agent: AgentId::from_bytes([7; 16]),
        name: "web-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "dc-local-1".parse().unwrap(),
        partition: "aws".to_owned(),
        keep_raw: false,
    };
    let etc = tempfile::tempdir().unwrap();
    std::fs::write(etc.path().join("passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    let mut names = Names::of_files(etc.path(), Path::new("/nonexistent"));
    assert_eq!(names.uid("root"), Some(0), "read before the directory goes");
    assert_eq!(names.user(0).as_deref(), Some("root"));
    Normalizer::new(host, Decoder::default(), names)
}

fn records(normalizer: &mut Normalizer, observation: &Observation) -> Vec<Value> {
    let drafts = normalizer.normalize(observation).into_iter();
    drafts
        .map(|draft| match draft.record {
            Made::Record(mut record) => serde_json::from_slice(&record.to_fitted_json()).unwrap(),
            Made::Written(bytes) | Made::Foreign(bytes) => serde_json::from_slice(&bytes).unwrap(),
        })
        .collect()
}

/// Of lines of audit.log.
pub(crate) fn of_audit(lines: &[u8]) -> Vec<Value> {
    let (mut normalizer, mut made) = (normalizer(), Vec::new());
    log::parse(lines, |observation| made.extend(records(&mut normalizer, &observation))).unwrap();
    made
}

/// Of each entry of a journal, as its fields and their values.
pub(crate) fn of_journal<'a>(entries: impl Iterator<Item = Vec<(&'a str, Vec<u8>)>>) -> Vec<Vec<Value>> {
    let mut normalizer = normalizer();
    let mut made = |fields: Vec<(&str, Vec<u8>)>| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let payload = Payload::Journal(Entry { realtime_us: 1_700_000_000_000_000, fields });
        let (position, time) = ("1".to_owned(), 1_700_000_000_000_000_000);
        let observation = Observation { source: SourceName::Journal, position, time, payload, cursor: None, answer: None };
        records(&mut normalizer, &observation)
    };
    entries.map(&mut made).collect()
}

/// Of each line of a syslog file.
pub(crate) fn of_syslog(lines: &[u8], now: u64) -> Vec<Vec<Value>> {
    let mut normalizer = normalizer();
    let each = lines.split(|byte| *byte == b'\n').map(|line| {
        let line = Line { bytes: Bytes::copy_from_slice(line), format: Format::Syslog, path: "auth.log".into() };
        let payload = Payload::Line(line);
        let position = "1".to_owned();
        records(
            &mut normalizer,
            &Observation { source: SourceName::File, position, time: now, payload, cursor: None, answer: None },
        )
    });
    each.collect()
}
