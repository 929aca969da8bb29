//! HAProxy's own formats: `option httplog`, `httpslog`, `tcplog`, and its line for a failed connection.
//!
//! `ADDRESS:PORT [TIME] FRONTEND BACKEND/SERVER TIMERS STATUS BYTES COOKIE COOKIE TERMINATION COUNTS QUEUES {captured} "REQUEST"`.
//! Source: HAProxy's configuration manual, chapter 8.2.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::words::{self, Word};
use super::{Request, is_address, said};
use crate::sources::lines::time;

pub(super) fn parse(line: &str, now: u64) -> Option<Request> {
    if let Some(request) = connection(line).or_else(|| message(line)) {
        return Some(request);
    }
    let (client, rest) = line.split_once(' ')?;
    // An address without a port is another form's.
    if !is_client(client) {
        return None;
    }
    let (at, rest) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
    let mut request = Request { server: Some("haproxy"), time: Some(time::of_text(at, now)?), ..Request::default() };
    request.take_client(client);
    let (frontend, rest) = rest.trim_start().split_once(' ')?;
    if let Some(frontend) = frontend.strip_suffix(':') {
        // `frontend/bind: SSL handshake failure`.
        request.route = said(frontend);
        request.error = said(rest);
        return Some(request);
    }
    request.route = said(frontend.trim_end_matches('~'));
    let (rest, request_line) = match rest.split_once(" \"") {
        Some((rest, line)) => (rest, Some(words::quoted(&format!("\"{line}")).map(|(line, after)| (line, after.to_owned()))?)),
        None => (rest, None),
    };
    let found = words::words(rest);
    let [backend, timers, rest @ ..] = found.as_slice() else { return None };
    request.upstream = said(backend.bare()?);
    let timers: Vec<&str> = timers.bare()?.split('/').collect();
    request.duration_ms = timers.last().and_then(|total| total.trim_start_matches('+').parse().ok());
    match (request_line, timers.len()) {
        (Some((line, after)), _) => {
            let [status, bytes, ..] = rest else { return None };
            // -1 where the connection ended before there was an answer.
            let status: i32 = status.bare()?.parse().ok()?;
            request.status = u16::try_from(status).ok();
            request.bytes = bytes.bare().and_then(|bytes| bytes.trim_start_matches('+').parse().ok());
            request.error = termination(rest.get(4));
            if line == "<BADREQ>" {
                request.malformed = Some(line)
            } else {
                request.take_request_line(&line)
            }
            if let Some(Word::Braced(headers)) = rest.iter().find(|word| matches!(word, Word::Braced(_))) {
                request.captured = headers.split('|').map(|header| said(&decoded(header))).collect();
            }
            let captured: Vec<Value> = rest
                .iter()
                .filter_map(|word| match word {
                    Word::Braced(inside) => Some(inside),
                    _ => None,
                })
                .flat_map(|inside| inside.split('|'))
                .filter_map(|header| said(&decoded(header)))
                .map(Value::from)
                .collect();
            if !captured.is_empty() {
                request.extra.insert("captured".to_owned(), Value::from(captured));
            }
            if let Some(tls) = said(&after) {
                request.extra.insert("tls".to_owned(), Value::from(tls));
            }
        }
        // A TCP connection: queue, connect, total.
        (None, 3) => {
            let [bytes, state, ..] = rest else { return None };
            request.bytes = bytes.bare().and_then(|bytes| bytes.trim_start_matches('+').parse().ok());
            request.error = termination(Some(state));
        }
        _ => return None,
    }
    Some(request)
}

/// A captured header, which HAProxy writes with `"#{|}` and all that is not printable as `#22`. Source: its log.c,
/// `hdr_encode_map`. Control characters and what is no UTF-8 stay as they were written.
fn decoded(header: &str) -> Cow<'_, str> {
    if !header.contains('#') {
        return Cow::Borrowed(header);
    }
    let (bytes, mut made, mut at) = (header.as_bytes(), Vec::with_capacity(header.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|digits| byte == b'#' && digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let value = value.filter(|value| !value.is_ascii_control());
        made.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8(made).map_or(Cow::Borrowed(header), Cow::Owned)
}

/// The format without any option: `Connect from ADDRESS:PORT to ADDRESS:PORT (FRONTEND/MODE)`.
fn connection(line: &str) -> Option<Request> {
    let (client, rest) = line.strip_prefix("Connect from ")?.split_once(" to ")?;
    let (server, rest) = rest.split_once(' ')?;
    let mut request = Request { server: Some("haproxy"), ..Request::default() };
    request.take_client(client);
    request.route = rest.strip_prefix('(').and_then(|rest| rest.split('/').next()).and_then(said);
    request.extra.insert("destination".to_owned(), Value::from(server));
    Some(request)
}

/// What HAProxy says of itself and its servers. Source: its proxy.c and check.c.
fn message(line: &str) -> Option<Request> {
    let has = |start: &str, ends: &[&str]| line.strip_prefix(start).is_some_and(|rest| ends.iter().any(|end| rest.contains(end)));
    let is_own = has("Proxy ", &[" started", " stopped", " paused", " resumed", " reached"])
        || has("Server ", &[" is UP", " is DOWN", " is going DOWN", " is stopping", " is running", " administratively"])
        || has("Backup Server ", &[" is UP", " is DOWN"])
        || has("Health check for ", &[" server "])
        || has("Stopping ", &[" proxy ", " frontend ", " backend ", " in "])
        || has("Pausing ", &[" "])
        || has("backend ", &[" has no server available"])
        || ["[NOTICE]", "[WARNING]", "[ALERT]"].iter().any(|level| line.starts_with(level));
    let extra = Map::from_iter([("message".to_owned(), Value::from(line))]);
    is_own.then(|| Request { server: Some("haproxy"), is_message: true, extra, ..Request::default() })
}

fn is_client(word: &str) -> bool {
    word.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (is_address(host) || host.parse::<std::net::Ipv6Addr>().is_ok() || host == "unix")
    }) || word.starts_with("unix:")
}

/// How the session ended, where it was not in order: `--` is.
fn termination(word: Option<&Word>) -> Option<String> {
    word.map(Word::text).filter(|state| !state.starts_with("--")).and_then(said).map(|state| format!("termination state {state}"))
}
