//! Entries of PostgreSQL's csvlog, jsonlog and plain log, and pgaudit's message in them.
//!
//! A csvlog entry may hold line feeds within its quotes: the reader of the file keeps such an entry whole.
//! Source: PostgreSQL's manual, chapter "Error Reporting and Logging", for csvlog's columns; pgaudit's README, "Format".

use serde_json::Value;

/// What is used of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub time: String,
    pub user: Option<String>,
    pub database: Option<String>,
    /// `ADDRESS:PORT` or `[local]`.
    pub remote: Option<String>,
    pub session: Option<String>,
    pub command: Option<String>,
    /// `LOG`, `ERROR`, `FATAL` …
    pub severity: String,
    /// SQLSTATE.
    pub state: Option<String>,
    pub message: String,
    pub detail: Option<String>,
    /// The statement that caused an error.
    pub statement: Option<String>,
    pub application: Option<String>,
}

/// pgaudit's message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// `SESSION` or `OBJECT`.
    pub kind: String,
    pub statement_id: String,
    pub substatement_id: String,
    /// `READ`, `WRITE`, `FUNCTION`, `ROLE`, `DDL`, `MISC`, `MISC_SET`.
    pub class: String,
    pub command: String,
    pub object_type: String,
    pub object_name: String,
    pub statement: String,
    pub parameter: String,
    /// With `pgaudit.log_rows`.
    pub rows: Option<u64>,
}

/// Columns of csvlog in its oldest form that is read here, up to `application_name`.
const COLUMNS_MIN: usize = 14;

impl Entry {
    /// Of a line of either format.
    pub fn parse(line: &str) -> Option<Self> {
        if line.starts_with('{') { Self::json(line) } else { Self::csv(line).or_else(|| Self::plain(line)) }
    }

    fn csv(line: &str) -> Option<Self> {
        let columns = columns(line)?;
        let column = |index: usize| columns.get(index).filter(|text| !text.is_empty()).cloned();
        if columns.len() < COLUMNS_MIN {
            return None;
        }
        Some(Self {
            time: column(0)?,
            user: column(1),
            database: column(2),
            remote: column(4).map(bracketed),
            session: column(5),
            command: column(7),
            severity: column(11)?,
            state: column(12),
            message: column(13).unwrap_or_default(),
            detail: column(14),
            statement: column(19),
            application: column(22),
        })
    }

    /// `log_destination = stderr`, with a log_line_prefix that begins with `%m` or `%t` and `[%p]`, as PostgreSQL's default and the
    /// distributions' do. Of what stands behind, `%q%u@%d` and `user=…,db=…,app=…,client=…` are understood.
    fn plain(line: &str) -> Option<Self> {
        let (prefix, severity, message) = split_plain(line)?;
        if let Some(entry) = Self::of_rds(prefix) {
            let state = told_state(severity, message).map(str::to_owned);
            return Some(Self { severity: severity.to_owned(), message: message.replace("\n\t", "\n"), state, ..entry });
        }
        let (time, rest) = prefix.split_once(" [")?;
        let (process, rest) = rest.split_once(']')?;
        let is_time = time.len() >= PLAIN_TIME_BYTES_MIN && time.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let is_process = process.split('-').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_time || !is_process {
            return None;
        }
        let mut entry = Self { time: time.to_owned(), severity: severity.to_owned(), ..Self::default() };
        // A statement's further lines are indented with a tab.
        entry.message = message.replace("\n\t", "\n");
        entry.state = told_state(severity, message).map(str::to_owned);
        for word in rest.split([' ', ',', ':']).filter(|word| !word.is_empty()) {
            let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty() && value != "[unknown]");
            match word.split_once('=') {
                Some(("user", value)) => entry.user = text(value),
                Some(("db" | "database", value)) => entry.database = text(value),
                Some(("app" | "application", value)) => entry.application = text(value),
                Some(("client" | "host", value)) => entry.remote = text(value),
                Some(_) => {}
                None => {
                    if let Some((user, database)) = word.split_once('@') {
                        (entry.user, entry.database) = (text(user), text(database));
                    }
                }
            }
        }
        Some(entry)
    }

    /// Amazon RDS' log_line_prefix, `%t:%r:%u@%d:[%p]:`.
    fn of_rds(prefix: &str) -> Option<Self> {
        let (rest, process) = prefix.strip_suffix("]:")?.rsplit_once(":[")?;
        let zone_end = PLAIN_CLOCK_BYTES + rest.get(PLAIN_CLOCK_BYTES..)?.find(':')?;
        let (time, rest) = (rest.get(..zone_end)?, rest.get(zone_end + 1..)?);
        let is_process = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        let (remote, who) = match rest.split_once("):") {
            Some((remote, who)) => (remote.split_once('('), who),
            None => (None, rest.split_once(':')?.1),
        };
        let (user, database) = who.split_once('@')?;
        let text = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty() && value != "[unknown]");
        is_process.then(|| Self {
            time: time.to_owned(),
            remote: remote.map(|(host, port)| bracketed(format!("{host}:{port}"))),
            user: text(user),
            database: text(database),
            ..Self::default()
        })
    }

    fn json(line: &str) -> Option<Self> {
        let Value::Object(members) = serde_json::from_str(line).ok()? else { return None };
        let text = |name: &str| members.get(name).and_then(super::fields::text).filter(|text| !text.is_empty());
        let remote = text("remote_host").map(|host| match (text("remote_port"), host.contains(':')) {
            (Some(port), false) => format!("{host}:{port}"),
            (Some(port), true) => format!("[{host}]:{port}"),
            (None, _) => host,
        });
        Some(Self {
            time: text("timestamp")?,
            user: text("user"),
            database: text("dbname"),
            remote,
            session: text("session_id"),
            command: text("ps"),
            severity: text("error_severity")?,
            state: text("state_code"),
            message: text("message").unwrap_or_default(),
            detail: text("detail"),
            statement: text("statement"),
            application: text("application_name"),
        })
    }

    /// pgaudit's part of the message, where it is one.
    pub fn audit(&self) -> Option<Audit> {
        let mut columns = columns(self.message.strip_prefix("AUDIT: ")?)?.into_iter();
        let mut next = || columns.next();
        Some(Audit {
            kind: next()?,
            statement_id: next()?,
            substatement_id: next()?,
            class: next()?,
            command: next()?,
            object_type: next()?,
            object_name: next()?,
            statement: next()?,
            parameter: next().unwrap_or_default(),
            rows: next().and_then(|rows| rows.parse().ok()),
        })
    }
}

/// `ADDRESS:PORT` with brackets around an IPv6 address, which csvlog leaves out.
fn bracketed(remote: String) -> String {
    match remote.rsplit_once(':') {
        Some((host, port)) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        _ => remote,
    }
}

/// `YYYY-MM-DD HH:MM:SS`.
const PLAIN_CLOCK_BYTES: usize = 19;

/// `YYYY-MM-DD HH:MM:SS ZONE`.
const PLAIN_TIME_BYTES_MIN: usize = 21;

/// What the plain log writes before a message. Source: PostgreSQL's manual, "Message Severity Levels", and what elog.c adds to them.
const SEVERITIES: &[&str] = &[
    "LOG",
    "ERROR",
    "FATAL",
    "PANIC",
    "WARNING",
    "NOTICE",
    "INFO",
    "DEBUG",
    "STATEMENT",
    "DETAIL",
    "HINT",
    "CONTEXT",
    "QUERY",
    "LOCATION",
    "DEBUG1",
    "DEBUG2",
    "DEBUG3",
    "DEBUG4",
    "DEBUG5",
];

/// The prefix, the severity and the message of a plain entry: the first severity decides, for a message may name others.
fn split_plain(line: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let at = from + line.get(from..)?.find(":  ")?;
        let before = line.get(..at)?;
        // Behind a space, or behind the colon that RDS' prefix ends with.
        let start = before.rfind([' ', ':']).map_or(0, |at| at + 1);
        let (prefix, severity) = before.split_at_checked(start)?;
        let prefix = prefix.strip_suffix(' ').unwrap_or(prefix);
        if SEVERITIES.contains(&severity) {
            return Some((prefix, severity, line.get(at + 3..)?));
        }
        from = at + 3;
    }
}

/// The SQLSTATE that a message of the server's means, in its own language: the plain log does not write it.
fn told_state(severity: &str, message: &str) -> Option<&'static str> {
    let is_refused = message.contains("authentication failed for user")
        || message.starts_with("no pg_hba.conf entry")
        || message.starts_with("pg_hba.conf rejects")
        || (message.starts_with("role \"") && message.ends_with("does not exist"))
        || message.ends_with("is not permitted to log in");
    match severity {
        "FATAL" if is_refused => Some("28000"),
        "FATAL" if message.starts_with("database \"") && message.ends_with("does not exist") => Some("3D000"),
        "FATAL" if message.contains("too many clients") || message.starts_with("remaining connection slots") => Some("53300"),
        "ERROR" if message.starts_with("permission denied for") || message.starts_with("must be owner of") => Some("42501"),
        _ => None,
    }
}

/// Columns of one entry: quoted ones hold commas, line feeds and doubled quotes. `None` where a quote stays open.
fn columns(line: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        let (column, after) = match rest.strip_prefix('"') {
            Some(inside) => quoted(inside)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (column, after) = rest.split_at_checked(end)?;
                (column.to_owned(), after)
            }
        };
        found.push(column);
        if found.len() > COLUMNS_MAX {
            return None;
        }
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return after.trim().is_empty().then_some(found),
        }
    }
}

/// More than any version writes.
const COLUMNS_MAX: usize = 64;

fn quoted(inside: &str) -> Option<(String, &str)> {
    let mut column = String::new();
    let mut rest = inside;
    loop {
        let (before, after) = rest.split_once('"')?;
        column.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                column.push('"');
                rest = next;
            }
            None => return Some((column, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CSV: &str = r#"2024-03-01 10:00:00.123 UTC,"alice","app",4242,"192.0.2.7:51234",65e1a1b0.1092,3,"CREATE TABLE",2024-03-01 09:59:44 UTC,4/12,742,LOG,00000,"AUDIT: SESSION,1,1,DDL,CREATE TABLE,TABLE,public.account,""create table account
(
  id int
);"",<not logged>",,,,,,,,,"psql","client backend",,0"#;

    #[test]
    fn an_entry_of_either_format_is_read() {
        let entry = Entry::parse(CSV).unwrap();
        assert_eq!((entry.user.as_deref(), entry.remote.as_deref()), (Some("alice"), Some("192.0.2.7:51234")));
        assert_eq!(entry.application.as_deref(), Some("psql"));
        let audit = entry.audit().unwrap();
        assert_eq!((audit.class.as_str(), audit.object_name.as_str()), ("DDL", "public.account"));
        assert!(audit.statement.starts_with("create table account\n(") && audit.parameter == "<not logged>");
        let json = r#"{"timestamp":"2024-03-01 10:00:00.123 UTC","user":"alice","dbname":"app","pid":42,"remote_host":"::1","remote_port":5,"session_id":"s","line_num":1,"ps":"SELECT","error_severity":"LOG","message":"AUDIT: SESSION,2,1,READ,SELECT,,,\"select 1, 'a\"\"b'\",none","application_name":"psql","backend_type":"client backend","query_id":0}"#;
        let entry = Entry::parse(json).unwrap();
        assert_eq!(entry.remote.as_deref(), Some("[::1]:5"));
        assert_eq!(entry.audit().unwrap().statement, "select 1, 'a\"b'");
        assert_eq!(Entry::parse("LOG:  database system is ready"), None);
        assert_eq!(Entry::parse("{}"), None);
    }

    #[test]
    fn plain_entries_of_the_usual_prefixes_are_read() {
        let audit = "2024-03-01 10:00:00.123 UTC [4242] alice@app LOG:  AUDIT: SESSION,1,1,DDL,CREATE TABLE,TABLE,public.account,\"create table account\n\t(id int);\",<not logged>";
        let entry = Entry::parse(audit).unwrap();
        assert_eq!((entry.user.as_deref(), entry.database.as_deref()), (Some("alice"), Some("app")));
        assert_eq!((entry.severity.as_str(), entry.time.as_str()), ("LOG", "2024-03-01 10:00:00.123 UTC"));
        assert_eq!(entry.audit().unwrap().statement, "create table account\n(id int);");
        let refused = "2024-03-01 10:00:00 UTC [77-1] user=mallory,db=app,app=[unknown],client=192.0.2.7 FATAL:  password authentication failed for user \"mallory\"";
        let entry = Entry::parse(refused).unwrap();
        assert_eq!(
            (entry.user.as_deref(), entry.remote.as_deref(), entry.application),
            (Some("mallory"), Some("192.0.2.7"), None)
        );
        assert_eq!(entry.state.as_deref(), Some("28000"));
        assert!(entry.severity == "FATAL" && entry.message.starts_with("password authentication failed"));
        for other in ["", "LOG:  x", "\tselect 1", "2024-03-01 [x] LOG:  y", "2024-03-01 10:00:00 UTC [4] nothing"] {
            assert_eq!(Entry::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,60}|[\",a\n]{0,60}") {
            if let Some(entry) = Entry::parse(&line) {
                let _either = entry.audit();
            }
            let _either = Entry { message: format!("AUDIT: {line}"), ..Entry::default() }.audit();
        }
    }
}
