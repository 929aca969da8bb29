//! What container runtimes and syslog daemons put around a program's line: Docker's JSON, CRI's prefix, a syslog header.
//!
//! Peeled off before the line is read; what they say of time, host and program is kept, for the line itself may not.

use std::borrow::Cow;

use serde::Deserialize;

use super::cri::Part;
use super::{syslog, time};

/// A line without what was around it.
#[derive(Debug, Default)]
pub struct Peeled<'a> {
    pub line: Cow<'a, str>,
    /// When the runtime or daemon got it, Unix nanoseconds.
    pub time: Option<u64>,
    /// The host that a syslog header names.
    pub host: Option<String>,
    /// The program that it names.
    pub program: Option<String>,
}

/// Docker's `json-file` driver.
#[derive(Deserialize)]
struct DockerLine<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
}

impl<'a> Peeled<'a> {
    /// Of any line; one without anything around it stays as it is.
    pub fn of(line: &'a str, now: u64) -> Self {
        Self::docker(line, now)
            .or_else(|| Self::cri(line, now))
            .or_else(|| Self::syslog(line, now))
            .unwrap_or_else(|| Self { line: Cow::Borrowed(line), ..Self::default() })
    }

    fn docker(line: &'a str, now: u64) -> Option<Self> {
        if !line.starts_with("{\"log\":") {
            return None;
        }
        let DockerLine { log, stream, time } = serde_json::from_str(line).ok()?;
        stream?;
        let line = match log {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_end_matches(['\n', '\r'])),
            Cow::Owned(text) => Cow::Owned(text.trim_end_matches(['\n', '\r']).to_owned()),
        };
        Some(Self { line, time: time.and_then(|text| time::of_text(&text, now)), ..Self::default() })
    }

    /// `2025-12-31T17:37:40.493035218+01:00 stdout F …`.
    fn cri(line: &'a str, now: u64) -> Option<Self> {
        let Part { time: at, text, .. } = Part::of(line.as_bytes())?;
        let (at, text) = (std::str::from_utf8(at).ok()?, std::str::from_utf8(text).ok()?);
        Some(Self { line: Cow::Borrowed(text), time: Some(time::of_text(at, now)?), ..Self::default() })
    }

    /// Only a header whose time and program are there: a log's own beginning may look like a part of one.
    fn syslog(line: &'a str, now: u64) -> Option<Self> {
        let message = syslog::parse(line, now);
        let known = message.time.is_some() && message.program.is_some();
        known.then(|| Self {
            line: Cow::Borrowed(message.text),
            time: message.time,
            host: message.host.map(str::to_owned),
            program: message.program.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_comes_out_of_what_is_around_it() {
        for (line, inner) in [
            (r#"{"log":"GET \"x\"\n","stream":"stdout","time":"2021-08-24T09:52:13.2Z"}"#, "GET \"x\""),
            ("2025-12-31T17:37:40.493035218+01:00 stdout F {\"a\":1}", "{\"a\":1}"),
            ("Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.2:33317 [x]", "10.0.1.2:33317 [x]"),
            ("<134>Feb  6 12:14:14 localhost nginx: 192.0.2.1 - -", "192.0.2.1 - -"),
            ("<134>1 2021-08-24T09:52:13Z web nginx 7 - - hello", "hello"),
        ] {
            let peeled = Peeled::of(line, 1_700_000_000_000_000_000);
            assert_eq!((peeled.line.as_ref(), peeled.time.is_some()), (inner, true), "{line}");
        }
        for line in [r#"{"log":"x"}"#, "1.2.3.4 - - [x]", "", "2021-01-01 stdout F x"] {
            assert_eq!(Peeled::of(line, 0).line, line);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,60}") {
            let _peeled = Peeled::of(&line, 0);
        }
    }
}
