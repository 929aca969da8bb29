//! PostgreSQL's log: pgaudit's statements, logins and their refusals, statements that were not permitted.
//!
//! Classes as pgaudit names them: what defines, grants or configures is Management, what reads or writes rows is Data.
//! Every other entry of the log is a `LogMessage`.

use edgetrail_proto::record::{EventCategory, EventType, Record, Resource};
use serde_json::{Value, json};

use super::{Place, event_name, identity, message, object, set_category};
use crate::sources::lines::address::host;
use crate::sources::lines::mapping::Mapping;
use crate::sources::lines::postgresql::{Audit, Entry};
use crate::sources::lines::template::pascal;
use crate::sources::lines::time;

/// eventSource of everything here.
const SOURCE: &str = "postgres.postgresql";

/// SQLSTATEs of a refused login and of a refused statement. Source: PostgreSQL's appendix A, classes 28 and 42.
const LOGIN_REFUSED: &str = "28";
const NOT_PERMITTED: &str = "42501";

/// SQLSTATEs that end a connection before it is one, with what they are as errors; class 28 and 42501 are refusals.
const NOT_CONNECTED: &[(&str, &str)] = &[
    ("3D000", "DatabaseNotFound"),
    ("53300", "TooManyConnections"),
    ("55000", "DatabaseNotAvailable"),
    ("57P03", "CannotConnectNow"),
    (NOT_PERMITTED, "AccessDenied"),
];

pub(super) fn record(place: &Place<'_>, _mapping: &Mapping, text: &str) -> Result<Record, String> {
    let entry = Entry::parse(text).ok_or("no entry of PostgreSQL's csvlog or jsonlog")?;
    let made = match entry.audit() {
        Some(audit) => statement(place, &entry, &audit),
        None => connection(place, &entry).or_else(|| refused(place, &entry)).unwrap_or_else(|| other(place, &entry)),
    };
    Ok(made)
}

fn blank(place: &Place<'_>, entry: &Entry) -> Record {
    let mut record = place.blank(time::of_text(&entry.time, place.time));
    record.event_source = SOURCE.to_owned();
    record.user_identity = match &entry.user {
        Some(user) => identity::user(user, None, SOURCE),
        None => identity::unknown(),
    };
    if let Some(remote) = remote(entry) {
        record.source_ip_address = remote;
    }
    record.user_agent.clone_from(&entry.application);
    record.request_id.clone_from(&entry.session);
    record
}

/// The client's address; none of one on this host.
fn remote(entry: &Entry) -> Option<String> {
    entry.remote.as_deref().filter(|remote| *remote != "[local]").map(|remote| host(remote).to_owned())
}

fn statement(place: &Place<'_>, entry: &Entry, audit: &Audit) -> Record {
    let mut record = blank(place, entry);
    record.event_name = event_name(&pascal(&audit.command)).unwrap_or_else(|| "RunStatement".to_owned());
    record.read_only = Some(audit.class == "READ");
    let is_data = matches!(audit.class.as_str(), "READ" | "WRITE" | "FUNCTION" | "MISC");
    set_category(&mut record, if is_data { EventCategory::Data } else { EventCategory::Management });
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    record.request_parameters = Some(Value::Object(object([
        ("auditType", text(&audit.kind)),
        ("class", text(&audit.class)),
        ("command", text(&audit.command)),
        ("statementId", text(&audit.statement_id)),
        ("substatementId", text(&audit.substatement_id)),
        ("objectType", text(&audit.object_type)),
        ("objectName", text(&audit.object_name)),
        ("statement", text(&audit.statement)),
        ("parameter", text(&audit.parameter)),
        ("database", entry.database.clone().map(Value::from)),
        ("rows", audit.rows.map(Value::from)),
    ])));
    if !audit.object_name.is_empty() {
        let database = entry.database.as_deref().unwrap_or("");
        let kind = format!("PostgreSQL::{}", pascal(&audit.object_type.to_lowercase()));
        let arn = place.arn("postgresql", &format!("{database}/{}", audit.object_name));
        let account_id = Some(place.host.account.to_string());
        record.resources = Some(vec![Resource { account_id, kind: Some(kind), arn: Some(arn), ..Resource::default() }]);
    }
    record
}

/// `connection authorized: user=alice database=app …`, `disconnection: … user=alice database=app host=… port=…`, FATAL of class 28.
fn connection(place: &Place<'_>, entry: &Entry) -> Option<Record> {
    let state = entry.state.as_deref().filter(|_| entry.severity == "FATAL").unwrap_or_default();
    // The command of a session that does not yet take any.
    let is_start = matches!(entry.command.as_deref(), None | Some("startup" | "authentication"));
    let failed = NOT_CONNECTED.iter().find(|(code, _)| is_start && *code == state).map(|(_, name)| *name);
    let error = if state.starts_with(LOGIN_REFUSED) { Some("AccessDenied") } else { failed };
    let name = if entry.message.starts_with("connection authorized:") || error.is_some() {
        "Login"
    } else if entry.message.starts_with("disconnection:") {
        "Logout"
    } else {
        return None;
    };
    let mut record = blank(place, entry);
    record.event_name = name.to_owned();
    record.event_type = EventType::AwsConsoleSignIn;
    let said =
        |name: &str| entry.message.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    if let Some(user) = entry.user.clone().or_else(|| said("user")) {
        record.user_identity = identity::user(&user, None, SOURCE);
    }
    let database = entry.database.clone().or_else(|| said("database"));
    record.request_parameters = Some(Value::Object(object([
        ("database", database.map(Value::from)),
        ("remote", entry.remote.clone().map(Value::from)),
        ("message", Some(Value::from(entry.message.clone()))),
    ])));
    if let Some(error) = error {
        record.error_code = Some(error.to_owned());
        record.error_message = Some(entry.message.clone());
    }
    Some(record)
}

/// A statement that its user may not run: pgaudit does not see it.
fn refused(place: &Place<'_>, entry: &Entry) -> Option<Record> {
    if entry.state.as_deref() != Some(NOT_PERMITTED) {
        return None;
    }
    let mut record = blank(place, entry);
    let named = entry.command.as_deref().map(pascal).and_then(|name| event_name(&name));
    record.event_name = named.unwrap_or_else(|| "RunStatement".to_owned());
    record.error_code = Some("AccessDenied".to_owned());
    record.error_message = Some(entry.message.clone());
    record.request_parameters = Some(json!({"statement": entry.statement, "database": entry.database, "command": entry.command}));
    Some(record)
}

fn other(place: &Place<'_>, entry: &Entry) -> Record {
    let mut record = message(place, SOURCE, time::of_text(&entry.time, place.time), Value::Null);
    if let Some(remote) = remote(entry) {
        record.source_ip_address = remote;
    }
    if let Some(user) = &entry.user {
        record.user_identity = identity::user(user, None, SOURCE);
    }
    record.request_parameters = Some(Value::Object(object([
        ("severity", Some(Value::from(entry.severity.clone()))),
        ("state", entry.state.clone().map(Value::from)),
        ("message", Some(Value::from(entry.message.clone()))),
        ("detail", entry.detail.clone().map(Value::from)),
        ("statement", entry.statement.clone().map(Value::from)),
        ("database", entry.database.clone().map(Value::from)),
        ("remote", entry.remote.clone().map(Value::from)),
    ])));
    record
}
