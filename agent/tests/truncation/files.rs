//! Logs that are followed. A file that ends within an entry gives all before it, and waits.

use std::collections::BTreeMap;

use edgetrail_agent::normalize::audit::Decoder;
use edgetrail_agent::normalize::names::Names;
use edgetrail_agent::normalize::{Host, Made, Normalizer};
use edgetrail_agent::observation::{Observation, Payload, SourceName, intake};
use edgetrail_agent::sources::file::{Config, FileSource, Format, Line, Start};
use edgetrail_agent::sources::lines::shape::AccessShape;
use edgetrail_proto::identity::AgentId;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::fixtures::{Log, own, shared};

/// Cuts that one run of the source follows at once: each is a file.
const FILES_AT_ONCE: usize = 500;

fn config(log: &Log, paths: Vec<String>) -> Config {
    let format = Some(log.format.to_owned());
    Config { paths, format, mapping: None, start: Start::Beginning, access: AccessShape::default() }
}

/// What the source gives of a log that ends at each of `ends`, in order.
async fn given(log: &Log, ends: &[usize]) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let bytes = log.bytes();
    for (index, end) in ends.iter().enumerate() {
        std::fs::write(dir.path().join(format!("cut{index:06}")), &bytes[..*end]).unwrap();
    }
    // The source reads its files by their names: when this one's entry comes, all others are read.
    std::fs::write(dir.path().join("last"), &bytes).unwrap();
    let pattern = dir.path().join("*").to_str().unwrap().to_owned();
    let source = FileSource::new(vec![config(log, vec![pattern])], Vec::new()).unwrap();
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    let following = source.run(intake, stop.clone());
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let gathering = async {
        while !found.contains_key("last") {
            for observation in outlet.recv().await.unwrap() {
                match observation.payload {
                    Payload::Line(line) => {
                        let name = line.path.rsplit('/').next().unwrap().to_owned();
                        found.entry(name).or_default().push(String::from_utf8(line.bytes.to_vec()).unwrap());
                    }
                    Payload::Nothing => {}
                    other => panic!("{}: {other:?}", log.name),
                }
            }
        }
        stop.cancel();
        while outlet.recv().await.is_some() {}
    };
    let (ended, ()) = tokio::join!(following, gathering);
    ended.unwrap();
    (0..ends.len()).map(|index| found.remove(&format!("cut{index:06}")).unwrap_or_default()).collect()
}

async fn check(log: &Log) {
    let ends: Vec<usize> = (0..=log.bytes().len()).collect();
    for ends in ends.chunks(FILES_AT_ONCE) {
        for (end, given) in ends.iter().zip(given(log, ends).await) {
            assert_eq!(given, log.whole(*end), "{} cut at {end}", log.name);
        }
    }
}

#[tokio::test]
async fn a_log_cut_at_any_byte_gives_the_entries_before_it_and_waits() {
    for log in own().iter().chain(&shared()) {
        check(log).await;
    }
}

fn normalizer() -> Normalizer {
    let host = Host {
        agent: AgentId::from_bytes([7; 16]),
        name: "web-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        region: "dc-local-1".parse().unwrap(),
        partition: "aws".to_owned(),
        keep_raw: false,
    };
    let names = Names::of_files("/nonexistent".as_ref(), "/nonexistent".as_ref());
    Normalizer::new(host, Decoder::restore(None), names)
}

fn records(normalizer: &mut Normalizer, format: &Format, entry: &[u8]) -> Vec<Value> {
    let line = Line { bytes: entry.to_vec().into(), format: format.clone(), path: "/var/log/x.log".into() };
    let (position, payload) = ("1.2.3:4".to_owned(), Payload::Line(line));
    let time = 1_764_000_000_000_000_000;
    let mut drafts =
        normalizer.normalize(&Observation { source: SourceName::File, position, time, payload, cursor: None, answer: None });
    // What waits for more, such as the response to a request.
    drafts.extend(normalizer.drain());
    let json = |made: Made| match made {
        Made::Record(mut record) => record.to_fitted_json(),
        Made::Written(bytes) | Made::Foreign(bytes) => bytes,
    };
    drafts.into_iter().map(|draft| serde_json::from_slice(&json(draft.record)).unwrap()).collect()
}

/// The last line of a file that is left without its end is read where it is JSON, and only there.
#[test]
fn an_entry_of_json_cut_at_any_byte_is_unparsed_with_all_that_came_of_it() {
    for log in own().iter().chain(&shared()) {
        let format = config(log, vec!["/x".to_owned()]).read_as().unwrap();
        let mut normalizer = normalizer();
        for entry in log.entries.iter().map(|entry| entry.trim_end()).filter(|entry| entry.starts_with('{')) {
            if log.format == "sudo" {
                continue;
            }
            for end in 1..entry.len() {
                let made = records(&mut normalizer, &format, &entry.as_bytes()[..end]);
                let [record] = made.as_slice() else { panic!("{} cut at {end}: {made:?}", log.name) };
                assert_eq!(record["eventName"], "UnparsedObservation", "{} cut at {end}: {record}", log.name);
                assert_eq!(record["requestParameters"]["bytes"], end, "{} cut at {end}: {record}", log.name);
            }
            let made = records(&mut normalizer, &format, entry.as_bytes());
            let unparsed = made.iter().filter(|record| record["eventName"] == "UnparsedObservation").count();
            assert_eq!((made.len(), unparsed), (1, 0), "{}: {made:?}", log.name);
        }
    }
}
