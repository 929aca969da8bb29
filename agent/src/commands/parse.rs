//! `parse`: every record that some input would make, as JSON lines, whatever selection says, with its raw.
//!
//! Touches nothing: no state, no socket, no collector. Without an identity it makes records of a made-up account.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use clap::ValueEnum;
use edgetrail_proto::identity::AgentId;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::unix_ns;
use crate::config::Config;
use crate::enroll::Enrollment;
use crate::normalize;
use crate::normalize::audit::Decoder;
use crate::normalize::names::Names;
use crate::normalize::{Draft, Host, Made, Normalizer};
use crate::observation::{Observation, Payload, SourceName, Unparsed};
use crate::redact::Redactor;
use crate::sources::api::{Peer, Post, Sender};
use crate::sources::audit;
use crate::sources::cloudtrail::document;
use crate::sources::file::{Format, Line};
use crate::sources::journal::Entry;
use crate::sources::lines::Mapping;
use crate::sources::lines::envelope::Peeled;
use crate::sources::lines::framing::Framing;
use crate::sources::lines::shape::AccessShape;
use crate::sources::{kubernetes, otlp};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  edgetrail-agent parse --source audit /var/log/audit/audit.log\n  journalctl -o json | edgetrail-agent parse --source journal -\n  edgetrail-agent parse --source auth /var/log/auth.log\n  edgetrail-agent parse --source access /var/log/nginx/access.log\n  edgetrail-agent parse --source file --mapping gitlab audit_json.log\n  echo '{\"eventSource\":\"app.example\",\"eventName\":\"DeleteThing\"}' | edgetrail-agent parse --source api -"
)]
pub(super) struct Arguments {
    /// What the input is
    #[arg(long, value_name = "S")]
    source: Source,
    /// How a line becomes a record: the name of a shipped mapping, or the path of one
    #[arg(long, value_name = "M")]
    mapping: Option<String>,
    /// Name users by this host's files; without it only of a log in /var/log, which is its own
    #[arg(long)]
    resolve: bool,
    /// The input; - is standard input
    #[arg(value_name = "FILE")]
    input: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// audit.log's lines
    Audit,
    /// `journalctl -o json`
    Journal,
    /// Events, one JSON object a line; or lines that --mapping says
    File,
    /// Access logs of web servers and API gateways
    Access,
    /// Entries of Vault's or OpenBao's audit device
    Vault,
    /// PostgreSQL's csvlog or jsonlog
    Postgresql,
    /// Syslog messages, one a line
    Syslog,
    /// Events of Docker's or Podman's API, one a line
    Docker,
    /// Records in CloudTrail's format: log files, plain or gzip, or one a line
    Cloudtrail,
    /// Lines of syslog: auth.log, secure, messages
    #[value(alias = "auth.log", alias = "secure")]
    Auth,
    /// sudo's log, log_format=json
    Sudo,
    /// Bodies of POST /v1/events, one JSON object a line
    Api,
    /// Lines of a Kubernetes audit log, or EventLists
    Kubernetes,
    /// Requests of OTLP's logs: JSON, one a line or spread over lines; or one in protobuf
    Otlp,
}

/// Most that is read of an input that has no lines, bytes.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What is read and written of a file at once, bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// Longest line, bytes: four of the largest foreign records. A longer one is cut and does not parse.
const LINE_BYTES_MAX: u64 = 4 * edgetrail_proto::limits::RECORD_BYTES_FOREIGN_MAX as u64;

impl Arguments {
    /// What a line is, by its source and mapping.
    fn format(&self) -> anyhow::Result<Format> {
        let shipped = match self.source {
            Source::Access => Some("access"),
            Source::Vault => Some("vault"),
            Source::Postgresql => Some("postgresql"),
            Source::Syslog => Some("syslog"),
            Source::Docker => Some("docker"),
            Source::Cloudtrail => return Ok(Format::CloudTrail),
            Source::Auth => return Ok(Format::Syslog),
            Source::Sudo => return Ok(Format::Sudo),
            _ => None,
        };
        match self.mapping.as_deref().or(shipped) {
            Some(name) => Ok(Format::Mapped(Mapping::open(name, AccessShape::default())?)),
            None => Ok(Format::Events),
        }
    }
}

pub(super) fn execute(arguments: &Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let host = host(&config)?;
    let mut parser = Parser {
        normalizer: Normalizer::new(host, Decoder::default(), names(arguments))
            .with_kubernetes(normalize::kubernetes::Decoder::restore(config.sources.kubernetes.cluster.clone(), &[]))
            .with_gateway(Mapping::open("access", config.sources.otlp.access.clone())?),
        redactor: Redactor::new(config.redact)?,
        out: match arguments.input.as_os_str() == "-" {
            // Whoever pipes a live stream in wants each record at once.
            true => Box::new(std::io::stdout().lock()),
            false => Box::new(std::io::BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock())),
        },
    };
    let read = || format!("{} can't be read", arguments.input.display());
    let input: Box<dyn Read> = match arguments.input.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(&arguments.input).with_context(read)?),
    };
    if arguments.source == Source::Audit {
        // As a whole: an event's records join over lines.
        let mut printed = Ok(());
        audit::log::parse(BufReader::with_capacity(BUFFER_BYTES, input), |observation| {
            if printed.is_ok() {
                printed = parser.print(&observation);
            }
        })
        .with_context(read)?;
        printed?;
        parser.finish()?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.source == Source::Cloudtrail {
        return log_file(input, arguments, &mut parser).with_context(read);
    }
    if arguments.source == Source::Otlp {
        return requests(input, &mut parser).with_context(read);
    }
    let format = arguments.format()?;
    let mut lines = Lines { input: BufReader::new(input), framing: format.framing() };
    let mut number = 0u64;
    while let Some(line) = lines.next().with_context(read)? {
        number += 1;
        if line.is_empty() {
            continue;
        }
        let (source, payload) = match arguments.source {
            // Read above.
            Source::Audit | Source::Otlp | Source::Cloudtrail => continue,
            Source::Journal => match entry(&line) {
                Some(entry) => (SourceName::Journal, Payload::Journal(entry)),
                None => (SourceName::Journal, unparsed(line, number, "not an entry of `journalctl -o json`")),
            },
            Source::File
            | Source::Auth
            | Source::Access
            | Source::Vault
            | Source::Postgresql
            | Source::Sudo
            | Source::Docker
            | Source::Syslog => {
                let path = arguments.input.to_string_lossy().as_ref().into();
                (SourceName::File, Payload::Line(Line { bytes: line.into(), format: format.clone(), path }))
            }
            Source::Kubernetes => {
                let line = Peeled::of(&String::from_utf8_lossy(&line), unix_ns()).line.into_owned().into_bytes();
                for observation in kubernetes_observations(line, number) {
                    parser.print(&observation)?;
                }
                continue;
            }
            Source::Api => {
                (SourceName::Api, Payload::Post(Post { event: Bytes::from(line), sender: Sender::Process(peer()), trace: None }))
            }
        };
        parser.print(&observation(source, format!("line:{number}"), unix_ns(), payload))?;
    }
    parser.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// A log file's records, byte for byte but for line feeds between their tokens.
fn log_file(mut input: Box<dyn Read>, arguments: &Arguments, parser: &mut Parser<'_>) -> anyhow::Result<ExitCode> {
    let mut bytes = Vec::new();
    input.by_ref().take(document::DOCUMENT_BYTES_MAX).read_to_end(&mut bytes)?;
    let path: Arc<str> = arguments.input.to_string_lossy().as_ref().into();
    let expanded = document::expanded(bytes)?;
    let records = match document::records(&expanded) {
        Ok(records) => records,
        // Lines of which some are none: each for itself.
        Err(_) => expanded.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect(),
    };
    for (index, record) in records.into_iter().enumerate() {
        // A line feed in JSON stands between tokens only.
        let bytes: Vec<u8> = record.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
        let line = Line { bytes: bytes.into(), format: Format::CloudTrail, path: Arc::clone(&path) };
        parser.print(&observation(SourceName::CloudTrail, format!("{path}#{index}"), unix_ns(), Payload::Line(line)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose names ids have: another host's log has none but root's.
fn names(arguments: &Arguments) -> Names {
    let is_own = arguments.input.starts_with("/var/log") || arguments.source != Source::Audit;
    match arguments.resolve || is_own {
        true => Names::default(),
        false => Names::of_files("/nonexistent".as_ref(), "/nonexistent".as_ref()),
    }
}

struct Parser<'a> {
    normalizer: Normalizer,
    redactor: Redactor,
    out: Box<dyn Write + 'a>,
}

impl Parser<'_> {
    fn print(&mut self, observation: &Observation) -> anyhow::Result<()> {
        let drafts = self.normalizer.normalize(observation);
        self.write(drafts)
    }

    /// What still waited for more.
    fn finish(&mut self) -> anyhow::Result<()> {
        let drafts = self.normalizer.drain();
        self.write(drafts)?;
        Ok(readable(self.out.flush())?)
    }

    fn write(&mut self, drafts: Vec<Draft>) -> anyhow::Result<()> {
        for draft in drafts {
            let mut made = draft.record;
            self.redactor.redact(&mut made);
            let bytes = match made {
                Made::Record(mut record) => record.to_fitted_json(),
                Made::Written(bytes) | Made::Foreign(bytes) => bytes,
            };
            readable(self.out.write_all(&bytes).and_then(|()| self.out.write_all(b"\n")))?;
        }
        Ok(())
    }
}

/// A reader that has seen enough is no failure.
fn readable(written: std::io::Result<()>) -> std::io::Result<()> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}

struct Lines<R> {
    input: BufReader<R>,
    framing: Framing,
}

impl<R: Read> Lines<R> {
    fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        // An entry of a framing that spans lines goes on until it is whole.
        while (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 && !self.framing.is_whole(&line) {
            if line.len() as u64 > LINE_BYTES_MAX {
                break;
            }
        }
        if line.is_empty() {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

fn observation(source: SourceName, position: String, time: u64, payload: Payload) -> Observation {
    Observation { source, position, time, payload, cursor: None, answer: None }
}

/// Requests of an exporter: JSON values one after another, else one message of protobuf.
fn requests(input: Box<dyn Read>, parser: &mut Parser<'_>) -> anyhow::Result<ExitCode> {
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    let bytes = Bytes::from(bytes);
    let texts: Result<Vec<&RawValue>, _> = serde_json::Deserializer::from_slice(&bytes).into_iter().collect();
    let bodies = match texts {
        Ok(texts) => texts.into_iter().map(|text| (bytes.slice_ref(text.get().as_bytes()), otlp::Encoding::Json)).collect(),
        Err(_) => vec![(bytes.clone(), otlp::Encoding::Protobuf)],
    };
    for (body, encoding) in bodies {
        match otlp::observations(&body, encoding, unix_ns()) {
            Ok(observations) => observations.iter().try_for_each(|observation| parser.print(observation))?,
            Err(error) => {
                let payload = Payload::Unparsed(Unparsed { bytes: body.to_vec(), reason: error.to_string() });
                parser.print(&observation(SourceName::Otlp, "request".to_owned(), unix_ns(), payload))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of an audit log, or a body as the webhook takes it.
fn kubernetes_observations(line: Vec<u8>, number: u64) -> Vec<Observation> {
    let source = SourceName::Kubernetes;
    match kubernetes::events(&line.clone().into()) {
        Ok(events) => events.into_iter().map(|event| kubernetes::observation(event, unix_ns())).collect(),
        Err(error) => {
            let payload = unparsed(line, number, &error.to_string());
            vec![observation(source, format!("line:{number}"), unix_ns(), payload)]
        }
    }
}

fn unparsed(bytes: Vec<u8>, number: u64, reason: &str) -> Payload {
    Payload::Unparsed(Unparsed { bytes, reason: format!("line {number}: {reason}") })
}

/// An entry of `journalctl -o json`: texts, or bytes as a list of numbers, or several values.
fn entry(line: &[u8]) -> Option<Entry> {
    let Value::Object(members) = serde_json::from_slice(line).ok()? else { return None };
    let realtime_us = members.get("__REALTIME_TIMESTAMP")?.as_str()?.parse().ok()?;
    let bytes = |value: &Value| match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(items) => items.iter().map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect(),
        _ => None,
    };
    let first = |value: &Value| bytes(value).or_else(|| value.as_array().and_then(|values| values.first()).and_then(bytes));
    let fields = members
        .iter()
        .filter(|(name, _)| !name.starts_with("__"))
        .filter_map(|(name, value)| Some((name.clone(), first(value)?)))
        .collect();
    Some(Entry { realtime_us, fields })
}

/// This process, as the API would see it.
fn peer() -> Peer {
    let exe = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
    Peer {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        pid: std::process::id(),
        exe,
        login_uid: None,
        session: None,
    }
}

fn host(config: &Config) -> anyhow::Result<Host> {
    // Another user may not read the identity: that is no reason not to parse.
    if let Ok(Some(enrollment)) = Enrollment::load(&config.state_dir) {
        return Ok(Host { keep_raw: true, ..crate::run::host(config, &enrollment) });
    }
    let name = rustix::system::uname().nodename().to_str().unwrap_or("localhost").to_owned();
    Ok(Host {
        agent: AgentId::from_bytes([0; 16]),
        name: config.host.clone().unwrap_or(name),
        account: "000000000000".parse()?,
        region: "local".parse()?,
        partition: "aws".to_owned(),
        keep_raw: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_fields_are_read_in_every_shape() {
        let entry =
            entry(br#"{"__REALTIME_TIMESTAMP":"17","__CURSOR":"c","MESSAGE":[104,105],"_PID":"7","X":["a","b"],"N":null}"#)
                .unwrap();
        assert_eq!(entry.realtime_us, 17);
        assert_eq!(entry.fields.get("MESSAGE").map(Vec::as_slice), Some(&b"hi"[..]));
        assert_eq!(entry.fields.get("X").map(Vec::as_slice), Some(&b"a"[..]));
        assert!(!entry.fields.contains_key("N") && !entry.fields.contains_key("__CURSOR"));
    }
}
