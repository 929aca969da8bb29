//! Masks secrets in command lines and parameters.
//!
//! Sees every text of a record that was made here, raw and unparsed text included; records made elsewhere keep their
//! bytes. Never changes a record's shape, only strings within it (and numbers under a secret name). A mask that is too
//! much costs a detail, one that is missing costs a secret: where in doubt, it masks.

mod command;
mod names;
mod sql;
mod suspects;
mod text;

use std::borrow::Cow;

use edgetrail_proto::record::Record;
use serde::Deserialize;
use serde_json::Value;

use self::names::Names;
use crate::normalize::Made;
use crate::sources::{event, percent};

/// The section `[redact]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Further names whose values are masked, besides the built-in ones: compared without case, `-`, `_` and `.`.
    pub keys: Vec<String>,
    /// Names that are never masked though a built-in rule would.
    pub allow: Vec<String>,
}

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedactError {
    #[error("redact.{list} holds an empty name: remove it")]
    EmptyName { list: &'static str },
}

/// Masks what is secret.
#[derive(Debug)]
pub struct Redactor {
    enabled: bool,
    names: Names,
    /// Configured names in lower case: they are suspects too.
    extra: Vec<String>,
}

/// Members of a written record that hold no free text: identities, times, names.
const PLAIN_MEMBERS: &[&str] = &[
    "eventVersion",
    "userIdentity",
    "eventTime",
    "eventSource",
    "eventName",
    "awsRegion",
    "sourceIPAddress",
    "requestID",
    "eventID",
    "readOnly",
    "resources",
    "eventType",
    "apiVersion",
    "managementEvent",
    "recipientAccountId",
    "sharedEventID",
    "eventCategory",
];

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, keys: Vec::new(), allow: Vec::new() }
    }
}

impl Redactor {
    pub fn new(config: Config) -> Result<Self, RedactError> {
        for (list, names) in [("keys", &config.keys), ("allow", &config.allow)] {
            if names.iter().any(|name| name.trim().is_empty()) {
                return Err(RedactError::EmptyName { list });
            }
        }
        let extra = config.keys.iter().map(|name| name.to_lowercase()).collect();
        Ok(Self { enabled: config.enabled, names: Names::new(&config.keys, &config.allow), extra })
    }

    /// Masks in place. Foreign records are left as they are.
    pub fn redact(&self, made: &mut Made) {
        if !self.enabled {
            return;
        }
        match made {
            Made::Record(record) => self.record(record),
            Made::Written(json) => {
                if suspects::any(json, &self.extra)
                    && let Some(masked) = self.written(json)
                {
                    *json = masked;
                }
            }
            Made::Foreign(_) => {}
        }
    }

    fn record(&self, record: &mut Record) {
        self.path_parameters(record);
        for text in [&mut record.user_agent, &mut record.error_message].into_iter().flatten() {
            self.text(text);
        }
        let values = [
            &mut record.request_parameters,
            &mut record.response_elements,
            &mut record.service_event_details,
            &mut record.edge_device_details,
            &mut record.tls_details,
        ];
        for value in values.into_iter().flatten() {
            self.value(value, 0);
        }
        for (name, value) in record.additional_event_data.iter_mut().flatten() {
            self.member(name, value, 0);
        }
    }

    /// A secret that is a path's parameter (`/reset/{token}`) stands in the path, too, and in the ARN made of it.
    fn path_parameters(&self, record: &mut Record) {
        let Some(Value::Object(parameters)) = &mut record.request_parameters else { return };
        let Some(Value::Object(values)) = parameters.get("pathParameters") else { return };
        let secrets: Vec<String> = values
            .iter()
            .filter(|(name, _)| self.is_secret(name))
            .filter_map(|(_, value)| value.as_str().filter(|value| !value.is_empty()).map(str::to_owned))
            .collect();
        if secrets.is_empty() {
            return;
        }
        let plain = |text: &str| {
            let part = |part: &str| {
                let decoded = percent::decoded(part);
                let secret = secrets.iter().find(|secret| decoded.contains(secret.as_str()));
                secret.map_or_else(|| part.to_owned(), |secret| decoded.replace(secret.as_str(), text::MASK))
            };
            text.split('/').map(part).collect::<Vec<_>>().join("/")
        };
        for name in ["path", "referer"] {
            if let Some(Value::String(text)) = parameters.get_mut(name) {
                *text = plain(text);
            }
        }
        for resource in record.resources.iter_mut().flatten() {
            if let Some(arn) = &mut resource.arn {
                *arn = plain(arn);
            }
        }
    }

    /// A written record with its secrets masked; `None` where it has none.
    fn written(&self, json: &[u8]) -> Option<Vec<u8>> {
        let members = event::members(std::str::from_utf8(json).ok()?).ok()?;
        let mut out = Vec::with_capacity(json.len() + 64);
        let mut changed = false;
        for (index, (name, raw)) in members.into_iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            out.extend_from_slice(format!("\"{name}\":").as_bytes());
            if !PLAIN_MEMBERS.contains(&name)
                && let Ok(mut value) = serde_json::from_str::<Value>(raw)
                && self.member(name, &mut value, 0)
            {
                changed = true;
                out.extend_from_slice(value.to_string().as_bytes());
            } else {
                out.extend_from_slice(raw.as_bytes());
            }
        }
        out.push(b'}');
        changed.then_some(out)
    }

    /// True if something was masked; so below.
    fn member(&self, name: &str, value: &mut Value, depth: usize) -> bool {
        if self.is_secret(name) { hide(value, depth) } else { self.value(value, depth) }
    }

    fn value(&self, value: &mut Value, depth: usize) -> bool {
        if depth > DEPTH_MAX {
            return false;
        }
        match value {
            Value::String(text) => self.nested(text, depth) | self.text(text),
            Value::Object(members) => {
                let is_named_secret = named_secret(members).is_some_and(|name| self.is_secret(name));
                let mut changed = false;
                for (name, value) in members.iter_mut() {
                    // `{"name": "DB_PASSWORD", "value": "x"}`, as environments and tags are written.
                    let is_value = is_named_secret && matches!(name.as_str(), "value" | "Value" | "val");
                    changed |= if is_value { hide(value, depth + 1) } else { self.member(name, value, depth + 1) };
                }
                changed
            }
            Value::Array(elements) => {
                self.argv(elements) | elements.iter_mut().fold(false, |any, it| any | self.value(it, depth + 1))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// A text that is JSON itself, as a raw line is: masked by its members' names. Written anew only where a secret was.
    fn nested(&self, text: &mut String, depth: usize) -> bool {
        if !text.trim_start().starts_with('{') {
            return false;
        }
        let Ok(mut value) = serde_json::from_str::<Value>(text) else { return false };
        let changed = self.value(&mut value, depth + 1);
        if changed {
            *text = value.to_string();
        }
        changed
    }

    /// An array of strings may be a command line: an option's secret is then the next element.
    fn argv(&self, elements: &mut [Value]) -> bool {
        let Some(words) = elements.iter().map(Value::as_str).collect::<Option<Vec<_>>>() else { return false };
        // Program and option may be suspect by themselves; without either there is nothing to mask.
        if !words.iter().any(|word| self.is_suspect(word)) {
            return false;
        }
        let masked = text::masked_argv(&words, &self.names);
        let mut changed = false;
        for (element, masked) in elements.iter_mut().zip(masked) {
            if let Some(masked) = masked {
                *element = Value::String(masked);
                changed = true;
            }
        }
        changed
    }

    fn is_suspect(&self, text: &str) -> bool {
        suspects::any(text.as_bytes(), &self.extra)
    }

    /// A name is folded and compared only where it may be one.
    fn is_secret(&self, name: &str) -> bool {
        self.is_suspect(name) && self.names.is_secret(name)
    }

    fn text(&self, text: &mut String) -> bool {
        if !self.is_suspect(text) {
            return false;
        }
        match text::masked(text, &self.names) {
            Cow::Borrowed(_) => false,
            Cow::Owned(masked) => {
                *text = masked;
                true
            }
        }
    }
}

/// Deeper than any record that was read: the walk ends here whatever it is given.
const DEPTH_MAX: usize = 128;

fn named_secret(members: &serde_json::Map<String, Value>) -> Option<&str> {
    ["name", "Name", "key", "Key"].iter().find_map(|name| members.get(*name)).and_then(Value::as_str)
}

/// Masks every text and number within.
fn hide(value: &mut Value, depth: usize) -> bool {
    match value {
        Value::String(_) | Value::Number(_) => {
            *value = Value::from(text::MASK);
            true
        }
        Value::Object(members) if depth <= DEPTH_MAX => members.values_mut().fold(false, |any, it| any | hide(it, depth + 1)),
        Value::Array(elements) if depth <= DEPTH_MAX => elements.iter_mut().fold(false, |any, it| any | hide(it, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Object(_) | Value::Array(_) => false,
    }
}

#[cfg(test)]
mod tests;
