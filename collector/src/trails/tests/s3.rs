//! Delivery to S3, as moto serves it. `EDGETRAIL_SKIP_S3=1` skips these; without it, a missing moto is a failure.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;

use super::auditor;
use super::bench::{ACCOUNTS, Bench, PATIENCE, REGIONS, eventually};
use crate::sinks::{Double, Encryption, ObjectMeta, Put, S3Config, Sink, SinkConfig};

const SKIP: &str = "EDGETRAIL_SKIP_S3";

/// A server of its own for each test; ends with it.
struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    fn start() -> Option<Self> {
        if std::env::var_os(SKIP).is_some() {
            eprintln!("SKIPPED: {SKIP} is set, nothing of S3 is tested");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/moto_server");
        let program = if installed.exists() { installed } else { "moto_server".into() };
        let process = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{} does not start ({error}): `make test` installs it, {SKIP}=1 skips", program.display())
            });
        let moto = Self { process, port };
        let started = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "moto_server does not listen on {port}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(moto)
    }

    /// A bare request; moto asks for a signature and does not check it. Gives the whole answer.
    fn request(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\nAuthorization: \
             AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260102/us-east-1/s3/aws4_request, SignedHeaders=host, \
             Signature=00\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.to_ascii_lowercase()
    }

    fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(format!("http://127.0.0.1:{}", self.port)),
            region: Some("us-east-1".into()),
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".into()),
            secret_access_key: Some("example".into()),
            ..S3Config::default()
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[tokio::test]
async fn objects_keep_metadata_are_encrypted_and_never_overwritten() {
    let Some(moto) = Moto::start() else { return };
    assert!(moto.request("PUT", "/bucket").contains("200 ok"));
    let sink = Sink::open(&SinkConfig::S3(moto.config()), "bucket", None).unwrap();
    sink.probe(None, ACCOUNTS[0]).await.unwrap();
    sink.probe(None, ACCOUNTS[0]).await.unwrap();

    let mut meta = ObjectMeta::gzipped_json();
    meta.metadata.insert("signature".into(), "ab12".into());
    assert_eq!(sink.put_new("a/b.json.gz", Bytes::from_static(b"one"), &meta).await.unwrap(), Put::Created);
    assert_eq!(sink.put_new("a/b.json.gz", Bytes::from_static(b"two"), &meta).await.unwrap(), Put::Exists);
    let object = sink.get("a/b.json.gz").await.unwrap().unwrap();
    assert_eq!((object.bytes.as_ref(), object.meta), (&b"one"[..], meta.clone()));
    assert!(sink.get("a/none").await.unwrap().is_none());
    assert!(sink.head("a/none").await.unwrap().is_none());
    assert_eq!(sink.list("a/", "", 10).await.unwrap().len(), 1);
    let head = moto.request("HEAD", "/bucket/a/b.json.gz");
    for header in ["x-amz-server-side-encryption: aes256", "content-encoding: gzip", "x-amz-meta-signature: ab12"] {
        assert!(head.contains(header), "{header} is missing in {head}");
    }

    let kms = Sink::open(&SinkConfig::S3(moto.config()), "bucket", Some("arn:aws:kms:us-east-1:111122223333:key/k")).unwrap();
    kms.put_new("kms", Bytes::from_static(b"x"), &meta).await.unwrap();
    let head = moto.request("HEAD", "/bucket/kms");
    assert!(head.contains("x-amz-server-side-encryption: aws:kms"), "{head}");
    assert!(head.contains("x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:us-east-1:111122223333:key/k"), "{head}");

    let plain = S3Config { encryption: Encryption::BucketDefault, ..moto.config() };
    let missing = Sink::open(&SinkConfig::S3(plain), "no-such-bucket", None).unwrap();
    let error = missing.put_new("k", Bytes::new(), &meta).await.unwrap_err();
    assert_eq!(error.code(), "NoSuchBucket", "{error:?}");
}

#[tokio::test]
async fn a_trail_waits_for_its_bucket_and_its_digests_verify() {
    let Some(moto) = Moto::start() else { return };
    let config = SinkConfig::S3(moto.config());
    let mut bench = Bench::with(|trail| {
        trail.sink = config.clone();
        trail.prefix = Some("some/prefix".into());
    });
    bench.start_with(None);
    let sent = bench.commit(1, ACCOUNTS[0], REGIONS[0], 5).await;
    let error = || bench.trails().status(&bench.trail.arn).unwrap().latest_delivery_error;
    eventually("the missing bucket is told", || error().as_deref() == Some("NoSuchBucket")).await;
    assert!(moto.request("PUT", "/edgetrail").contains("200 ok"));

    bench.caught_up().await;
    for _ in 0..2 {
        bench.advance(60);
        bench.planned().await;
    }
    let sink = Sink::open(&config, "edgetrail", None).unwrap();
    let all = async {
        while sink.list("some/prefix/AWSLogs/111122223333/CloudTrail-Digest/", "", 10).await.unwrap().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("two digests");

    // The auditor reads a copy, in the order in which a digest may rely on what it lists.
    let copy = Double::default();
    for kind in ["CloudTrail", "CloudTrail-Proof", "CloudTrail-Digest"] {
        for stat in sink.list(&format!("some/prefix/AWSLogs/111122223333/{kind}/"), "", 100).await.unwrap() {
            let object = sink.get(&stat.key).await.unwrap().unwrap();
            Sink::Double(copy.clone()).put_new(&stat.key, object.bytes, &object.meta).await.unwrap();
        }
    }
    assert_eq!(auditor::delivered(&copy).into_values().collect::<Vec<_>>(), [sent]);
    let keys = bench.trails().public_keys(None, 0, u64::MAX).unwrap();
    let chains = auditor::chains(&copy, &keys);
    assert_eq!(chains.into_values().next().unwrap()[0].digests.len(), 2);
    assert!(error().is_none());
}
