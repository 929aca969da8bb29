//! Lines of syslog in a file: `/var/log/auth.log`, `/var/log/secure`, `/var/log/messages`.
//!
//! Three shapes are told apart by their start: the classic `Mar 11 22:55:30 host sshd[3]: text`, rsyslog's with an RFC 3339
//! time, and RFC 5424's `<34>1 TIME HOST PROGRAM PID MSGID SD text`; a `<34>` may stand before each. The classic time has
//! neither year nor zone: it is the host's own zone, and the latest year that does not lie ahead of the reading. A line
//! without any header is what `sshd -E` and `dropbear -E` write. Pure; nothing here panics whatever a line holds.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::sources::journal::Entry;

/// A line taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogLine<'a> {
    /// Unix nanoseconds; none where the line has no header.
    pub time: Option<u64>,
    pub host: &'a str,
    /// As the program called itself; empty where the line has no header.
    pub program: &'a str,
    pub pid: Option<u32>,
    pub message: &'a str,
    /// PAM's module, which stood in the program's place until Linux-PAM 0.99: `sshd(pam_unix)[7]: text`.
    module: Option<&'a str>,
}

/// Lines may be ahead of this host's clock by this much before they are taken for last year's, hours.
const AHEAD_HOURS: i64 = 24;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl<'a> SyslogLine<'a> {
    /// `now`: the time of the reading, Unix nanoseconds. None only for an empty line.
    pub fn parse(line: &'a str, now: u64, zone: &TimeZone) -> Option<Self> {
        let line = line.trim_end().trim_start_matches('\u{feff}');
        if line.is_empty() {
            return None;
        }
        let (rest, has_priority) = match priority(line) {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        if has_priority && let Some(found) = rest.strip_prefix("1 ").and_then(modern) {
            return Some(found);
        }
        let headed = classic_time(rest, now, zone).or_else(|| stamped_time(rest));
        if let Some(found) = headed.and_then(|(time, rest)| Self::behind_time(time, rest)) {
            return Some(found);
        }
        Some(Self { time: None, host: "", program: "", pid: None, message: line.trim(), module: None })
    }

    /// `host sshd[3]: text`; to a host's own socket the C library writes `sshd[3]: text`
    fn behind_time(time: u64, rest: &'a str) -> Option<Self> {
        let rest = rest.trim_start();
        let (host, behind) = rest.split_once(' ')?;
        let (host, rest) = match host.strip_suffix(':') {
            Some(tag) if !tag.ends_with(':') => ("", rest),
            _ => (host, behind.trim_start()),
        };
        // A tag ends at its colon, or where it has none at the first space.
        let (tag, message) = match rest.split_once(':') {
            Some((tag, message)) if !tag.contains(' ') => (tag, message),
            _ => rest.split_once(' ').unwrap_or((rest, "")),
        };
        let (name, pid) = match tag.strip_suffix(']').and_then(|tag| tag.rsplit_once('[')) {
            Some((name, pid)) => (name, pid.parse().ok()),
            None => (tag, None),
        };
        let (program, module) = match name.strip_suffix(')').and_then(|name| name.split_once('(')) {
            Some((program, module)) if module.starts_with("pam_") => (program, Some(module)),
            _ => (name, None),
        };
        Some(Self { time: Some(time), host, program, pid, message: message.trim(), module })
    }

    /// The same line under the name of the program that wrote it without one.
    pub fn said_by<'b>(&self, program: &'b str) -> SyslogLine<'b>
    where
        'a: 'b,
    {
        SyslogLine { program, ..self.clone() }
    }

    /// The fields that the journal would have of it.
    pub fn entry(&self) -> Entry {
        let mut fields = BTreeMap::new();
        let mut put = |name: &str, value: String| fields.insert(name.to_owned(), value.into_bytes());
        put("SYSLOG_IDENTIFIER", self.program.to_owned());
        put(
            "MESSAGE",
            match self.module {
                // Today's form, with the stage that the old one did not name.
                Some(module) => format!("{module}({}:{}): {}", self.program, stage(self.message), self.message),
                None => self.message.to_owned(),
            },
        );
        if !self.host.is_empty() && self.host != "-" {
            put("_HOSTNAME", self.host.to_owned());
        }
        if let Some(pid) = self.pid {
            put("SYSLOG_PID", pid.to_string());
        }
        Entry { realtime_us: self.time.unwrap_or(0) / 1000, fields }
    }
}

/// Which of PAM's stages an old message is of.
fn stage(message: &str) -> &'static str {
    match message {
        text if text.starts_with("session ") => "session",
        text if text.starts_with("password changed") => "chauthtok",
        _ => "auth",
    }
}

/// What stands behind `<34>`.
fn priority(line: &str) -> Option<&str> {
    let (number, rest) = line.strip_prefix('<')?.split_once('>')?;
    let is_number = !number.is_empty() && number.len() <= 3 && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(rest)
}

/// RFC 5424 §6 behind its version: `TIME HOST PROGRAM PID MSGID SD text`.
fn modern(rest: &str) -> Option<SyslogLine<'_>> {
    let mut parts = rest.splitn(6, ' ');
    let time = parts.next().and_then(timestamp)?;
    let (host, program, pid, _msgid) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let rest = parts.next()?;
    let message = match rest.strip_prefix('-') {
        Some(message) => message,
        None => behind_structured_data(rest)?,
    };
    let message = message.trim_start().trim_start_matches('\u{feff}');
    Some(SyslogLine { time: Some(time), host, program, pid: pid.parse().ok(), message, module: None })
}

/// Behind `[id name="value"][…]`: in a value `\"`, `\\` and `\]` are escaped.
fn behind_structured_data(text: &str) -> Option<&str> {
    let (mut in_element, mut in_value, mut is_escaped) = (false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_value => is_escaped = true,
            '"' if in_element => in_value = !in_value,
            '[' if !in_element => in_element = true,
            ']' if !in_value => in_element = false,
            _ if in_element => {}
            _ => return text.get(at..),
        }
    }
    (!in_element).then_some("")
}

/// `2020-05-31T00:00:45.698463+00:00 rest`
fn stamped_time(line: &str) -> Option<(u64, &str)> {
    let (time, rest) = line.split_once(' ')?;
    Some((timestamp(time)?, rest))
}

fn timestamp(text: &str) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// `Mar 11 22:55:30 rest`, `Mar  6 04:07:28`, also with a year behind the day (some routers).
fn classic_time<'a>(line: &'a str, now: u64, zone: &TimeZone) -> Option<(u64, &'a str)> {
    let (month, rest) = line.split_once(' ')?;
    let month = i8::try_from(MONTHS.iter().position(|known| *known == month)?).ok()? + 1;
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let day: i8 = day.parse().ok()?;
    let (mut clock, mut rest) = rest.trim_start().split_once(' ')?;
    let mut year = None;
    if clock.len() == 4 && !clock.contains(':') {
        year = Some(clock.parse::<i16>().ok()?);
        (clock, rest) = rest.trim_start().split_once(' ')?;
    }
    let mut parts = clock.split(':');
    let (hour, minute, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    // A leap second is the last of its minute.
    let second = second.parse::<i8>().ok()?.min(59);
    let time = Time::new(hour.parse().ok()?, minute.parse().ok()?, second, fraction.parse().ok()?).ok()?;
    let now = Timestamp::from_nanosecond(i128::from(now)).ok()?;
    let latest = now.checked_add(AHEAD_HOURS.hours()).ok()?;
    let this_year = latest.to_zoned(zone.clone()).year();
    // 29 February is of the last leap year.
    let years = year.map_or((this_year.saturating_sub(8)..=this_year).rev().collect::<Vec<_>>(), |year| vec![year]);
    let found = years.into_iter().find_map(|year| {
        let date = Date::new(year, month, day).ok()?;
        let found = zone.to_timestamp(DateTime::from_parts(date, time)).ok()?;
        (found <= latest || year != this_year).then_some(found)
    })?;
    Some((u64::try_from(found.as_nanosecond()).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-23T23:00:00Z.
    const NOW: u64 = 1_795_474_800_000_000_000;

    fn parse(line: &str) -> SyslogLine<'_> {
        SyslogLine::parse(line, NOW, &TimeZone::UTC).unwrap()
    }

    fn told(line: &str) -> (String, &str, &str, Option<u32>, &str) {
        let line = parse(line);
        let time = line.time.map(edgetrail_proto::record::format_time).unwrap_or_default();
        (time, line.host, line.program, line.pid, line.message)
    }

    #[test]
    fn every_shape_of_a_line_is_read() {
        let text = "Accepted password for a from 192.0.2.1 port 1 ssh2";
        let expected = |time: &str| (time.to_owned(), "web-1", "sshd", Some(3), text);
        assert_eq!(told(&format!("Mar  6 04:07:28 web-1 sshd[3]: {text}")), expected("2026-03-06T04:07:28Z"));
        assert_eq!(told(&format!("<38>Dec 31 23:59:60 web-1 sshd[3]:  {text}")), expected("2025-12-31T23:59:59Z"));
        assert_eq!(told(&format!("Mar 06 2024 04:07:28 web-1 sshd[3]: {text}")), expected("2024-03-06T04:07:28Z"));
        assert_eq!(told(&format!("2020-05-31T02:00:45.698463+02:00 web-1 sshd[3]: {text}")), expected("2020-05-31T00:00:45Z"));
        let modern = format!("<38>1 2020-05-31T00:00:45Z web-1 sshd 3 - [a b=\"]\\\"\"][c] \u{feff}{text}");
        assert_eq!(told(&modern), expected("2020-05-31T00:00:45Z"));
        assert_eq!(told(text), (String::new(), "", "", None, text));
        assert_eq!(told("Mar 6 04:07:28 web-1 kernel this is text").2, "kernel");
        let without_host = format!("<38>Mar  6 04:07:28 sshd[3]: {text}");
        assert_eq!(told(&without_host), ("2026-03-06T04:07:28Z".to_owned(), "", "sshd", Some(3), text));
    }

    #[test]
    fn a_leap_day_is_of_a_leap_year_and_tomorrow_is_not_last_year() {
        assert_eq!(told("Feb 29 00:00:00 h p: x").0, "2024-02-29T00:00:00Z");
        assert_eq!(told("Nov 24 12:00:00 h p: x").0, "2026-11-24T12:00:00Z");
        assert_eq!(told("Nov 26 12:00:00 h p: x").0, "2025-11-26T12:00:00Z");
    }

    #[test]
    fn the_old_form_of_pam_becomes_todays() {
        let line = parse("Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; logname= uid=0 rhost=192.0.2.4");
        assert_eq!((line.program, line.pid), ("sshd", Some(19939)));
        assert_eq!(
            line.entry().text("MESSAGE").as_deref(),
            Some("pam_unix(sshd:auth): authentication failure; logname= uid=0 rhost=192.0.2.4")
        );
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,80}|(<[0-9]{0,4}>)?(1 )?(Mar|Feb) [0-9]{0,3} [0-9:.]{0,12} .{0,20}") {
            if let Some(line) = SyslogLine::parse(&line, NOW, &TimeZone::UTC) {
                let _ = line.entry();
            }
        }

        #[test]
        fn structured_data_never_panics(text in "[\\[\\]\"\\\\ a-z=]{0,40}") {
            let line = format!("<1>1 2020-05-31T00:00:45Z h p 1 - {text}");
            let _ = SyslogLine::parse(&line, NOW, &TimeZone::UTC);
        }
    }
}
