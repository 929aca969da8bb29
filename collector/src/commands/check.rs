//! `check`: everything that would keep the collector from running well, found at once.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use edgetrail_disk::Medium;
use edgetrail_proto::record::format_time;
use serde_json::json;

use super::{Of, Output};
use crate::config::Config;
use crate::relay::{Owed, RelayPapers, owed};
use crate::sinks::Sink;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  edgetrail-collector check
  edgetrail-collector check --config ./collector.toml -o json

Exit codes: 0 all is well, 1 something would keep the collector from running.")]
pub(super) struct Arguments {
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How one thing looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Error,
}

struct Finding {
    verdict: Verdict,
    what: &'static str,
    text: String,
}

pub(super) fn run(of: &Of, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let findings = match Config::load(of.config.as_deref()) {
        Ok(config) => check(&config)?,
        Err(error) => {
            vec![Finding { verdict: Verdict::Error, what: "configuration", text: format!("{:#}", anyhow::Error::from(error)) }]
        }
    };
    for finding in &findings {
        let Finding { verdict, what, text } = finding;
        match arguments.output {
            Output::Text => println!("{:<8} {what}: {text}", verdict.word()),
            Output::Json => println!("{}", json!({ "verdict": verdict.word(), "what": what, "text": text })),
        }
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Error);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let ok = |what, text: String| Finding { verdict: Verdict::Ok, what, text };
    let error = |what, text: String| Finding { verdict: Verdict::Error, what, text };
    let mut findings = vec![ok("configuration", format!("{} in {}", config.home.account, config.home.region))];
    findings.extend(config.warnings.iter().map(|text| Finding {
        verdict: Verdict::Warning,
        what: "configuration",
        text: text.clone(),
    }));

    let dir = &config.state_dir;
    findings.push(match dir.metadata() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => ok("state", format!("{} will be created", dir.display())),
        Err(cause) => error("state", format!("{}: {cause}", dir.display())),
        Ok(_) => match rustix::fs::access(dir, rustix::fs::Access::WRITE_OK) {
            Ok(()) => ok("state", dir.display().to_string()),
            Err(cause) => {
                error("state", format!("{} can't be written ({cause}): run this as the collector's user", dir.display()))
            }
        },
    });
    findings.push(port("ingest", config.ingest.listen));
    findings.push(port("api", config.api.listen));

    if config.relay.is_some() {
        findings.push(match RelayPapers::load(dir) {
            Ok(papers) => ok("relay", format!("{} of {}", papers.identity.name, papers.home)),
            Err(cause) => error("relay", format!("{:#}", anyhow::Error::from(cause))),
        });
        findings.push(match owed(&Medium::real(), dir) {
            Ok(owed) => owing(&owed),
            Err(cause) => error("home", format!("{:#}", anyhow::Error::from(cause))),
        });
        // It delivers nothing.
        return Ok(findings);
    }
    let probed = super::serve::runtime()?.block_on(async {
        let sink = Sink::open(&config.trail.sink, &config.trail.bucket, config.trail.kms_key.as_deref())?;
        sink.probe(config.trail.prefix.as_deref(), config.home.account.as_str()).await
    });
    findings.push(match probed {
        Ok(_) => ok("trail", format!("bucket `{}` takes objects", config.trail.bucket)),
        Err(cause) => error("trail", format!("{:#}", anyhow::Error::from(cause))),
    });
    Ok(findings)
}

/// What a relay has yet to bring home.
fn owing(owed: &Owed) -> Finding {
    let Owed { connected_ns, last_receipt_ns, agents, .. } = owed;
    let batches: u64 = agents.values().sum();
    let heard = match connected_ns {
        Some(since) => format!("heard since {}", format_time(*since)),
        None => "not heard now".to_owned(),
    };
    let receipt = last_receipt_ns.map_or_else(|| "none yet".to_owned(), format_time);
    let verdict = if connected_ns.is_none() && batches > 0 { Verdict::Warning } else { Verdict::Ok };
    let text = format!("{heard}, last receipt {receipt}, owing {batches} batches of {} agents", agents.len());
    Finding { verdict, what: "home", text }
}

/// A port that is in use may be the running collector's own.
fn port(what: &'static str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding { verdict: Verdict::Ok, what, text: format!("{address} is free") },
        Err(cause) => {
            let in_use = cause.kind() == std::io::ErrorKind::AddrInUse;
            let verdict = if in_use { Verdict::Warning } else { Verdict::Error };
            let text = if in_use {
                format!("{address} is in use: by this collector, or by another program")
            } else {
                format!("{address}: {cause}")
            };
            Finding { verdict, what, text }
        }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
