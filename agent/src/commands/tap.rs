//! `tap`: watch records live.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::Context as _;
use edgetrail_proto::facets::Facets;

use crate::config::Config;
use crate::control::Request;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetrail-agent tap\n  edgetrail-agent tap --name RunCommand --user alice\n  edgetrail-agent tap --source sudo.linux --errors -n 5"
)]
pub(super) struct Arguments {
    /// Only this eventName
    #[arg(long)]
    name: Option<String>,
    /// Only this eventSource
    #[arg(long)]
    source: Option<String>,
    /// Only this user
    #[arg(long)]
    user: Option<String>,
    /// Only what failed
    #[arg(long)]
    errors: bool,
    /// Stop after so many
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
}

pub(super) fn execute(arguments: &Arguments, config: &Config) -> anyhow::Result<ExitCode> {
    let mut stream = UnixStream::connect(&config.control_socket).with_context(|| {
        format!(
            "no agent listens on {}: start one with `edgetrail-agent run`, or run as its user",
            config.control_socket.display()
        )
    })?;
    writeln!(stream, "{}", serde_json::to_string(&Request::Tap)?)?;
    let mut out = std::io::stdout().lock();
    let mut left = arguments.count.unwrap_or(u64::MAX);
    for line in BufReader::new(stream).split(b'\n') {
        let line = line.context("the agent went away")?;
        if !arguments.wants(&line) {
            continue;
        }
        let written = out.write_all(&line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
        if written.is_err() {
            // Whoever read this has seen enough.
            return Ok(ExitCode::SUCCESS);
        }
        left -= 1;
        if left == 0 {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn wants(&self, record: &[u8]) -> bool {
        let Self { name, source, user, errors, .. } = self;
        if name.is_none() && source.is_none() && user.is_none() && !errors {
            return true;
        }
        let Ok(facets) = Facets::parse(record) else { return false };
        name.as_ref().is_none_or(|name| *name == facets.name)
            && source.as_ref().is_none_or(|source| *source == facets.source)
            && user.as_ref().is_none_or(|user| facets.user.as_ref() == Some(user))
            && (!errors || facets.error.is_some())
    }
}
