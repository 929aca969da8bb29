//! The common and combined formats and what is made of them: Apache, nginx, Traefik, Caddy, HAProxy's `option httplog clf`.
//!
//! `[VHOST[:PORT]] ADDRESS IDENT USER [TIME] "REQUEST" STATUS BYTES ["REFERER" "AGENT"] …`. What follows the agent differs:
//! Traefik's, HAProxy's and the Kubernetes ingress controller's columns are known by their form; of others, addresses
//! become X-Forwarded-For, durations of nginx's `name=value` are read, the rest is kept as it is.

use serde_json::Value;

use super::words::{self, Word};
use super::{Request, is_address, said};
use crate::sources::lines::time;

pub(super) fn parse(line: &str, now: u64) -> Option<Request> {
    let (before, at, after) = around_time(line, now)?;
    let mut request = Request { time: Some(at), ..Request::default() };
    let (request_line, rest) = words::quoted(after.trim_start())?;
    take_caller(&mut request, before)?;
    request.take_request_line(&request_line);
    let found = words::words(rest);
    let (status, rest) = found.split_first()?;
    request.status = status_of(status)?;
    let rest = match rest.split_first() {
        Some((bytes, rest)) if bytes.number().is_some() || bytes.bare() == Some("-") => {
            request.bytes = bytes.number();
            rest
        }
        _ => rest,
    };
    let rest = match rest {
        [Word::Quoted(referer), Word::Quoted(agent), rest @ ..] => {
            (request.referer, request.agent) = (said(referer), said(agent));
            rest
        }
        rest => rest,
    };
    take_rest(&mut request, rest, now);
    Some(request)
}

/// What stands before, within and after the brackets around the time.
fn around_time(line: &str, now: u64) -> Option<(&str, u64, &str)> {
    line.match_indices('[').take(4).find_map(|(at, _)| {
        let (before, rest) = line.split_at_checked(at)?;
        let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
        Some((before, time::of_text(inside, now)?, after))
    })
}

/// `-` where the server made no answer. Anything but a status is no line of this form.
fn status_of(word: &Word) -> Option<Option<u16>> {
    match word.bare()? {
        "-" => Some(None),
        digits => digits.parse().ok().filter(|status| *status < 1000).map(Some),
    }
}

/// The words before the time. `None` where there is nobody.
fn take_caller(request: &mut Request, before: &str) -> Option<()> {
    let mut parts: Vec<&str> = Vec::new();
    for word in before.split_whitespace() {
        // The ingress controller's older `[forwarded]`.
        match word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            Some(forwarded) if !is_address(word) => request.take_forwarded(forwarded),
            _ => parts.push(word),
        }
    }
    let second_is_address =
        parts.get(1).is_some_and(|word| is_address(word)) && parts.first().is_some_and(|word| !word.ends_with(','));
    let has_host = match parts.as_slice() {
        [first, ..] if is_address(first) => false,
        [_, _, ..] if second_is_address => true,
        // `vhost client.example - user`: an ident is a dash wherever anybody looks.
        [_, second, third, ..] => *second != "-" && *third == "-" && parts.len() >= 4,
        _ => false,
    };
    if has_host {
        request.host = said(parts.remove(0));
    }
    let mut addresses = Vec::new();
    while parts.first().is_some_and(|word| word.ends_with(',')) {
        addresses.push(parts.remove(0).trim_end_matches(','));
    }
    addresses.push(if parts.is_empty() { return None } else { parts.remove(0) });
    request.take_address(addresses.first()?);
    if addresses.len() > 1 {
        request.take_forwarded(&addresses.join(", "));
    }
    // ident, then the user, whose name may hold spaces.
    let user = match parts.as_slice() {
        [only] => (*only).to_owned(),
        [_ident, user @ ..] => user.iter().copied().skip_while(|word| *word == "-").collect::<Vec<_>>().join(" "),
        [] => String::new(),
    };
    request.user = said(&words::unescape(user.trim_matches('"')));
    Some(())
}

fn take_rest(request: &mut Request, rest: &[Word], now: u64) {
    match rest {
        // Traefik: requests so far, router, server, duration.
        [count, Word::Quoted(router), Word::Quoted(server), Word::Bare(duration), ..]
            if count.number().is_some() && duration.ends_with("ms") =>
        {
            request.server = Some("traefik");
            (request.route, request.upstream) = (said(router), said(server));
            request.duration_ms = duration.trim_end_matches("ms").parse().ok();
        }
        // The ingress controller: length, time, [upstream], [alternative], address, length, time, status, id.
        [length, Word::Bare(seconds), Word::Bracketed(upstream), tail @ ..] if length.number().is_some() => {
            request.server = Some("nginx");
            request.route = said(upstream);
            request.duration_ms = seconds.parse::<f64>().ok().map(|seconds| seconds * 1e3);
            let tail = match tail {
                [Word::Bracketed(_alternative), tail @ ..] => tail,
                tail => tail,
            };
            request.upstream = tail.first().and_then(|word| said(word.text()));
            request.request_id = tail.last().map(Word::text).filter(|id| id.len() == 32).and_then(said);
        }
        // HAProxy: port, milliseconds of the second, frontend, backend, server, timers …
        [port, _, Word::Quoted(frontend), Word::Quoted(backend), Word::Quoted(server), ..]
            if port.number().is_some_and(|port| port <= u16::MAX.into()) =>
        {
            request.server = Some("haproxy");
            request.port = port.number().and_then(|port| u16::try_from(port).ok());
            request.route = said(frontend);
            request.upstream = said(&format!("{backend}/{server}"));
        }
        rest => take_unknown(request, rest, now),
    }
}

fn take_unknown(request: &mut Request, rest: &[Word], _now: u64) {
    let mut unknown = Vec::new();
    for word in rest {
        match word {
            Word::Quoted(text) if request.forwarded.is_none() && text.split(',').all(|part| is_address(part.trim())) => {
                request.take_forwarded(text);
            }
            Word::Bare(text) if text.contains('=') => {
                let (name, value) = text.split_once('=').unwrap_or_default();
                let value = value.trim_matches('"');
                match name {
                    "rt" | "request_time" => request.duration_ms = value.parse::<f64>().ok().map(|seconds| seconds * 1e3),
                    "host" => request.host = said(value),
                    "request_id" | "rid" => request.request_id = said(value),
                    _ if !value.is_empty() => drop(request.extra.insert(name.to_owned(), Value::from(value))),
                    _ => {}
                }
            }
            other => unknown.extend(said(other.text())),
        }
    }
    if !unknown.is_empty() {
        request.extra.insert("columns".to_owned(), Value::from(unknown));
    }
}
