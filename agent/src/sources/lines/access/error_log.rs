//! nginx's and Apache's error logs: what a server reports of a request, or of itself.
//!
//! Not every line names a client: such a one is the server's own report.

use serde_json::Value;

use super::Request;
use crate::sources::lines::time;

pub(super) fn parse(line: &str, now: u64) -> Option<Request> {
    nginx(line, now).or_else(|| apache(line, now))
}

/// `2021/12/01 13:53:33 [error] 31#31: *46 TEXT, client: A, server: S, request: "R", host: "H"`.
fn nginx(line: &str, now: u64) -> Option<Request> {
    let (at, rest) = line.split_at_checked(19).filter(|(at, _)| at.as_bytes().get(4) == Some(&b'/'))?;
    let time = time::of_text(at, now)?;
    let (level, rest) = rest.trim_start().strip_prefix('[')?.split_once("] ")?;
    let (process, text) = rest.split_once(": ")?;
    if !process.bytes().all(|byte| byte.is_ascii_digit() || byte == b'#') {
        return None;
    }
    let text = match text.strip_prefix('*').and_then(|text| text.split_once(' ')) {
        Some((number, text)) if number.bytes().all(|byte| byte.is_ascii_digit()) => text,
        _ => text,
    };
    let mut request = Request { server: Some("nginx"), time: Some(time), is_report: true, ..Request::default() };
    request.extra.insert("level".to_owned(), Value::from(level));
    let (text, named) = text.split_once(", client: ").map_or((text, None), |(text, named)| (text, Some(named)));
    request.error = Some(text.to_owned());
    // `user "NAME": password mismatch`, `user "NAME" was not found in "FILE"`.
    request.user = text.strip_prefix("user \"").and_then(|text| text.split_once('"')).and_then(|(name, _)| super::said(name));
    let Some(named) = named else { return Some(request) };
    let mut rest = format!("client: {named}");
    // From the end: a request may hold anything, its own commas too.
    for name in ["referrer", "host", "upstream", "subrequest", "request", "server", "client"] {
        let mark = format!("{name}: ");
        let found = if name == "client" { rest.find(&mark) } else { rest.rfind(&format!(", {mark}")).map(|at| at + 2) };
        let Some(at) = found else { continue };
        let value = rest.get(at + mark.len()..).unwrap_or_default().trim_end_matches(", ").to_owned();
        rest.truncate(at.saturating_sub(2));
        let value = value.strip_prefix('"').map_or(value.as_str(), |value| value.strip_suffix('"').unwrap_or(value)).to_owned();
        match name {
            "client" => request.take_address(&value),
            "request" => request.take_request_line(&value),
            "host" => request.host = super::said(&value),
            "server" if request.host.is_none() => request.host = super::said(&value),
            "referrer" => request.referer = super::said(&value),
            "upstream" => request.upstream = super::said(&value),
            _ => {}
        }
    }
    Some(request)
}

/// `[TIME] [MODULE:LEVEL] [pid P:tid T] [client A:PORT] AH01618: TEXT`; the older `[TIME] [LEVEL] [client A] TEXT`.
fn apache(line: &str, now: u64) -> Option<Request> {
    let (at, mut rest) = line.strip_prefix('[')?.split_once(']')?;
    // An access log's time begins with a digit.
    let time = at.starts_with(|c: char| c.is_ascii_uppercase()).then(|| time::of_text(at, now)).flatten()?;
    let mut request = Request { server: Some("apache"), time: Some(time), is_report: true, ..Request::default() };
    while let Some((word, after)) = rest.trim_start().strip_prefix('[').and_then(|inside| inside.split_once("] ")) {
        rest = after;
        match word.split_once(' ') {
            Some(("client", address)) => request.take_address(address),
            Some(("remote", address)) => request.take_address(address),
            Some(("pid", _)) => {}
            _ => drop(request.extra.insert("level".to_owned(), Value::from(word))),
        }
    }
    let mut text = rest.trim().to_owned();
    // `(70014)End of file found: [client …] AH02006: …`.
    if let Some((before, after)) = text.clone().split_once("[client ")
        && let Some((address, behind)) = after.split_once("] ")
    {
        request.take_address(address);
        text = format!("{before}{behind}");
    }
    if let Some(at) = text.rfind(", referer: ") {
        request.referer = text.get(at + 11..).and_then(super::said);
        text.truncate(at);
    }
    if let Some(code) = text.split(' ').map(|word| word.trim_end_matches(':')).find(|word| is_code(word)) {
        request.extra.insert("code".to_owned(), Value::from(code));
        // `user NAME not found: /path`, `user NAME: authentication failure for "/path": Password Mismatch`.
        if AUTHENTICATION_CODES.contains(&code) {
            let after = text.split_once("user ").map(|(_, after)| after);
            request.user = after
                .and_then(|after| after.split([' ', ':']).next())
                .map(|name| name.trim_matches(['"', '\'']))
                .and_then(super::said);
            request.target = target(&text);
        }
    }
    request.error = Some(text);
    Some(request)
}

/// The path that Apache's message ends with or quotes.
fn target(text: &str) -> Option<String> {
    let quoted = text.split('"').nth(1).filter(|quoted| quoted.starts_with('/'));
    quoted.or_else(|| text.rsplit(": ").next().filter(|last| last.starts_with('/'))).map(str::to_owned)
}

/// `AH01618`.
fn is_code(word: &str) -> bool {
    word.len() == 7 && word.starts_with("AH") && word.bytes().skip(2).all(|byte| byte.is_ascii_digit())
}

/// Apache's numbers for somebody who was not let in. Source: mod_auth_basic.c, mod_auth_digest.c, mod_authz_core.c.
pub(super) const AUTHENTICATION_CODES: &[&str] = &[
    "AH01614", "AH01617", "AH01618", "AH01619", "AH01630", "AH01631", "AH01788", "AH01789", "AH01790", "AH01791", "AH01792",
    "AH01793", "AH01794",
];

impl Request {
    /// Whether an error log says that somebody was not let in.
    pub fn is_refused_login(&self) -> bool {
        let code = self.extra.get("code").and_then(Value::as_str).is_some_and(|code| AUTHENTICATION_CODES.contains(&code));
        let basic = self.error.as_deref().is_some_and(|text| text.starts_with("user \"") || text.starts_with("no user/password"));
        self.is_report && (code || basic)
    }
}
