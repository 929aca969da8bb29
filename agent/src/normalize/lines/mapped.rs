//! A mapping applied: fields become a record as its data says.

use edgetrail_proto::record::{EventType, Record, Resource, UserIdentity};
use serde_json::{Map, Value};

use super::{Place, category, event_name, event_type, identity, message, set_category, source_name, time_of};
use crate::normalize::http::status_name;
use crate::sources::lines::fields;
use crate::sources::lines::mapping::{Choice, EventRule, IdentityRule, Mapping, RecordRule};
use crate::sources::lines::template::Template;

/// eventSource where a mapping names none.
const SOURCE: &str = "application.log";

/// The event rule that a line fits, over the mapping's general one.
struct Rules<'a> {
    event: Option<&'a RecordRule>,
    general: &'a RecordRule,
}

pub(super) fn record(place: &Place<'_>, mapping: &Mapping, line: &Map<String, Value>) -> Record {
    let time = time(place, mapping, line);
    let rules = Rules {
        event: mapping.events.iter().find(|event| fits(event, line)).map(|event| &event.record),
        general: &mapping.record,
    };
    let source = rules.text(line, |rule| &rule.source).and_then(|text| source_name(&text)).unwrap_or_else(|| SOURCE.to_owned());
    let is_event = mapping.requires.as_ref().is_none_or(|field| fields::said(line, field).is_some());
    let name = rules.text(line, |rule| &rule.name).and_then(|text| event_name(&text)).filter(|_| is_event);
    let Some(name) = name else { return message(place, &source, time, Value::Object(line.clone())) };
    let mut record = place.blank(time);
    record.user_identity = identity_of(place, &rules, line);
    record.event_source = source;
    record.event_name = name;
    if let Some(address) = rules.text(line, |rule| &rule.address) {
        record.source_ip_address = address;
    }
    record.user_agent = rules.text(line, |rule| &rule.agent);
    record.request_id = rules.text(line, |rule| &rule.request_id);
    record.error_code = rules.text(line, |rule| &rule.error_code).and_then(|code| error_name(&code));
    record.error_message = rules.text(line, |rule| &rule.error_message);
    record.read_only = Some(rules.text(line, |rule| &rule.read_only).is_some_and(|text| text == "true"));
    if let Some(category) = rules.text(line, |rule| &rule.category).and_then(|name| category(&name)) {
        set_category(&mut record, category);
    }
    let is_service = record.user_identity.kind.as_deref() == Some("AWSService");
    let kind = rules.text(line, |rule| &rule.kind).and_then(|name| event_type(&name));
    record.event_type = kind.unwrap_or(if is_service { EventType::AwsServiceEvent } else { EventType::AwsApiCall });
    let parameters = rules.get(|rule| rule.parameters.as_ref());
    let rest = || rest(&rules, line, mapping.record.time.iter().find(|it| time_of(place, it.value(line).as_ref()).is_some()));
    record.request_parameters = members(line, parameters, rest);
    record.response_elements = members(line, rules.get(|rule| rule.response.as_ref()), Map::new);
    record.resources = resources(place, &record.event_source, rules.get(|rule| rule.resources.as_ref()), line);
    record
}

/// A line of the mapping's program that no rule of it is for.
pub(super) fn message_of(place: &Place<'_>, mapping: &Mapping, time: Option<u64>, parameters: Map<String, Value>) -> Record {
    let source = fill(&mapping.record.source, &parameters).and_then(|text| source_name(&text));
    message(place, source.as_deref().unwrap_or(SOURCE), time, Value::Object(parameters))
}

/// The time that the line itself says.
pub(super) fn time(place: &Place<'_>, mapping: &Mapping, line: &Map<String, Value>) -> Option<u64> {
    mapping.record.time.iter().find_map(|template| time_of(place, template.value(line).as_ref()))
}

/// Whether a line is of a rule's kind.
pub(super) fn fits(event: &EventRule, line: &Map<String, Value>) -> bool {
    event.when.iter().all(|(field, patterns)| {
        let text = fields::said(line, field).and_then(fields::text);
        patterns.iter().any(|pattern| match (pattern.strip_prefix('!'), &text) {
            (Some(other), text) => !text.as_deref().is_some_and(|text| alike(other, text)),
            (None, Some(text)) => alike(pattern, text),
            (None, None) => false,
        })
    })
}

/// Shell-like: `*` for any text, `?` for any character, `+` for one path segment.
pub(super) fn alike(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().take(TEXT_CHARS_MAX).collect());
    // Which beginnings of the pattern fit what was read: no backtracking, whatever the pattern.
    let mut reached = vec![false; pattern.len() + 1];
    let open = |reached: &mut Vec<bool>| {
        for (at, c) in pattern.iter().enumerate() {
            if *c == '*'
                && reached.get(at) == Some(&true)
                && let Some(next) = reached.get_mut(at + 1)
            {
                *next = true;
            }
        }
    };
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    open(&mut reached);
    for c in text {
        let mut next = vec![false; pattern.len() + 1];
        for (at, want) in pattern.iter().enumerate() {
            if reached.get(at) != Some(&true) {
                continue;
            }
            let (stays, moves) = match want {
                '*' => (true, false),
                '?' => (false, true),
                '+' => (c != '/', c != '/'),
                other => (false, *other == c),
            };
            if stays && let Some(place) = next.get_mut(at) {
                *place = true;
            }
            if moves && let Some(place) = next.get_mut(at + 1) {
                *place = true;
            }
        }
        open(&mut next);
        reached = next;
    }
    reached.last() == Some(&true)
}

/// Characters of a field that are compared.
const TEXT_CHARS_MAX: usize = 4096;

/// A program's code as a name; none where it says that nothing went wrong. HTTP's statuses have the names that requests give them.
fn error_name(code: &str) -> Option<String> {
    if matches!(code.to_ascii_lowercase().as_str(), "0" | "ok" | "success" | "succeeded" | "none" | "false" | "successful") {
        return None;
    }
    match code.parse::<i64>() {
        Ok(status) if (100..400).contains(&status) => None,
        Ok(status) if (400..600).contains(&status) => u16::try_from(status).ok().map(status_name),
        // A number of the program's own is no name.
        Ok(_) => Some("Failed".to_owned()),
        Err(_) => Some(code.to_owned()),
    }
}

impl<'a> Rules<'a> {
    fn text(&self, line: &Map<String, Value>, of: impl Fn(&RecordRule) -> &Choice) -> Option<String> {
        fill(self.choice(of), line)
    }

    /// An event's own rule decides, also that there is nothing; only where it says nothing the general one does.
    fn choice(&self, of: impl Fn(&RecordRule) -> &Choice) -> &'a Choice {
        let own = self.event.map(&of).filter(|choice| !choice.is_empty());
        own.unwrap_or_else(|| of(self.general))
    }

    fn get<T>(&self, of: impl Fn(&'a RecordRule) -> Option<&'a T>) -> Option<&'a T> {
        self.event.and_then(&of).or_else(|| of(self.general))
    }
}

fn fill(choice: &Choice, line: &Map<String, Value>) -> Option<String> {
    choice.iter().find_map(|template| template.fill(line)).filter(|text| !text.is_empty())
}

fn identity_of(place: &Place<'_>, rules: &Rules<'_>, line: &Map<String, Value>) -> UserIdentity {
    let Some(rule) = rules.get(|rule| rule.identity.as_ref()) else { return identity::unknown() };
    let IdentityRule { kind, name, id, provider, access_key, invoked_by } = rule;
    let name = fill(name, line);
    let id = fill(id, line);
    match (name, id) {
        (None, None) => match fill(invoked_by, line) {
            Some(program) => identity::service(place.host, &program),
            None => identity::unknown(),
        },
        (name, id) => {
            let shown = name.or_else(|| id.clone()).unwrap_or_default();
            let provider = fill(provider, line).unwrap_or_else(|| "application".to_owned());
            let mut made = identity::user(&shown, id, &provider);
            if let Some(kind) = fill(kind, line) {
                made.kind = Some(kind);
            }
            made.access_key_id = fill(access_key, line);
            made
        }
    }
}

fn members(
    line: &Map<String, Value>,
    rule: Option<&Vec<(String, Choice)>>,
    rest: impl Fn() -> Map<String, Value>,
) -> Option<Value> {
    let mut made = Map::new();
    for (name, choice) in rule? {
        if name == "*" {
            made.extend(rest());
        } else if let Some(value) = choice.iter().find_map(|template| template.value(line)) {
            made.insert(name.clone(), value);
        }
    }
    (!made.is_empty()).then_some(Value::Object(made))
}

/// The fields without those that the record's own members say whole.
fn rest(rules: &Rules<'_>, line: &Map<String, Value>, time: Option<&Template>) -> Map<String, Value> {
    let mut rest: Map<String, Value> =
        line.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), value.clone())).collect();
    let own: [fn(&RecordRule) -> &Choice; 6] = [
        |rule| &rule.source,
        |rule| &rule.name,
        |rule| &rule.address,
        |rule| &rule.agent,
        |rule| &rule.request_id,
        |rule| &rule.error_message,
    ];
    let identity = rules.get(|rule| rule.identity.as_ref());
    let choices = own.into_iter().map(|of| rules.choice(of)).chain(identity.into_iter().flat_map(|rule| [&rule.name, &rule.id]));
    let filled =
        choices.filter_map(|choice| choice.iter().find(|template| template.fill(line).is_some_and(|text| !text.is_empty())));
    for path in filled.chain(time).flat_map(|template| template.told(line)) {
        fields::remove(&mut rest, path);
    }
    rest
}

fn resources(
    place: &Place<'_>,
    source: &str,
    rule: Option<&Vec<(String, Choice)>>,
    line: &Map<String, Value>,
) -> Option<Vec<Resource>> {
    let service = source.split('.').next().unwrap_or(source);
    let one = |(kind, choice): &(String, Choice)| {
        let arn = place.arn(service, &fill(choice, line)?);
        let account_id = Some(place.host.account.to_string());
        Some(Resource { account_id, kind: Some(kind.clone()), arn: Some(arn), ..Resource::default() })
    };
    let made: Vec<Resource> = rule?.iter().filter_map(one).collect();
    (!made.is_empty()).then_some(made)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, text, expected) in [
            ("user_*", "user_created", true),
            ("*", "", true),
            ("", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("sys/policies/acl/+", "sys/policies/acl/x", true),
            ("sys/policies/acl/+", "sys/policies/acl/x/y", false),
            ("auth/+/login/*", "auth/ldap/login/alice", true),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(alike(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn matching_ends_and_never_panics(pattern in "[a*?+/]{0,12}", text in "[a/]{0,40}") {
            let _either = alike(&pattern, &text);
        }
    }
}
