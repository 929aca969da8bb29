//! Each tampering that CloudTrail's format can show is reported by the AWS CLI; what it passes, `edgetrail-verify` reports.

use std::path::{Path, PathBuf};

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::text;
use serde_json::json;

/// A file as it was; put back when dropped.
struct Kept {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Kept {
    fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), bytes: std::fs::read(path).unwrap() }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        std::fs::write(&self.path, &self.bytes).unwrap();
    }
}

fn sidecar(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.meta.json", path.display()))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Alters one text member of an object and leaves every other byte.
fn replace_member(object: &Path, member: &str, value: &str) {
    let whole = String::from_utf8(delivered::unpack(object)).unwrap();
    let name = format!("\"{member}\":\"");
    let start = whole.find(&name).unwrap_or_else(|| panic!("no {member} in {whole}")) + name.len();
    let end = start + whole[start..].find('"').unwrap();
    std::fs::write(object, gzip(format!("{}{value}{}", &whole[..start], &whole[end..]).as_bytes())).unwrap();
}

/// A deployment with at least four digests and a log file in one that is not the newest.
fn deployment() -> (Deployment, Vec<PathBuf>, PathBuf) {
    let mut deployment = Deployment::with_one_agent();
    for round in 1..=4 {
        let event = json!({"eventSource": "shop.example", "eventName": "CreateOrder", "id": format!("t-{round}")});
        post_one(deployment.socket(), &event);
        deployment.wait_for_digests(round);
    }
    deployment.wait_until_all_digested();
    // From here on nothing is delivered any more: what changes is ours.
    deployment.stop_agents_and_logging();
    let digests: Vec<PathBuf> = delivered::digests(&deployment.trail()).into_iter().map(|(path, _)| path).collect();
    let (_, second) = delivered::digests(&deployment.trail()).swap_remove(1);
    let with_logs = delivered::digests(&deployment.trail())
        .into_iter()
        .take(digests.len() - 1)
        .find_map(|(_, digest)| digest["logFiles"][0]["s3Object"].as_str().map(str::to_owned));
    let key = with_logs.unwrap_or_else(|| panic!("no digest but the newest lists a log file: {second:#}"));
    let log = deployment.trail().join(deployment.bucket()).join(key);
    (deployment, digests, log)
}

#[test]
fn every_tampering_is_reported() {
    let (deployment, digests, log) = deployment();
    let digest = &digests[digests.len() / 2];
    let whole = deployment.validate();
    assert!(whole.status.success(), "{}", text(&whole));
    assert!(deployment.verify(&[]).status.success());

    let reported = |what: &str, cli: &str, check: &str| {
        let output = deployment.validate();
        let said = text(&output);
        assert!(!output.status.success() && said.contains(cli), "{what}: the AWS CLI said {said}");
        verify_reports(&deployment, what, check);
    };

    {
        let _kept = Kept::of(digest);
        std::fs::remove_file(digest).unwrap();
        reported("digest deleted", "INVALID: not found", "digest-missing");
    }
    {
        let _kept = Kept::of(digest);
        std::fs::write(digest, b"no gzip").unwrap();
        reported("digest overwritten", "INVALID: invalid format", "digest-format");
    }
    {
        let _kept = Kept::of(digest);
        let altered = String::from_utf8(delivered::unpack(digest)).unwrap().replacen("Z\",\"digestEnd", "Y\",\"digestEnd", 1);
        std::fs::write(
            digest,
            gzip(altered.replacen('Y', "Z", 1).replacen("\"awsAccountId\"", "\"awsAccountId\" ", 1).as_bytes()),
        )
        .unwrap();
        reported("digest altered by a space", "INVALID: signature verification failed", "digest-signature");
    }
    {
        let _kept = Kept::of(digest);
        replace_member(digest, "digestPublicKeyFingerprint", &"00".repeat(16));
        reported("another key named", "INVALID: public key not found in region", "digest-key-unknown");
    }
    {
        let _kept = Kept::of(digest);
        replace_member(digest, "previousDigestSignature", &"00".repeat(256));
        reported("another previous signature named", "INVALID: signature verification failed", "previous-signature");
    }
    {
        let _kept = Kept::of(&sidecar(digest));
        std::fs::write(sidecar(digest), b"{}").unwrap();
        reported("signature removed", "INVALID: signature verification failed", "digest-signature");
    }
    {
        let _kept = Kept::of(digest);
        let _kept_sidecar = Kept::of(&sidecar(digest));
        std::fs::copy(&digests[0], digest).unwrap();
        std::fs::copy(sidecar(&digests[0]), sidecar(digest)).unwrap();
        reported("an older digest in its place", "INVALID: has been moved from its original location", "digest-moved");
    }
    {
        let _kept = Kept::of(&log);
        std::fs::remove_file(&log).unwrap();
        reported("log file deleted", "INVALID: not found", "log-missing");
    }
    {
        let _kept = Kept::of(&log);
        std::fs::write(&log, b"no gzip").unwrap();
        reported("log file overwritten", "INVALID: invalid format", "log-format");
    }
    {
        let _kept = Kept::of(&log);
        let mut bytes = std::fs::read(&log).unwrap();
        bytes.extend_from_slice(b"junk");
        std::fs::write(&log, bytes).unwrap();
        reported("bytes behind a log file", "INVALID: unexpected data after end of compressed stream", "log-trailing");
    }
    {
        let _kept = Kept::of(&log);
        let altered = String::from_utf8(delivered::unpack(&log)).unwrap().replacen("CreateOrder", "DeleteOrder", 1);
        std::fs::write(&log, gzip(altered.as_bytes())).unwrap();
        reported("record altered", "INVALID: hash value doesn't match", "log-hash");
    }
    blind_spots(&deployment, &digests, &log);
}

fn verify_reports(deployment: &Deployment, what: &str, check: &str) {
    let output = deployment.verify(&["-o", "json"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    assert!(said.contains(&format!("\"{check}\"")), "{what}: edgetrail-verify does not say {check}: {said}");
}

/// What the AWS CLI passes.
fn blind_spots(deployment: &Deployment, digests: &[PathBuf], log: &Path) {
    let passes = |what: &str, check: &str| {
        let output = deployment.validate();
        assert!(output.status.success(), "{what}: the AWS CLI no longer passes it: {}", text(&output));
        verify_reports(deployment, what, check);
    };
    {
        let newest = digests.last().unwrap();
        let _kept = Kept::of(newest);
        std::fs::remove_file(newest).unwrap();
        passes("newest digest deleted", "proof-unlisted");
    }
    {
        let _kept: Vec<Kept> = digests.iter().map(|digest| Kept::of(digest)).collect();
        digests.iter().for_each(|digest| std::fs::remove_file(digest).unwrap());
        passes("all digests deleted", "no-digests");
    }
    {
        let extra = PathBuf::from(
            log.to_string_lossy().replace(".json.gz", "").trim_end_matches(|c: char| c.is_alphanumeric()).to_owned()
                + "ABCDEFABCDEFABCD.json.gz",
        );
        std::fs::copy(log, &extra).unwrap();
        passes("a log file that no digest lists", "log-unlisted");
        std::fs::remove_file(&extra).unwrap();
    }
    {
        let digest = &digests[0];
        let _kept = Kept::of(digest);
        let mut bytes = std::fs::read(digest).unwrap();
        bytes.extend_from_slice(b"junk");
        std::fs::write(digest, bytes).unwrap();
        passes("bytes behind a digest", "digest-trailing");
    }
}
