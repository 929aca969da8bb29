//! A bucket of S3, or of a store that speaks its protocol, read from where it is.
//!
//! Listed again and again: between two whole listings each lane (what stands before a key's date) is listed from the day
//! before its newest one, so that a bucket of years costs as little as one of days. An error of the store ends the source,
//! which starts again: it is never taken for a missing object.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{Attribute, BackoffConfig, GetOptions, ObjectStore, RetryConfig};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Config;
use super::document::DOCUMENT_BYTES_MAX;
use super::place::{Content, Place, is_wanted};
use crate::sources::secret;
use crate::sources::watch::Watch;

/// A bucket.
pub(super) struct Bucket {
    store: AmazonS3,
    /// `s3://BUCKET`, which every path begins with.
    origin: PathBuf,
    root: PathBuf,
    prefix: Option<Key>,
    runtime: Handle,
    stop: CancellationToken,
    /// Only its stop is waited for.
    watch: Watch,
    poll: Duration,
    /// Listings since the last whole one.
    listings: u32,
    /// By lane: its newest day, `YYYY/MM/DD`.
    newest: BTreeMap<String, String>,
}

/// How often a bucket is listed unless configured: CloudTrail delivers every five minutes.
const POLL_DEFAULT: Duration = Duration::from_secs(60);

/// Every so many listings the whole bucket is listed: for new lanes, and what came days late.
const WHOLE_EVERY: u32 = 15;

/// How long one call may try by itself; the source starts again after that.
const TRY_TIME_MAX: Duration = Duration::from_secs(20);

impl Bucket {
    /// Needs a runtime.
    pub(super) fn open(config: &Config, watch: Watch, stop: CancellationToken) -> Result<Self, String> {
        let name = config.bucket.as_deref().unwrap_or_default();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(name).with_retry(RetryConfig {
            max_retries: 3,
            retry_timeout: TRY_TIME_MAX,
            backoff: BackoffConfig::default(),
        });
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let (Some(id), Some(file)) = (&config.access_key_id, &config.secret_file) {
            let secret = secret::secret(file).map_err(|error| format!("secret_file: {error}"))?;
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.as_str());
        }
        let store = builder.build().map_err(|error| format!("the bucket {name} can't be used: {error}"))?;
        let origin = PathBuf::from(format!("s3://{name}"));
        let prefix = config.prefix.trim_end_matches('/');
        let root = if prefix.is_empty() { origin.clone() } else { origin.join(prefix) };
        let prefix = Key::parse(prefix).map_err(|error| format!("prefix: {error}"))?;
        Ok(Self {
            store,
            origin,
            root,
            prefix: (!prefix.as_ref().is_empty()).then_some(prefix),
            runtime: Handle::current(),
            stop,
            watch,
            poll: config.poll.map_or(POLL_DEFAULT, |poll| poll.0),
            listings: 0,
            newest: BTreeMap::new(),
        })
    }

    /// Waits for an answer of the store, unless the source is to stop.
    fn ask<T>(&self, answer: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.stop.cancelled() => Err(io::ErrorKind::Interrupted.into()),
                answer = answer => answer.map_err(io::Error::other),
            }
        })
    }

    /// The keys of a listing: of everything, or of what stands behind `after` in `within`.
    fn keys(&self, within: Option<&Key>, after: Option<&Key>) -> io::Result<Vec<String>> {
        let listing = match after {
            None => self.store.list(within),
            Some(after) => self.store.list_with_offset(within, after),
        };
        self.ask(listing.map_ok(|object| object.location.to_string()).try_collect())
    }

    fn get(&self, key: &str) -> io::Result<Content> {
        let Ok(key) = Key::parse(key) else { return Ok(Content::Gone) };
        let answer = self.ask(async {
            let found = match self.store.get_opts(&key, GetOptions::default()).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(Content::Gone),
                found => found?,
            };
            if found.meta.size > DOCUMENT_BYTES_MAX {
                return Ok(Content::TooLarge);
            }
            found.bytes().await.map(|bytes| Content::Bytes(bytes.into()))
        })?;
        Ok(answer)
    }

    fn key_of<'a>(&self, path: &'a Path) -> &'a str {
        path.strip_prefix(&self.origin).ok().and_then(Path::to_str).unwrap_or_default()
    }
}

impl Place for Bucket {
    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&mut self, is_done: &dyn Fn(&Path) -> bool) -> io::Result<Vec<PathBuf>> {
        let keys = if self.listings.is_multiple_of(WHOLE_EVERY) {
            self.keys(self.prefix.as_ref(), None)?
        } else {
            let mut keys = Vec::new();
            for (lane, day) in &self.newest {
                let after = Key::from(format!("{lane}/{}", day_before(day)));
                keys.extend(self.keys(Some(&Key::from(lane.as_str())), Some(&after))?);
            }
            keys
        };
        self.listings = self.listings.wrapping_add(1);
        let mut files = Vec::new();
        for key in keys {
            if let Some((lane, day)) = lane_and_day(&key) {
                let newest = self.newest.entry(lane.to_owned()).or_default();
                if day > newest.as_str() {
                    day.clone_into(newest);
                }
            }
            let path = self.origin.join(&key);
            if is_wanted(&path) && !is_done(&path) {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn read(&self, path: &Path) -> io::Result<Content> {
        self.get(self.key_of(path))
    }

    /// An object is there as a whole or not at all.
    fn may_grow(&self) -> bool {
        false
    }

    fn object(&self, key: &str) -> io::Result<Content> {
        self.get(key)
    }

    /// The digest object's metadata.
    fn signature(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Ok(key) = Key::parse(self.key_of(path)) else { return Ok(None) };
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.ask(self.store.get_opts(&key, options))?;
        let signature = found.attributes.get(&Attribute::Metadata("signature".into()));
        Ok(signature.and_then(|text| hex::decode(text.as_ref()).ok()))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map_or(self.poll, |timeout| timeout.min(self.poll));
        self.watch.wait(Some(timeout)).map(drop)
    }
}

/// `…/YYYY/MM/DD/NAME` in two: what stands before the date, and the date.
fn lane_and_day(key: &str) -> Option<(&str, &str)> {
    let (folder, _name) = key.rsplit_once('/')?;
    let at = folder.len().checked_sub("YYYY/MM/DD".len())?;
    let (lane, day) = folder.split_at_checked(at)?;
    let is_day = day.bytes().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'/' } else { byte.is_ascii_digit() });
    is_day.then_some((lane.strip_suffix('/')?, day))
}

/// The day before; the same where it is no day of the calendar, which only lists less.
fn day_before(day: &str) -> String {
    let date: Option<jiff::civil::Date> = day.replace('/', "-").parse().ok();
    let before = date.and_then(|date| date.yesterday().ok());
    before.map_or_else(|| day.to_owned(), |date| date.strftime("%Y/%m/%d").to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::sources::cloudtrail::tests::{digest_of, gathered_from, gzip};

    /// moto, as `tests/setup` installs it.
    struct Moto {
        process: Child,
        port: u16,
    }

    impl Moto {
        fn start() -> Option<Self> {
            if std::env::var_os("EDGETRAIL_SKIP_S3").is_some() {
                eprintln!("SKIPPED by EDGETRAIL_SKIP_S3: no bucket is read");
                return None;
            }
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/moto_server");
            let mut command = Command::new(&program);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
            let process = command.spawn().unwrap_or_else(|error| panic!("{} ({error}): run `make setup`", program.display()));
            let moto = Self { process, port };
            let started = std::time::Instant::now();
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(started.elapsed() < Duration::from_secs(60), "moto does not listen");
                std::thread::sleep(Duration::from_millis(20));
            }
            moto.aws(&["create-bucket", "--bucket", "trail"]);
            Some(moto)
        }

        fn endpoint(&self) -> String {
            format!("http://127.0.0.1:{}", self.port)
        }

        fn aws(&self, arguments: &[&str]) {
            let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin");
            let output = Command::new(venv.join("aws"))
                .args(["s3api", "--endpoint-url", &self.endpoint()])
                .args(arguments)
                .env_clear()
                .env("PATH", std::env::var("PATH").unwrap_or_default())
                .env("HOME", "/nonexistent")
                .env("AWS_ACCESS_KEY_ID", "AKIAGATEWAY000000001")
                .env("AWS_SECRET_ACCESS_KEY", "example")
                .env("AWS_DEFAULT_REGION", "us-east-1")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }

        fn put(&self, dir: &Path, key: &str, bytes: &[u8], metadata: &str) {
            let body = dir.join("body");
            std::fs::write(&body, bytes).unwrap();
            let body = body.display().to_string();
            self.aws(&["put-object", "--bucket", "trail", "--key", key, "--body", &body, "--metadata", metadata]);
        }
    }

    impl Drop for Moto {
        fn drop(&mut self) {
            let _killed = self.process.kill();
            let _reaped = self.process.wait();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bucket_is_read_once_byte_for_byte_its_digests_checked() {
        let Some(moto) = Moto::start() else { return };
        let dir = tempfile::tempdir().unwrap();
        let secret_file = dir.path().join("secret");
        std::fs::write(&secret_file, "a secret that moto does not check").unwrap();
        std::fs::set_permissions(&secret_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = Config {
            bucket: Some("trail".to_owned()),
            prefix: "audit".to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint: Some(moto.endpoint()),
            access_key_id: Some("AKIAGATEWAY000000001".to_owned()),
            secret_file: Some(secret_file),
            poll: Some(edgetrail_settings::Span(Duration::from_millis(50))),
            ..Config::default()
        };
        assert_eq!(config.trouble(), None);
        let key = |day: &str, name: &str| format!("audit/AWSLogs/1/CloudTrail/lab/2026/01/{day}/{name}");
        let text = r#"{"Records":[{"eventName": "A1" },{"eventName":"A2"}]}"#;
        moto.put(dir.path(), &key("02", "a.json.gz"), &gzip(text), "x=y");
        moto.put(dir.path(), "elsewhere/AWSLogs/1/CloudTrail/lab/2026/01/02/b.json.gz", &gzip(text), "x=y");
        let mut cursors = BTreeMap::new();
        assert_eq!(gathered_from(&config, &mut cursors, 1).await, [r#"{"eventName": "A1" }"#]);
        // It stopped within the object; others came: a later one, and a digest that names a changed and a missing one.
        moto.put(dir.path(), &key("03", "b.json.gz"), &gzip(r#"{"Records":[{"eventName":"B1"}]}"#), "x=y");
        let digest = digest_of(text, &[&key("02", "a.json.gz"), &key("03", "b.json.gz"), &key("03", "gone.json.gz")]);
        moto.put(dir.path(), "audit/AWSLogs/1/CloudTrail-Digest/lab/2026/01/03/d.json.gz", &gzip(&digest), "signature=00");
        let texts = gathered_from(&config, &mut cursors, 4).await;
        assert_eq!(texts[..2], [r#"{"eventName":"A2"}"#, r#"{"eventName":"B1"}"#]);
        assert!(texts[2].contains("b.json.gz was changed since its delivery"), "{texts:?}");
        assert!(texts[3].contains("gone.json.gz is listed in"), "{texts:?}");
        moto.put(dir.path(), &key("03", "c.json.gz"), &gzip(r#"[{"eventName":"C1"}]"#), "x=y");
        assert_eq!(gathered_from(&config, &mut cursors, 1).await, [r#"{"eventName":"C1"}"#]);
    }

    #[test]
    fn a_lane_is_what_stands_before_the_date() {
        assert_eq!(
            lane_and_day("p/AWSLogs/1/CloudTrail/lab/2026/01/02/a.json.gz"),
            Some(("p/AWSLogs/1/CloudTrail/lab", "2026/01/02"))
        );
        for other in ["a.json", "x/2026/01/a.json", "2026/01/02/a.json", "é/2026/01/0/a", "x/2026/1/002/a.json"] {
            assert_eq!(lane_and_day(other), None, "{other}");
        }
        assert_eq!(day_before("2026/03/01"), "2026/02/28");
        assert_eq!(day_before("2026/99/01"), "2026/99/01");
    }
}
