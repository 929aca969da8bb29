//! Envoy's default text format, and Istio's, which has some columns more.
//!
//! `[START_TIME] "METHOD PATH PROTOCOL" CODE FLAGS … BYTES_IN BYTES_OUT DURATION UPSTREAM_TIME "FORWARDED" "AGENT" "ID" "HOST" "UPSTREAM" …`

use super::words::{self, Word};
use super::{Request, said};
use crate::sources::lines::time;

pub(super) fn parse(line: &str, now: u64) -> Option<Request> {
    let (at, rest) = line.strip_prefix('[')?.split_once(']')?;
    let time = time::of_text(at, now)?;
    let (request_line, rest) = words::quoted(rest.trim_start())?;
    let found = words::words(rest);
    let [code, flags, rest @ ..] = found.as_slice() else { return None };
    let status: u16 = code.bare()?.parse().ok()?;
    // Istio tells here why a request failed; the counts come behind.
    let counts = rest.windows(2).position(|pair| pair.iter().all(|word| word.number().is_some()))?;
    let (reasons, rest) = rest.split_at_checked(counts)?;
    let mut request = Request { server: Some("envoy"), time: Some(time), ..Request::default() };
    request.take_request_line(&request_line);
    request.status = (status != 0).then_some(status);
    request.error = said(flags.text());
    if let Some(reason) = reasons.iter().rev().find_map(|word| said(word.text())).filter(|reason| reason != "via_upstream") {
        request.error = Some(request.error.map_or_else(|| reason.clone(), |flags| format!("{flags}: {reason}")));
    }
    request.bytes = rest.get(1).and_then(Word::number);
    request.duration_ms = rest.get(2).and_then(|word| word.bare()?.parse().ok());
    let texts: Vec<Option<String>> = rest.iter().filter_map(Word::quoted).map(said).collect();
    let text = |index: usize| texts.get(index).cloned().flatten();
    request.forwarded = text(0);
    request.agent = text(1);
    request.request_id = text(2);
    request.host = text(3);
    request.upstream = text(4);
    // Behind the last quoted: cluster, local addresses, the caller's address, server name, route.
    let last = rest.iter().rposition(|word| word.quoted().is_some()).unwrap_or(0);
    if let [cluster, _local, _downstream, remote, ..] = rest.get(last + 1..).unwrap_or_default() {
        request.upstream = said(cluster.text()).or(request.upstream);
        request.take_address(remote.text());
        request.route = rest.last().and_then(|word| said(word.text()));
    }
    // Envoy itself appended the last: the one that it saw.
    if request.address.is_none()
        && let Some(last) = request.forwarded.clone().and_then(|list| list.rsplit(',').next().map(str::to_owned))
    {
        request.take_address(&last);
    }
    Some(request)
}
