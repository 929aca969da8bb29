//! A directory as a bucket's copy, with the test as the pipeline.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::*;
use crate::observation::intake;

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the source until `count` records and gaps came, committing each cursor; gives their texts.
async fn gathered(root: &Path, cursors: &mut BTreeMap<String, Vec<u8>>, count: usize) -> Vec<String> {
    gathered_from(&Config { directory: Some(root.to_owned()), ..Config::default() }, cursors, count).await
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
pub(super) async fn gathered_from(config: &Config, cursors: &mut BTreeMap<String, Vec<u8>>, count: usize) -> Vec<String> {
    let (intake, mut outlet) = intake();
    let stop = CancellationToken::new();
    let config = config.clone();
    let known: Vec<Cursor> = cursors.iter().map(|(key, value)| Cursor { key: key.clone(), value: value.clone() }).collect();
    let handle = stop.clone();
    let task = tokio::spawn(async move { run(config, &known, intake, handle).await });
    let mut texts = Vec::new();
    while texts.len() < count {
        let group = tokio::time::timeout(PATIENCE, outlet.recv()).await.unwrap_or_else(|_| panic!("only {texts:?}")).unwrap();
        for observation in group {
            if texts.len() == count && !matches!(observation.payload, Payload::Nothing) {
                break;
            }
            match observation.payload {
                Payload::Line(line) => texts.push(String::from_utf8(line.bytes.to_vec()).unwrap()),
                Payload::Loss(loss) => texts.push(format!("LOSS {}", loss.evidence)),
                Payload::Unparsed(unparsed) => texts.push(format!("UNPARSED {}", unparsed.reason)),
                _ => {}
            }
            if let Some(cursor) = observation.cursor {
                cursors.insert(cursor.key, cursor.value);
            }
        }
    }
    stop.cancel();
    while outlet.recv().await.is_some() {}
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    texts
}

pub(super) fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A digest that lists these objects, each of `text`.
pub(super) fn digest_of(text: &str, keys: &[&str]) -> String {
    let hash = hex::encode(Sha256::digest(text));
    let file = |key: &&str| {
        format!(
            r#"{{"s3Bucket":"b","s3Object":"{key}","hashValue":"{hash}","hashAlgorithm":"SHA-256","newestEventTime":"","oldestEventTime":""}}"#
        )
    };
    let files: Vec<String> = keys.iter().map(file).collect();
    format!(
        r#"{{"awsAccountId":"1","digestStartTime":"","digestEndTime":"","digestS3Bucket":"b","digestS3Object":"k","digestPublicKeyFingerprint":"","digestSignatureAlgorithm":"SHA256withRSA","newestEventTime":null,"oldestEventTime":null,"previousDigestS3Bucket":null,"previousDigestS3Object":null,"previousDigestHashValue":null,"previousDigestHashAlgorithm":null,"previousDigestSignature":null,"logFiles":[{}]}}"#,
        files.join(",")
    )
}

#[tokio::test]
async fn each_record_comes_once_byte_for_byte_also_from_the_middle_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("AWSLogs/111122223333/CloudTrail/lab/2026/01/01");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.json.gz"), gzip(r#"{"Records":[{"eventName": "A1" },{"eventName":"A2"}]}"#)).unwrap();
    std::fs::write(folder.join("a.json.gz.meta.json"), "{}").unwrap();
    let mut cursors = BTreeMap::new();
    assert_eq!(gathered(directory.path(), &mut cursors, 1).await, [r#"{"eventName": "A1" }"#]);
    // It stopped within the file; another came.
    std::fs::write(folder.join("b.json"), r#"{"Records":[{"eventName":"B1"}]}"#).unwrap();
    assert_eq!(gathered(directory.path(), &mut cursors, 2).await, [r#"{"eventName":"A2"}"#, r#"{"eventName":"B1"}"#]);
    std::fs::write(folder.join("c.json"), r#"[{"eventName":"C1"}]"#).unwrap();
    assert_eq!(gathered(directory.path(), &mut cursors, 1).await, [r#"{"eventName":"C1"}"#]);
}

#[tokio::test]
async fn what_a_digest_lists_and_is_missing_or_changed_is_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("AWSLogs/1/CloudTrail/lab");
    let digests = directory.path().join("AWSLogs/1/CloudTrail-Digest/lab");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::create_dir_all(&digests).unwrap();
    let text = r#"{"Records":[{"eventName":"A"}]}"#;
    std::fs::write(logs.join("right.json.gz"), gzip(text)).unwrap();
    std::fs::write(logs.join("wrong.json.gz"), gzip(r#"{"Records":[{"eventName":"forged"}]}"#)).unwrap();
    let key = |name: &str| format!("AWSLogs/1/CloudTrail/lab/{name}");
    let digest = digest_of(text, &[&key("right.json.gz"), &key("wrong.json.gz"), &key("gone.json.gz")]);
    std::fs::write(digests.join("d.json.gz"), gzip(&digest)).unwrap();
    let texts = gathered(directory.path(), &mut BTreeMap::new(), 4).await;
    assert_eq!(texts[..2], [r#"{"eventName":"A"}"#, r#"{"eventName":"forged"}"#]);
    assert!(texts[2].contains("wrong.json.gz was changed since its delivery"), "{texts:?}");
    assert!(texts[3].contains("gone.json.gz is listed in") && texts[3].contains("its events are missing"), "{texts:?}");
}

#[tokio::test]
async fn a_file_that_never_becomes_whole_is_told_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("cut.json"), r#"{"Records":[{"eventName":"A"}"#).unwrap();
    let texts = gathered(directory.path(), &mut BTreeMap::new(), 1).await;
    assert!(texts[0].starts_with("UNPARSED") && texts[0].contains("not JSON to its end"), "{texts:?}");
}
