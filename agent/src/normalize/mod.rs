//! Makes records of observations.
//!
//! The human first: a record's actor is the login user, whatever it runs as. Never a guess: what is not known is
//! `Unknown` or absent. Never nothing: what can't be understood becomes an `UnparsedObservation`.

pub mod act;

mod activity;

pub mod audit;

pub mod journal;

pub mod lines;

pub mod posted;

pub mod kubernetes;

pub mod otlp;

mod sudo;

mod http;

mod proxy;

pub mod actor;

pub mod report;

pub mod names;

#[cfg(test)]
mod events_page;

use std::sync::Arc;

use edgetrail_proto::chain::event_id;
use edgetrail_proto::identity::{AccountId, AgentId, Region};
use edgetrail_proto::limits::RECORD_BYTES_FOREIGN_MAX;
use edgetrail_proto::record::Record;
use jiff::tz::TimeZone;
use serde_json::Value;
use uuid::Uuid;

use crate::clock::unix_ns;
use crate::observation::{Cursor, Observation, Payload, SourceName, Unparsed};
use crate::sources::file::syslog::SyslogLine;
use crate::sources::file::{Format, Line};
use crate::sources::lines::cri::joined;
use crate::sources::lines::envelope::Peeled;
use crate::sources::lines::{Mapping, shape};
use crate::sources::otlp::Log;
use crate::sources::sudo::log;

/// The host that records are made on, fixed for the life of the stream.
#[derive(Clone, Debug)]
pub struct Host {
    pub agent: AgentId,
    /// The host's name, as the stream is bound to it.
    pub name: String,
    pub account: AccountId,
    pub region: Region,
    /// ARN partition, `aws` unless configured.
    pub partition: String,
    /// Whether `additionalEventData.edgetrail.raw` holds the original observation.
    pub keep_raw: bool,
}

/// A record on its way to the buffer.
#[derive(Clone, Debug)]
pub struct Draft {
    pub record: Made,
    /// The act it reports, where two sources may report the same one.
    pub act: Option<Act>,
}

#[derive(Clone, Debug)]
pub enum Made {
    /// Made here: may still be redacted and cut.
    Record(Box<Record>),
    /// Made here and already written, within its limits: compact JSON that redaction rewrites only where it finds a secret.
    Written(Vec<u8>),
    /// Made elsewhere in CloudTrail's format: keeps its own bytes and identity.
    Foreign(Vec<u8>),
}

/// What tells that two observations are of one act: same class, same key, close in time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Act {
    /// `sudo-command`, `login`, `create-user` …
    pub class: &'static str,
    pub key: String,
    /// Unix nanoseconds.
    pub time: u64,
}

/// All normalizers with the state they carry between observations.
#[derive(Debug)]
pub struct Normalizer {
    host: Host,
    audit: audit::Decoder,
    names: names::Names,
    writer: posted::Writer,
    kubernetes: kubernetes::Decoder,
    /// The host's, for times that name none.
    zone: TimeZone,
    /// How requests become records that gateways send as logs.
    gateway: Option<Arc<Mapping>>,
    /// Requests of Vault's whose responses did not come yet.
    requests: lines::vault::Requests,
    /// Commands of sudo's log whose ends did not come yet.
    commands: log::Commands,
    /// What programs' messages told before.
    journal: journal::Memory,
    repeats: journal::Repeats,
}

impl Normalizer {
    pub fn new(host: Host, audit: audit::Decoder, names: names::Names) -> Self {
        let writer = posted::Writer::new(&host);
        let zone = TimeZone::system();
        let (kubernetes, requests) = (kubernetes::Decoder::default(), lines::vault::Requests::default());
        let gateway = Mapping::open("access", shape::AccessShape::default()).ok();
        let (commands, journal, repeats) = (log::Commands::default(), journal::Memory::default(), journal::Repeats::default());
        Self { host, audit, names, writer, kubernetes, zone, gateway, requests, commands, journal, repeats }
    }

    /// With the login sessions that the journal told of before.
    #[must_use]
    pub fn with_journal(mut self, sessions: journal::sessions::Sessions) -> Self {
        self.journal.sessions = sessions;
        self
    }

    /// With what was carried of the Kubernetes audit before.
    #[must_use]
    pub fn with_kubernetes(self, kubernetes: kubernetes::Decoder) -> Self {
        Self { kubernetes, ..self }
    }

    /// With Vault's requests that waited for their responses before.
    #[must_use]
    pub fn with_requests(self, requests: lines::vault::Requests) -> Self {
        Self { requests, ..self }
    }

    /// With what the section `[sources.otlp.access]` says.
    #[must_use]
    pub fn with_gateway(self, gateway: Arc<Mapping>) -> Self {
        Self { gateway: Some(gateway), ..self }
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The records that an observation makes; none when it only adds to state (a login's address, half of an event).
    pub fn normalize(&mut self, observation: &Observation) -> Vec<Draft> {
        match &observation.payload {
            Payload::Audit(event) => {
                let id = self.event_id(observation, 0);
                self.audit.decode(&self.host, &mut self.names, event, id).into_iter().collect()
            }
            Payload::Journal(entry) => {
                let event_id = self.event_id(observation, 0);
                let message = journal::Message { carrier: journal::Carrier::Journal, event_id, time: observation.time, entry };
                let draft = journal::draft(&self.host, &mut self.names, &mut self.journal, &message);
                if let Some(draft) = &draft {
                    self.share_login(draft);
                }
                draft.into_iter().collect()
            }
            Payload::Post(post) => {
                let origin = posted::Origin::Post(post);
                vec![self.posted(observation, &post.event, &origin)]
            }
            Payload::AuditEvent(event) => {
                let id = self.event_id(observation, 0);
                vec![match activity::record(&self.host, id, observation.time, event) {
                    Ok(record) => Draft { record: Made::Foreign(record), act: None },
                    Err(reason) => self.unparsed(observation, 0, &Unparsed { bytes: event.event_data.to_vec(), reason }),
                }]
            }
            Payload::Kubernetes(event) => self.kubernetes(observation, &event.bytes),
            Payload::Sudo(event) => {
                let id = self.event_id(observation, 0);
                vec![sudo::draft(&self.host, &mut self.names, observation.source, id, observation.time, event)]
            }
            Payload::Exchange(exchange) => {
                let id = self.event_id(observation, 0);
                vec![Draft::of(proxy::record(&self.host, id, exchange))]
            }
            Payload::Log(log) => vec![self.log(observation, log)],
            Payload::Line(line) => self.line(observation, line),
            Payload::Loss(loss) => {
                let id = self.event_id(observation, 0);
                let record = report::gap(&self.host, Some(observation.source), id, observation.time, loss);
                vec![Draft::of(record)]
            }
            Payload::Unparsed(unparsed) => vec![self.unparsed(observation, 0, unparsed)],
            Payload::Nothing => Vec::new(),
        }
    }

    /// What the normalizers carry between observations, where it changed: to be committed with the records made since.
    pub fn take_cursors(&mut self) -> Vec<(SourceName, Cursor)> {
        let audit = self.audit.take_cursor().map(|cursor| (SourceName::Audit, cursor));
        let journal = self.journal.sessions.take_cursor().map(|cursor| (SourceName::Journal, cursor));
        audit.into_iter().chain(journal).collect()
    }

    /// What was carried for the sake of something that did not come, as records.
    pub fn due(&mut self, now: u64) -> Vec<Draft> {
        let mut drafts = self.kubernetes.due(&self.host, now);
        let requests = self.requests.due(now);
        drafts.extend(self.unanswered(requests));
        drafts
    }

    /// The same of everything that is carried: nothing more will come.
    pub fn drain(&mut self) -> Vec<Draft> {
        let mut drafts = self.kubernetes.drain(&self.host, unix_ns());
        let requests = self.requests.drain();
        drafts.extend(self.unanswered(requests));
        drafts
    }

    /// When [`Normalizer::due`] has something next, Unix nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        [self.kubernetes.deadline(), self.requests.deadline()].into_iter().flatten().min()
    }

    /// What stands for observations that made no record yet: to be committed before their callers are answered.
    pub fn take_state(&mut self) -> Vec<(SourceName, Cursor)> {
        let kubernetes = self.kubernetes.take_cursors().into_iter().map(|cursor| (SourceName::Kubernetes, cursor));
        let requests = self.requests.take_cursor().map(|cursor| (SourceName::Vault, cursor));
        kubernetes.chain(requests).collect()
    }

    fn kubernetes(&mut self, observation: &Observation, event: &[u8]) -> Vec<Draft> {
        match self.kubernetes.decode(&self.host, event, observation.time, unix_ns()) {
            Ok(drafts) => drafts,
            Err(reason) => vec![self.unparsed(observation, 0, &Unparsed { bytes: event.to_vec(), reason })],
        }
    }

    fn log(&self, observation: &Observation, log: &Log) -> Draft {
        match log.entry() {
            Ok(entry) => {
                let id = self.event_id(observation, 0);
                Draft::of(otlp::record(&self.host, id, observation.time, &entry, log, self.gateway.as_deref()))
            }
            Err(reason) => self.unparsed(observation, 0, &Unparsed { bytes: log.record.to_vec(), reason }),
        }
    }

    fn unanswered(&self, waiting: Vec<lines::vault::Waiting>) -> Vec<Draft> {
        let record = |waiting: lines::vault::Waiting| {
            let mapping = waiting.mapping()?;
            let event_id = event_id(self.host.agent, waiting.source.as_str(), &waiting.position, 0);
            let place = lines::Place {
                host: &self.host,
                source: waiting.source,
                path: waiting.path.as_deref(),
                event_id,
                time: waiting.time,
            };
            lines::record(&place, &mapping, waiting.line.as_bytes()).ok().map(Draft::of)
        };
        waiting.into_iter().filter_map(record).collect()
    }

    /// A line with a mapping: usually one record, none for a request that waits for its response.
    fn mapped(&mut self, observation: &Observation, mapping: &Arc<Mapping>, path: Option<&str>, bytes: &[u8]) -> Vec<Draft> {
        let Observation { source, position, time, .. } = observation;
        let part =
            (mapping.format == shape::Format::Vault).then(|| self.requests.offer(*source, position, path, *time, mapping, bytes));
        let waits = matches!(part, Some(lines::vault::Part::Request));
        let overdue = self.requests.due(*time);
        let mut drafts = self.unanswered(overdue);
        // What the catalogue of the host's own programs knows is that act, whoever carried the message.
        let known = if mapping.format == shape::Format::Syslog { self.told(observation, path, bytes) } else { None };
        if let Some(draft) = known {
            drafts.push(draft);
        } else if !waits {
            let event_id = self.event_id(observation, 0);
            let place = lines::Place { host: &self.host, source: *source, path, event_id, time: *time };
            drafts.push(match lines::record(&place, mapping, bytes) {
                Ok(mut record) => {
                    if let Some(lines::vault::Part::Late(told)) = &part {
                        relate(&mut record, event_id_of(&self.host, told));
                    }
                    Draft::of(record)
                }
                Err(reason) => self.unparsed(observation, 0, &Unparsed { bytes: bytes.to_vec(), reason }),
            });
        }
        drafts
    }

    fn posted(&mut self, observation: &Observation, bytes: &[u8], origin: &posted::Origin<'_>) -> Draft {
        let id = self.event_id(observation, 0);
        match self.writer.write(&self.host, &mut self.names, bytes, origin, id, observation.time) {
            Ok(record) => Draft { record, act: None },
            Err(error) => {
                let unparsed = Unparsed { bytes: bytes.to_vec(), reason: error.to_string() };
                self.unparsed(observation, 0, &unparsed)
            }
        }
    }

    fn line(&mut self, observation: &Observation, line: &Line) -> Vec<Draft> {
        match &line.format {
            Format::Mapped(mapping) if mapping.format != shape::Format::Postgresql && line.bytes.contains(&b'\n') => {
                self.cut(observation, mapping, line)
            }
            Format::Mapped(mapping) => self.mapped(observation, mapping, Some(&line.path), &line.bytes),
            Format::Events => vec![self.posted(observation, &line.bytes, &posted::Origin::File(&line.path))],
            // The audit log on standard output, `--audit-log-path=-`: its container's runtime puts its own around it.
            Format::Kubernetes => {
                let whole = if line.bytes.contains(&b'\n') { joined(&line.bytes) } else { vec![line.bytes.to_vec()] };
                whole.iter().flat_map(|line| self.kubernetes(observation, &peeled(line, observation.time))).collect()
            }
            Format::Syslog => self.syslog(observation, line).into_iter().collect(),
            Format::Sudo => self.sudo(observation, &line.bytes).into_iter().collect(),
            Format::CloudTrail => match posted::foreign(&line.bytes) {
                Ok(records) => (0u32..).zip(records).map(|(index, record)| self.foreign(observation, index, record)).collect(),
                Err(error) => {
                    let unparsed = Unparsed { bytes: line.bytes.to_vec(), reason: error.to_string() };
                    vec![self.unparsed(observation, 0, &unparsed)]
                }
            },
        }
    }

    /// Lines of a container that its runtime has cut and that were read together.
    fn cut(&mut self, observation: &Observation, mapping: &Arc<Mapping>, line: &Line) -> Vec<Draft> {
        let Observation { source, position, time, .. } = observation;
        let of_line = |(index, bytes): (usize, Vec<u8>)| {
            // The first has the entry's own position: as one that was not cut.
            let position = if index == 0 { position.clone() } else { format!("{position}/{index}") };
            let payload = Payload::Nothing;
            let part = Observation { source: *source, position, time: *time, payload, cursor: None, answer: None };
            self.mapped(&part, mapping, Some(&line.path), &bytes)
        };
        joined(&line.bytes).into_iter().enumerate().flat_map(of_line).collect()
    }

    /// A login that a program's message told: the kernel's session of it learns how the user proved who it is.
    fn share_login(&mut self, draft: &Draft) {
        let Made::Record(record) = &draft.record else { return };
        if record.event_name != "Login" || record.error_code.is_some() {
            return;
        }
        let parameter = |key: &str| record.request_parameters.as_ref().and_then(|all| all.get(key)?.as_str());
        let (Some(user), Some(method), Some(act)) = (parameter("user"), parameter("authenticationMethod"), &draft.act) else {
            return;
        };
        let uid = self.names.uid(user);
        self.audit.logged_in(user, uid, &record.source_ip_address, method, act.time / 1_000_000_000);
    }

    /// The act that a message of syslog tells under its program's name. `path`: its file, or the peer that sent it.
    fn told(&mut self, observation: &Observation, path: Option<&str>, bytes: &[u8]) -> Option<Draft> {
        let text = String::from_utf8_lossy(bytes);
        let line = SyslogLine::parse(&text, observation.time, &self.zone).filter(|line| !line.program.is_empty())?;
        let time = line.time.unwrap_or(observation.time);
        let entry = self.repeats.entry(path.unwrap_or_default(), &line)?;
        self.carried(observation, path, time, &entry, bytes)
    }

    /// A line of syslog: the act that its program tells, if it is one.
    fn syslog(&mut self, observation: &Observation, line: &Line) -> Option<Draft> {
        let Line { bytes, path, .. } = line;
        let text = String::from_utf8_lossy(bytes);
        let parsed = SyslogLine::parse(&text, observation.time, &self.zone)?;
        if !parsed.program.is_empty() {
            return self.told(observation, Some(path), bytes);
        }
        // Without a header it is what a server writes to a file of its own.
        let time = parsed.time.unwrap_or(observation.time);
        for program in ["sshd", "dropbear"] {
            let said = self.carried(observation, Some(path), time, &parsed.said_by(program).entry(), bytes);
            if said.is_some() {
                return said;
            }
        }
        let reason = "the line has no header of syslog".to_owned();
        Some(self.unparsed(observation, 0, &Unparsed { bytes: bytes.to_vec(), reason }))
    }

    /// The record of what a message of syslog says, with where it came from.
    fn carried(
        &mut self,
        observation: &Observation,
        path: Option<&str>,
        time: u64,
        entry: &crate::sources::journal::Entry,
        bytes: &[u8],
    ) -> Option<Draft> {
        let (source, event_id) = (observation.source, self.event_id(observation, 0));
        let message = journal::Message { carrier: journal::Carrier::of(source, path), event_id, time, entry };
        let mut draft = journal::carried(&self.host, &mut self.names, &mut self.journal, &message)?;
        if let Made::Record(record) = &mut draft.record {
            lines::Place { host: &self.host, source, path, event_id, time }.sign(record, bytes);
            // It may have grown by the line itself.
            record.fit();
        }
        Some(draft)
    }

    /// An entry of sudo's log; none where only the log's end was read.
    fn sudo(&mut self, observation: &Observation, bytes: &[u8]) -> Option<Draft> {
        match log::entry(bytes) {
            Ok(None) => None,
            Ok(Some(entry)) => {
                let event = self.commands.event(entry);
                let time = if event.time == 0 { observation.time } else { event.time };
                let id = self.event_id(observation, 0);
                Some(sudo::draft(&self.host, &mut self.names, observation.source, id, time, &event))
            }
            Err(reason) => Some(self.unparsed(observation, 0, &Unparsed { bytes: bytes.to_vec(), reason })),
        }
    }

    fn foreign(&self, observation: &Observation, index: u32, record: &[u8]) -> Draft {
        if record.len() > RECORD_BYTES_FOREIGN_MAX {
            let reason = format!("record {index} has {} bytes, more than {RECORD_BYTES_FOREIGN_MAX}", record.len());
            return self.unparsed(observation, index, &Unparsed { bytes: record.to_vec(), reason });
        }
        Draft { record: Made::Foreign(record.to_vec()), act: None }
    }

    fn unparsed(&self, observation: &Observation, index: u32, unparsed: &Unparsed) -> Draft {
        let id = self.event_id(observation, index);
        Draft::of(report::unparsed(&self.host, observation.source, id, observation.time, unparsed))
    }

    /// docs/protocol.md §2: from agent, source and position. `index` numbers the records of one observation.
    fn event_id(&self, observation: &Observation, index: u32) -> Uuid {
        event_id(self.host.agent, observation.source.as_str(), &observation.position, index)
    }
}

impl Draft {
    /// A record whose act no other source reports.
    pub fn of(record: Record) -> Self {
        Self { record: Made::Record(Box::new(record)), act: None }
    }
}

/// The eventID of a request's record that was made before its response came.
fn event_id_of(host: &Host, told: &lines::vault::Told) -> Uuid {
    event_id(host.agent, told.source.as_str(), &told.position, 0)
}

/// Names the record of the same act that there is already.
fn relate(record: &mut Record, event_id: Uuid) {
    let mark = record.additional_event_data.as_mut().and_then(|data| data.get_mut("edgetrail")).and_then(Value::as_object_mut);
    if let Some(mark) = mark {
        mark.insert("relatedEventID".to_owned(), event_id.to_string().into());
    }
}

/// A line without what a container's runtime puts around it.
fn peeled(line: &[u8], now: u64) -> Vec<u8> {
    match std::str::from_utf8(line) {
        Ok(text) => Peeled::of(text, now).line.into_owned().into_bytes(),
        Err(_) => line.to_vec(),
    }
}

#[cfg(test)]
impl Host {
    /// The host of the tests: web-1 in account 111122223333, region dc-local-1.
    pub(crate) fn for_tests() -> Self {
        Self {
            agent: AgentId::from_bytes([7; 16]),
            name: "web-1".to_owned(),
            account: "111122223333".parse().unwrap(),
            region: "dc-local-1".parse().unwrap(),
            partition: "aws".to_owned(),
            keep_raw: false,
        }
    }
}
