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
  edgetrail-verify trail --s3 s3://audit-bucket --keys keys.json --to 2026-01-01T00:00:00Z
  curl --cacert ca.pem https://collector:8443/v1/keys -o keys.json      # the keys; or:
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
    /// The digests' public keys: what `aws cloudtrail list-public-keys` prints, or the collector's /v1/keys
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The collector's CA certificates, PEM: agents' certificates must lead to one of them
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Judge only digests that end after this time
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Judge only digests that end at or before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Fail unless digests reach this time: a trail whose tail was cut off looks whole otherwise
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
    let mut keys = Keys::parse(&read(&args.keys)?).with_context(|| format!("{} is of no use", args.keys.display()))?;
    if let Some(path) = &args.ca {
        keys.add_roots_pem(&read(path)?).with_context(|| format!("{} is of no use", path.display()))?;
    }
    let window = Window {
        from: args.from.as_deref().map(time).transpose()?,
        to: args.to.as_deref().map(time).transpose()?,
        as_of: args.as_of.as_deref().map(time).transpose()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut progress = ProgressLine { shown: std::io::stderr().is_terminal() };
    let report = runtime.block_on(verify(&store, &keys, window, &mut progress))?;
    progress.clear();
    print(&report, args.output)?;
    let good = report.holds(Verdict::Integrity) && report.holds(Verdict::Completeness);
    Ok(if good { EXIT_HOLDS } else { EXIT_FINDINGS })
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
