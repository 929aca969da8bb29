//! The commands, and what they share: where the trail lies, the auditor's keys, how to print.

pub(crate) mod fork;
pub(crate) mod record;
pub(crate) mod stream;
pub(crate) mod trail;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use edgetrail_proto::record::parse_time;
use edgetrail_verify::keys::Keys;
use edgetrail_verify::report::Report;
use edgetrail_verify::store::Store;
use edgetrail_verify::trail::{Progress, Window, verify};

/// Longest list of keys that is fetched, in bytes: a key a day and region for ten years, 600 bytes each, and room.
const KEYS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where the trail is, and what it is checked against.
#[derive(Args)]
pub(crate) struct Source {
    /// The folder that holds the bucket's folder
    #[arg(long, value_name = "DIR", conflicts_with = "s3", required_unless_present = "s3")]
    dir: Option<PathBuf>,
    /// s3://BUCKET[/PREFIX]; credentials, region and endpoint from the usual AWS_… variables
    #[arg(long, value_name = "URL")]
    s3: Option<String>,
    /// The digests' public keys: what `aws cloudtrail list-public-keys` prints, or https://COLLECTOR:8443/v1/keys
    #[arg(long, value_name = "FILE|URL")]
    keys: String,
    /// The collector's CA certificates, PEM: agents' certificates must lead to one of them
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// What part of the trail is judged, and until when it must reach.
#[derive(Args)]
pub(crate) struct Span {
    /// Judge only digests that end after this time
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Judge only digests that end at or before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Fail unless digests, and every stream's newest batch, reach this time; without --as-of and --to, unless they reach the
    /// present, but for one window and five minutes: a trail whose tail was cut off looks whole otherwise
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// A trail that can be read, with keys.
pub(crate) struct Opened {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) store: Store,
    pub(crate) keys: Keys,
}

/// One line on a terminal, rewritten; nothing elsewhere.
struct ProgressLine {
    shown: bool,
}

impl Source {
    pub(crate) fn open(&self) -> anyhow::Result<Opened> {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            bail!("another TLS provider is already installed: this build has two");
        }
        let store = match (&self.dir, &self.s3) {
            (Some(dir), _) => Store::directory(dir)?,
            (None, Some(url)) => Store::s3(url)?,
            (None, None) => bail!("give --dir or --s3"),
        };
        let ca = self.ca.as_deref().map(read).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keys = match self.keys.starts_with("https://") {
            true => runtime.block_on(fetch(&self.keys, ca.as_deref()))?,
            false => read(Path::new(&self.keys))?,
        };
        let mut keys = Keys::parse(&keys).with_context(|| format!("{} is of no use", self.keys))?;
        if let Some(ca) = &ca {
            // The auditor's own roots: those that came along with the keys are not asked.
            keys.roots.clear();
            keys.add_roots_pem(ca).context("the file given with --ca is of no use")?;
        }
        Ok(Opened { runtime, store, keys })
    }
}

impl Opened {
    /// Everything that can be said of the trail.
    pub(crate) fn report(&self, span: &Span) -> anyhow::Result<Report> {
        let window = Window {
            from: span.from.as_deref().map(time).transpose()?,
            to: span.to.as_deref().map(time).transpose()?,
            as_of: span.as_of.as_deref().map(time).transpose()?,
            // An archive is judged as of the time that the auditor gives, a living trail as of now.
            now: (span.as_of.is_none() && span.to.is_none()).then(now),
        };
        let mut progress = ProgressLine { shown: std::io::stderr().is_terminal() };
        let report = self.runtime.block_on(verify(&self.store, &self.keys, window, &mut progress))?;
        progress.clear();
        Ok(report)
    }
}

pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))
}

/// The verdicts and all findings, as `-o json` prints them.
pub(crate) fn verdicts(report: &Report) -> serde_json::Value {
    use edgetrail_verify::report::Verdict;
    serde_json::json!({
        "integrity": report.holds(Verdict::Integrity),
        "completeness": report.holds(Verdict::Completeness),
        "times": report.holds(Verdict::Time),
        "report": report,
    })
}

/// Prints a page, or its JSON.
pub(crate) fn print(output: Output, page: impl std::fmt::Display, json: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Text => write!(out, "{page}")?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, json)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

async fn fetch(url: &str, ca: Option<&[u8]>) -> anyhow::Result<Vec<u8>> {
    let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    if let Some(ca) = ca {
        for root in reqwest::Certificate::from_pem_bundle(ca).context("the file given with --ca is of no use")? {
            client = client.add_root_certificate(root);
        }
    }
    let unreachable = || format!("{url} could not be fetched: is it the collector's API, and --ca its CA?");
    let mut response =
        client.build()?.get(url).send().await.and_then(reqwest::Response::error_for_status).with_context(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.with_context(unreachable)? {
        if body.len() + chunk.len() > KEYS_BYTES_MAX {
            bail!("{url} answers with more than {KEYS_BYTES_MAX} bytes: that is no list of keys");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn now() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

fn time(text: &str) -> anyhow::Result<u64> {
    parse_time(text).with_context(|| format!("`{text}` is no time: write it like 2026-01-31T09:00:00Z"))
}

impl Progress for ProgressLine {
    fn digest(&mut self, done: usize, of: usize) {
        if self.shown {
            eprint!("\rdigest {done} of {of}");
        }
    }
}

impl ProgressLine {
    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}
