//! The trace in which a request was made. Source: W3C Trace Context, `traceparent` and `tracestate`.

use http::HeaderMap;

/// A trace as its header says it. Ids are lower-case hexadecimal and not all zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    pub trace_id: String,
    /// The caller's span.
    pub span_id: String,
    pub flags: String,
    /// `tracestate`, where it is short enough to be passed on.
    pub state: Option<String>,
}

/// Longest tracestate that is kept, in bytes. Source: W3C Trace Context §3.3.1.5, what everybody should pass on.
const STATE_BYTES_MAX: usize = 512;

impl Trace {
    /// `None` where there is no header, or none that can be understood.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parts = headers.get("traceparent")?.to_str().ok()?.trim().split('-');
        let mut part = |digits: usize| {
            let is_hex = |part: &&str| part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            parts.next().filter(is_hex).map(str::to_owned)
        };
        let (version, trace_id, span_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_zero = |id: &str| id.bytes().all(|b| b == b'0');
        // Later versions may say more behind what is read here; the first may not.
        let has_more = parts.next().is_some();
        if version == "ff" || version == "00" && has_more || is_zero(&trace_id) || is_zero(&span_id) {
            return None;
        }
        let state = headers.get("tracestate").and_then(|value| value.to_str().ok()).map(str::trim);
        let state = state.filter(|state| !state.is_empty() && state.len() <= STATE_BYTES_MAX).map(str::to_owned);
        Some(Self { trace_id, span_id, flags, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parent: &str) -> Option<Trace> {
        let headers = [("traceparent", parent), ("tracestate", "a=1,b=2")];
        Trace::of(&headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_of_any_version_is_read_and_a_malformed_one_ignored() {
        let trace = of(PARENT).unwrap();
        assert_eq!((trace.trace_id.as_str(), trace.span_id.as_str()), ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"));
        assert_eq!((trace.flags.as_str(), trace.state.as_deref()), ("01", Some("a=1,b=2")));
        assert!(
            of(&PARENT.replacen("00", "01", 1)).is_some() && of(&format!("{}-more", PARENT.replacen("00", "cc", 1))).is_some()
        );
        for wrong in [
            "",
            "00",
            &PARENT.replacen("00", "ff", 1),
            &format!("{PARENT}-more"),
            &PARENT.to_uppercase(),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(Trace::of(&HeaderMap::new()), None);
    }
}
