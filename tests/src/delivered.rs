//! The oracle: what a trail has delivered, read from its objects alone.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Most bytes that one object unpacks to: CloudTrail's 50 MB, and more than any test delivers.
const OBJECT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Every record of every log file below `dir`, with the file it stands in.
pub fn records(dir: &Path) -> Vec<(PathBuf, Value)> {
    let mut all = Vec::new();
    for path in objects(dir, "/CloudTrail/") {
        let Value::Object(mut file) = serde_json::from_slice(&unpack(&path)).expect("a log file is JSON") else {
            panic!("{} is not an object", path.display());
        };
        let Some(Value::Array(records)) = file.remove("Records") else { panic!("{} has no Records", path.display()) };
        all.extend(records.into_iter().map(|record| (path.clone(), record)));
    }
    all
}

/// The digests below `dir`, by path.
pub fn digests(dir: &Path) -> Vec<(PathBuf, Value)> {
    let parse = |path: PathBuf| {
        let value = serde_json::from_slice(&unpack(&path)).expect("a digest is JSON");
        (path, value)
    };
    objects(dir, "/CloudTrail-Digest/").into_iter().map(parse).collect()
}

/// Paths of all objects whose path contains `kind`, sorted; metadata files are no objects.
pub fn objects(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.to_string_lossy().contains(kind) && path.to_string_lossy().ends_with(".json.gz") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Checks with code of its own that every digest's log files are there, hash to what it says and are listed once, and
/// gives how many times each log file is covered.
pub fn digest_coverage(trail: &Path) -> BTreeMap<String, u32> {
    let mut covered = BTreeMap::new();
    for (path, digest) in digests(trail) {
        for file in digest["logFiles"].as_array().expect("a digest lists its log files") {
            let key = file["s3Object"].as_str().expect("a log file has a key").to_owned();
            let bucket = file["s3Bucket"].as_str().expect("a log file has a bucket");
            let object = trail.join(bucket).join(&key);
            let found = hex::encode(Sha256::digest(unpack(&object)));
            assert_eq!(Some(found.as_str()), file["hashValue"].as_str(), "{} in {}", object.display(), path.display());
            *covered.entry(key).or_default() += 1;
        }
    }
    covered
}

/// The uncompressed bytes of an object.
pub fn unpack(path: &Path) -> Vec<u8> {
    let packed = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice())
        .take(OBJECT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .unwrap_or_else(|error| panic!("{} does not unpack: {error}", path.display()));
    bytes
}
