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

/// Looked at behind each byte that its writer writes, compressed or not.
#[test]
fn a_file_that_grows_byte_by_byte_is_told_once_and_whole() {
    let text = r#"{"Records":[{"eventName":"A","userName":"é"},{"eventName":"B"}]}"#;
    for (name, whole) in [("a.json", text.as_bytes().to_vec()), ("a.json.gz", gzip(text))] {
        let directory = tempfile::tempdir().unwrap();
        let mut passes = Passes::new(directory.path());
        let mut told = Vec::new();
        for end in 0..=whole.len() {
            assert_eq!(told, [""; 0], "{name}: told when {end} bytes of {} were there", whole.len());
            std::fs::write(directory.path().join(name), &whole[..end]).unwrap();
            told.extend(passes.pass());
        }
        assert_eq!(told, [r#"{"eventName":"A","userName":"é"}"#, r#"{"eventName":"B"}"#], "{name}");
        assert_eq!(passes.pass(), [""; 0], "{name}");
    }
}

/// Records one after another look whole behind each of them.
#[test]
fn a_file_of_lines_is_told_when_its_writer_has_left() {
    let text = "{\"eventName\":\"A\"}\n{\"eventName\":\"B\"}\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.json");
    let mut passes = Passes::new(directory.path());
    for end in 0..=text.len() {
        std::fs::write(&path, &text[..end]).unwrap();
        assert_eq!(passes.pass(), [""; 0], "told when {end} bytes of {} were there", text.len());
    }
    let seen = &mut passes.follower.unfinished.get_mut(&path).unwrap().1;
    *seen = seen.checked_sub(UNFINISHED_MAX).unwrap();
    assert_eq!(passes.pass(), [r#"{"eventName":"A"}"#, r#"{"eventName":"B"}"#]);
    assert_eq!(passes.pass(), [""; 0]);
}

/// A follower of a directory, pass by pass.
struct Passes {
    follower: Follower,
    intake: Intake,
    outlet: crate::observation::Outlet,
    stop: CancellationToken,
}

impl Passes {
    fn new(root: &Path) -> Self {
        let (watch, _waker) = Watch::new().unwrap();
        let place = Box::new(Directory::new(root, watch));
        let follower = Follower::new(place, Keys::default(), &[]);
        let (intake, outlet) = intake();
        Self { follower, intake, outlet, stop: CancellationToken::new() }
    }

    /// One look at everything: texts of records, evidence of gaps.
    fn pass(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                self.follower.pass(&self.intake, &self.stop).unwrap();
                // The end of this look.
                self.intake.send_blocking(Vec::new()).unwrap();
            });
            loop {
                let group = runtime.block_on(self.outlet.recv()).unwrap();
                if group.is_empty() {
                    break;
                }
                texts.extend(group.into_iter().filter_map(|observation| match observation.payload {
                    Payload::Line(line) => Some(String::from_utf8(line.bytes.to_vec()).unwrap()),
                    Payload::Loss(loss) => Some(format!("LOSS {}", loss.evidence)),
                    _ => None,
                }));
            }
            looking.join().unwrap();
        });
        texts
    }

    /// The same after nothing came for as long as a digest waits.
    fn pass_in_quiet(&mut self) -> Vec<String> {
        self.follower.changed = Instant::now().checked_sub(QUIET).unwrap();
        self.pass()
    }
}

const LOGS: &str = "AWSLogs/1/CloudTrail/lab/2026/01/01";
const DIGESTS: &str = "AWSLogs/1/CloudTrail-Digest/lab/2026/01/01";

fn folders(root: &Path) {
    for folder in [LOGS, DIGESTS] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
}

#[test]
fn a_digest_that_came_before_its_logs_waits_for_them() {
    let directory = tempfile::tempdir().unwrap();
    folders(directory.path());
    let text = r#"{"Records":[{"eventName":"A"}]}"#;
    let keys = ["a.json.gz", "b.json.gz"].map(|name| format!("{LOGS}/{name}"));
    let digest = digest_of(text, &keys.each_ref().map(String::as_str));
    std::fs::write(directory.path().join(DIGESTS).join("d.json.gz"), gzip(&digest)).unwrap();
    let mut passes = Passes::new(directory.path());
    // As `aws s3 sync` brings them: the digests' folder first.
    assert_eq!(passes.pass(), [""; 0]);
    std::fs::write(directory.path().join(&keys[0]), gzip(text)).unwrap();
    assert_eq!(passes.pass(), [r#"{"eventName":"A"}"#]);
    // One that is being copied is no changed one.
    let whole = gzip(text);
    std::fs::write(directory.path().join(&keys[1]), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(passes.pass(), [""; 0]);
    std::fs::write(directory.path().join(&keys[1]), whole).unwrap();
    assert_eq!(passes.pass(), [r#"{"eventName":"A"}"#]);
    assert_eq!(passes.pass_in_quiet(), [""; 0], "and what is whole stays without a gap");
}

/// The digest of an hour, which names the one before it.
fn hour(hour: u8, before: Option<(&str, &str)>) -> (String, String) {
    let name = format!("1_CloudTrail-Digest_lab_trail_lab_20260101T{hour:02}0000Z.json.gz");
    let mut digest: serde_json::Value = serde_json::from_str(&digest_of("", &[])).unwrap();
    if let Some((name, text)) = before {
        digest["previousDigestS3Object"] = format!("{DIGESTS}/{name}").into();
        digest["previousDigestHashValue"] = hex::encode(Sha256::digest(text)).into();
    }
    digest["digestEndTime"] = format!("2026-01-01T{hour:02}:00:00Z").into();
    (name, digest.to_string())
}

#[test]
fn a_digest_that_was_removed_between_others_is_a_gap_and_what_is_older_than_the_copy_is_none() {
    let directory = tempfile::tempdir().unwrap();
    folders(directory.path());
    let older = hour(0, None);
    let first = hour(1, Some((&older.0, &older.1)));
    let removed = hour(2, Some((&first.0, &first.1)));
    let last = hour(3, Some((&removed.0, &removed.1)));
    for (name, text) in [&first, &last] {
        std::fs::write(directory.path().join(DIGESTS).join(name), gzip(text)).unwrap();
    }
    let mut passes = Passes::new(directory.path());
    assert_eq!(passes.pass(), [""; 0]);
    let texts = passes.pass_in_quiet();
    assert!(texts.len() == 1 && texts[0].contains(&removed.0) && texts[0].contains("not here"), "{texts:?}");
}

#[tokio::test]
async fn what_else_lies_in_a_bucket_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("AWSLogs/1/Config/lab/2026/1/1/ConfigSnapshot");
    let logs = directory.path().join(LOGS);
    std::fs::create_dir_all(&config).unwrap();
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(config.join("1_Config_lab_ConfigSnapshot_x.json.gz"), gzip(r#"{"configurationItems":[]}"#)).unwrap();
    std::fs::write(logs.join("a.json.gz"), gzip(r#"[{"eventName":"A"}]"#)).unwrap();
    assert_eq!(gathered(directory.path(), &mut BTreeMap::new(), 1).await, [r#"{"eventName":"A"}"#]);
    assert!(!place::is_wanted(&config.join("1_Config_lab_ConfigSnapshot_x.json.gz")));
    assert!(place::is_wanted(Path::new("/srv/trail/AWSLogs/o-1/1/CloudTrail-Insight/lab/2026/01/01/x.json.gz")));
    assert!(place::is_wanted(Path::new("/srv/trail/x.json")));
}

/// Of keys made for this test, whose private halves are no more.
const KEY: &str = "MIIBCgKCAQEA5W/YK9PZNQf4m6/mohWdWkE6y2kKPu71GEnSWAg30Niy9Xq4txm8EtG1SuvKVadL7BjjBmux6mGKY99HYpza+pAEPJF83GVL6mE9QQjQWchXrWnO1l4/Dlw9C+bCE8YzCvVsxn2Ss85ZSBzn2BVEB26Grv/htCjF7UuhngHDcSdbyB9bGfVf5vSUNcpGLJ0TgcajTYjRzD+NgEudfcKQWexVrrh2vMV3MDzrpN26SVWIbAWVU4hI8e3QUF080putoSqRZ+KOIRhTKaHgJoAJ8RMbsAqQwUth6i6pY9yLURFBVeHFJHJB4Egq/u1CW/k1GRB7T/3Maf8pWqXPf5WEvQIDAQAB";
const OTHER_KEY: &str = "MIIBCgKCAQEA0FYvUSTIwEewAZNwfYtiWaPg4J9J4N4vqiaAwiqDYaiiGYCLd4FDavxJcby/dLW18KmKajdF8FbtGydShFCZXgHYNQ1Qef6et6r5K+9JQTOfA4Uefd2d5ej3bMt4qMjIEw482K+9wxhiA6fUr5t/OY55MLfgGT93+y3B0gBdgru1V0HxrwcrXSZQ3csIdmQbqjoLk8Ivza+N6UknWda4EBqE4TyGe53rVV2b/3QljTPYFIhSvYuRUoUeF8aCrMMr7qkNdRqQwkqfObu4r5XLXfXfO0PpaU3ei+oVGUdTbbChq8pM4MFS4NeNsQF1qxSnvLuyOtcsMgJJAiPKOFazvwIDAQAB";
/// KEY's signature of what is signed of `digest_of("", &[])`.
const SIGNATURE: &str = "2f0e210ce29d5f4e20e053804e9fcff04f74a93b0555f490a2736f3549993959ee566c6e43b472b8171566952ebfc3a6c5fbb2832586e64ded421b45ca112e3f6a6ec25883dea0a2db0ac702c5de970afa200575c6770c1542fb86825ac1e56a54a1204c27400b503abe4c9cfffb47493634785352415b583c95a362837ca64e5d4d2b8ca680f1968d356a012ce2c74099c7413d1f97c9b491916c5c977604a2ee937f5b93440f5f9b12c42e919ecc05831d70e60f7da0fbd72e83e949abde1fb9b84a842891fc4fc5dcb63683ea488831434ef1c62aa418a5bbcb17b32e5e527a2e3efc1790574aee6d2416a8083498249ed4f8a8d6eb703bd223ead4ce2395";

#[test]
fn a_digest_whose_signature_no_known_key_made_is_a_gap() {
    let digest = digest_of("", &[]);
    for (key, digest, is_right) in
        [(KEY, digest.clone(), true), (OTHER_KEY, digest.clone(), false), (KEY, digest.replace("\"1\"", "\"2\""), false)]
    {
        let directory = tempfile::tempdir().unwrap();
        folders(directory.path());
        let keys = directory.path().join("keys.list");
        std::fs::write(&keys, format!(r#"{{"PublicKeyList":[{{"Value":"{key}","Fingerprint":"f"}}]}}"#)).unwrap();
        let path = directory.path().join(DIGESTS).join("d.json.gz");
        std::fs::write(&path, gzip(&digest)).unwrap();
        let meta = format!(r#"{{"Metadata":{{"signature":"{SIGNATURE}","signature-algorithm":"SHA256withRSA"}}}}"#);
        std::fs::write(path.with_extension("gz.meta.json"), meta).unwrap();
        let mut passes = Passes::new(directory.path());
        passes.follower.keys = Keys::read(&keys).unwrap();
        let texts = passes.pass();
        assert_eq!(texts.is_empty(), is_right, "{texts:?}");
        assert!(is_right || texts[0].contains("no known key made its signature"), "{texts:?}");
    }
    assert!(Keys::read(Path::new("/nonexistent")).is_err());
}
