//! `edgetrail-verify`: the command line.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use edgetrail_proto::record::parse_time;
use edgetrail_verify::keys::Keys;
use edgetrail_verify::report::{Report, Verdict};
use edgetrail_verify::store::Store;
use edgetrail_verify::trail::{Progress, Window, verify};

/// Both verdicts hold.
const EXIT_HOLDS: u8 = 0;
/// Something was altered or is missing.
const EXIT_FINDINGS: u8 = 1;
/// The trail or the keys could not be read: nothing was verified.
const EXIT_UNREADABLE: u8 = 2;

/// Verifies an Edgetrail trail offline: that nothing was altered, and that nothing is missing.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A whole trail, from a directory or from S3
    #[command(after_help = TRAIL_HELP)]
    Trail(TrailArgs),
    /// Shell completion, on standard output
    #[command(hide = true)]
    Completion { shell: clap_complete::Shell },
}

const TRAIL_HELP: &str = "\
Examples:
  edgetrail-verify trail --dir /var/lib/edgetrail-collector/trail --keys keys.json --ca ca.pem
  edgetrail-verify trail --dir trail --keys https://collector:8443/v1/keys --ca ca.pem --as-of 2026-01-31T09:00:00Z
  edgetrail-verify trail --s3 s3://audit-bucket --keys keys.json --to 2026-01-01T00:00:00Z
  aws cloudtrail list-public-keys --start-time 2025-01-01 > keys.json

Exit status: 0 both verdicts hold, 1 something was altered or is missing, 2 the trail could not be read.";

#[derive(Args)]
struct TrailArgs {
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
    /// Judge only digests that end after this time
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Judge only digests that end at or before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Fail unless digests reach this time; without --as-of and --to, unless they reach the present, but for one window and
    /// five minutes: a trail whose tail was cut off looks whole otherwise
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// One line on a terminal, rewritten; nothing elsewhere.
struct ProgressLine {
    shown: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("edgetrail-verify: {error:#}");
            ExitCode::from(EXIT_UNREADABLE)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Completion { shell } => {
            use clap::CommandFactory;
            clap_complete::generate(shell, &mut Cli::command(), "edgetrail-verify", &mut std::io::stdout());
            Ok(EXIT_HOLDS)
        }
        Command::Trail(args) => trail(&args),
    }
}

fn trail(args: &TrailArgs) -> anyhow::Result<u8> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("another TLS provider is already installed: this build has two");
    }
    let store = match (&args.dir, &args.s3) {
        (Some(dir), _) => Store::directory(dir)?,
        (None, Some(url)) => Store::s3(url)?,
        (None, None) => bail!("give --dir or --s3"),
    };
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("{} can't be read", path.display()));
    let ca = args.ca.as_ref().map(read).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keys = match args.keys.starts_with("https://") {
        true => runtime.block_on(fetch(&args.keys, ca.as_deref()))?,
        false => read(&PathBuf::from(&args.keys))?,
    };
    let mut keys = Keys::parse(&keys).with_context(|| format!("{} is of no use", args.keys))?;
    if let Some(ca) = &ca {
        // The auditor's own roots: those that came along with the keys are not asked.
        keys.roots.clear();
        keys.add_roots_pem(ca).context("the file given with --ca is of no use")?;
    }
    let window = Window {
        from: args.from.as_deref().map(time).transpose()?,
        to: args.to.as_deref().map(time).transpose()?,
        as_of: args.as_of.as_deref().map(time).transpose()?,
        // An archive is judged as of the time that the auditor gives, a living trail as of now.
        now: (args.as_of.is_none() && args.to.is_none()).then(now),
    };
    let mut progress = ProgressLine { shown: std::io::stderr().is_terminal() };
    let report = runtime.block_on(verify(&store, &keys, window, &mut progress))?;
    progress.clear();
    print(&report, args.output)?;
    let good = report.holds(Verdict::Integrity) && report.holds(Verdict::Completeness);
    Ok(if good { EXIT_HOLDS } else { EXIT_FINDINGS })
}

/// Longest list of keys that is fetched, in bytes: a key a day and region for ten years, 600 bytes each, and room.
const KEYS_BYTES_MAX: usize = 64 * 1024 * 1024;

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

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Text => write!(out, "{report}")?,
        Output::Json => {
            let verdicts = serde_json::json!({
                "integrity": report.holds(Verdict::Integrity),
                "completeness": report.holds(Verdict::Completeness),
                "report": report,
            });
            serde_json::to_writer_pretty(&mut out, &verdicts)?;
            writeln!(out)?;
        }
    }
    Ok(())
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
