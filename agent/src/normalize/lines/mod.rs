//! Lines of logs as records: what their fields mean is said by a [`Mapping`].
//!
//! Code stands here only for what data can't say: a request's status, Vault's pairs, PostgreSQL's statements. Every line
//! makes exactly one record (or waits for its pair); one that does not read is the caller's to keep as unparsed.

pub(super) mod access;

pub(super) mod identity;

mod mapped;

mod postgresql;

mod syslog;

pub mod vault;

use edgetrail_proto::record::{EventCategory, EventType, Record, format_time};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Host, posted, report};
use crate::observation::SourceName;
use crate::sources::inlet;
use crate::sources::lines::envelope::Peeled;
use crate::sources::lines::shape::Format;
use crate::sources::lines::{Mapping, logfmt, time};

/// eventName of a line that its program meant as no event.
pub const LOG_MESSAGE: &str = "LogMessage";

/// What a line is read with and where it came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) host: &'a Host,
    pub(super) source: SourceName,
    /// The file that it stood in; `None` for a socket's.
    pub(super) path: Option<&'a str>,
    pub(super) event_id: Uuid,
    /// When it was read, Unix nanoseconds.
    pub(super) time: u64,
}

/// The record of a line that needs no other; the reason where it can't be read.
pub(super) fn record(place: &Place<'_>, mapping: &Mapping, line: &[u8]) -> Result<Record, String> {
    // A byte that is no UTF-8 costs itself alone; raw keeps it.
    let text = String::from_utf8_lossy(line);
    let mut record = read(place, mapping, &text)?;
    place.sign(&mut record, line);
    Ok(record)
}

fn read(place: &Place<'_>, mapping: &Mapping, text: &str) -> Result<Record, String> {
    match mapping.format {
        Format::Syslog => Ok(syslog::record(place, mapping, text)),
        Format::Postgresql => postgresql::record(place, mapping, text),
        Format::Vault => {
            let entry = vault::Entry::parse(text).ok_or_else(|| vault::refusal(text))?;
            Ok(vault::record(place, mapping, &entry))
        }
        Format::Access => {
            let peeled = Peeled::of(text, place.time);
            let request = crate::sources::lines::access::parse(&peeled.line, place.time)
                .ok_or("in no form of an access log that is known: name its fields with format \"regex\" or \"json\"")?;
            Ok(access::record(place, mapping, &peeled, request))
        }
        Format::Json | Format::Docker | Format::Logfmt | Format::Regex => {
            let peeled = Peeled::of(text, place.time);
            let fields = match fields(mapping, &peeled.line) {
                // A line of its program's that is none of those which the mapping is for.
                Err(_) if mapping.format == Format::Logfmt && mapping.requires.is_some() => {
                    let parameters = Map::from_iter([("message".to_owned(), Value::from(peeled.line.as_ref()))]);
                    let at = peeled.line.get(..STAMP_BYTES).and_then(|text| time::of_text(text, place.time));
                    return Ok(mapped::message_of(place, mapping, at.or(peeled.time), parameters));
                }
                fields => fields?,
            };
            let mut record = mapped::record(place, mapping, &fields);
            if let Some(time) = peeled.time.filter(|_| mapped::time(place, mapping, &fields).is_none()) {
                record.event_time = format_time(time);
            }
            Ok(record)
        }
    }
}

/// `2023-01-01 12:00:00,123`, with which servers' lines begin.
const STAMP_BYTES: usize = 23;

fn fields(mapping: &Mapping, line: &str) -> Result<Map<String, Value>, String> {
    let mut fields = match (mapping.format, &mapping.pattern) {
        (Format::Regex, pattern) => {
            let captures =
                pattern.as_ref().and_then(|pattern| pattern.captures(line)).ok_or("does not match the mapping's pattern")?;
            named(pattern.as_ref(), &captures)
        }
        (_, Some(pattern)) => match pattern.captures(line) {
            Some(captures) => {
                let mut fields = named(Some(pattern), &captures);
                if let Some(Value::String(rest)) = fields.remove("rest") {
                    fields.extend(members(mapping.format, &rest)?);
                }
                fields
            }
            None => members(mapping.format, line)?,
        },
        (format, None) => members(format, line)?,
    };
    let inner = mapping.unfold.as_ref().and_then(|field| fields.get(field)).and_then(Value::as_str).map(str::to_owned);
    if let Some(inner) = inner
        && let Ok(inner) = members(Format::Logfmt, &inner)
    {
        fields.extend(inner);
    }
    Ok(fields)
}

fn named(pattern: Option<&regex_lite::Regex>, captures: &regex_lite::Captures<'_>) -> Map<String, Value> {
    let names = pattern.into_iter().flat_map(|pattern| pattern.capture_names().flatten());
    names.filter_map(|name| Some((name.to_owned(), Value::from(captures.name(name)?.as_str())))).collect()
}

/// The members of a text; logfmt's programs can be told to write JSON, so either may come.
fn members(format: Format, text: &str) -> Result<Map<String, Value>, String> {
    let is_json = text.trim_start().starts_with('{');
    if format == Format::Logfmt && !is_json {
        return logfmt::parse(text).ok_or_else(|| "not logfmt: no `name=value`".to_owned());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("JSON, but no object".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

impl Place<'_> {
    /// A record of this host with the line's time, or that of reading.
    fn blank(&self, time: Option<u64>) -> Record {
        report::blank(self.host, Some(self.source), self.event_id, time.unwrap_or(self.time))
    }

    /// Where the line stood and, where configured, the line itself.
    pub(super) fn sign(&self, record: &mut Record, line: &[u8]) {
        let mark =
            record.additional_event_data.as_mut().and_then(|data| data.get_mut("edgetrail")).and_then(Value::as_object_mut);
        let Some(mark) = mark else { return };
        if let Some(path) = self.path {
            // A file, or the peer that wrote it to a socket.
            let (path, subject) = inlet::peer(path);
            let member = if self.source == SourceName::File { "file" } else { "peer" };
            mark.insert(member.to_owned(), Value::from(path));
            if let Some(subject) = subject {
                mark.insert("caller".to_owned(), json!({"certificate": {"subject": subject}}));
            }
        }
        if self.host.keep_raw {
            mark.insert("raw".to_owned(), posted::raw_value(line));
        }
    }

    /// `arn:P:SERVICE:REGION:ACCOUNT:REST`, or the text where it is an ARN.
    fn arn(&self, service: &str, rest: &str) -> String {
        if rest.starts_with("arn:") {
            return rest.to_owned();
        }
        let Host { partition, region, account, .. } = self.host;
        format!("arn:{partition}:{service}:{region}:{account}:{rest}")
    }
}

/// The category of a name; `None` for another word.
fn category(name: &str) -> Option<EventCategory> {
    match name {
        "Management" => Some(EventCategory::Management),
        "Data" => Some(EventCategory::Data),
        _ => None,
    }
}

fn event_type(name: &str) -> Option<EventType> {
    match name {
        "AwsApiCall" => Some(EventType::AwsApiCall),
        "AwsServiceEvent" => Some(EventType::AwsServiceEvent),
        "AwsConsoleAction" => Some(EventType::AwsConsoleAction),
        "AwsConsoleSignIn" => Some(EventType::AwsConsoleSignIn),
        _ => None,
    }
}

fn set_category(record: &mut Record, category: EventCategory) {
    record.management_event = Some(!matches!(category, EventCategory::Data));
    record.event_category = category;
}

/// A line that is no event: kept where Data events are.
fn message(place: &Place<'_>, source: &str, time: Option<u64>, parameters: Value) -> Record {
    let mut record = place.blank(time);
    record.user_identity = identity::service(place.host, source);
    record.event_source = source.to_owned();
    record.event_name = LOG_MESSAGE.to_owned();
    record.request_parameters = Some(parameters);
    record.event_type = EventType::AwsServiceEvent;
    record.read_only = Some(true);
    set_category(&mut record, EventCategory::Data);
    record
}

/// A name that may be an eventSource: what DNS names are made of, no more than 256 bytes.
fn source_name(text: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c.to_ascii_lowercase() } else { '-' };
    let made: String = text.chars().take(SOURCE_CHARS_MAX).map(plain).collect();
    let made = made.trim_matches(['-', '.']).to_owned();
    // Only Edgetrail's own records may.
    (!made.is_empty() && made.rsplit('.').next() != Some("edgetrail")).then_some(made)
}

/// Longest eventSource and eventName made of a line, in characters. Source: CloudTrail Lake's string columns for names.
const SOURCE_CHARS_MAX: usize = 256;

fn event_name(text: &str) -> Option<String> {
    let made: String = text.chars().filter(|c| !c.is_control()).take(SOURCE_CHARS_MAX).collect();
    (!made.trim().is_empty()).then_some(made)
}

/// Members that are there.
fn object(members: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Map<String, Value> {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The time that a text says, at the time of reading.
fn time_of(place: &Place<'_>, value: Option<&Value>) -> Option<u64> {
    time::of_value(value?, place.time)
}

#[cfg(test)]
mod tests;
