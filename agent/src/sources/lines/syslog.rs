//! Syslog messages: RFC 5424, RFC 3164 and what programs really send instead of it.
//!
//! Never refuses: RFC 3164 takes any text as a message. What is not there is `None`, the text then is all that came.

use super::time;

/// One message. Source of the parts: RFC 5424 §6, RFC 3164 §4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// `facility * 8 + severity`, at most 191.
    pub priority: Option<u8>,
    /// Unix nanoseconds.
    pub time: Option<u64>,
    pub host: Option<&'a str>,
    pub program: Option<&'a str>,
    pub process: Option<&'a str>,
    /// RFC 5424's MSGID.
    pub id: Option<&'a str>,
    /// RFC 5424's structured data as it was written.
    pub data: Option<&'a str>,
    pub text: &'a str,
}

/// Highest priority: local7.debug.
const PRIORITY_MAX: u8 = 191;

/// Longest host name. Source: RFC 5424 §6.
const HOST_BYTES_MAX: usize = 255;

/// Longest program's name: RFC 5424's 48 and what long unit names need.
const PROGRAM_BYTES_MAX: usize = 128;

pub fn parse(line: &str, now: u64) -> Message<'_> {
    let (priority, rest) = priority(line);
    if let Some(message) = rest.strip_prefix("1 ").filter(|_| priority.is_some()).and_then(|rest| rfc5424(rest, now)) {
        return Message { priority, ..message };
    }
    Message { priority, ..rfc3164(rest, now) }
}

/// `facility` and `severity` by their names. Source: RFC 5424 §6.2.1, syslog(3).
pub const fn facility(priority: u8) -> &'static str {
    const NAMES: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit",
        "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    let index = (priority >> 3) as usize;
    if index < NAMES.len() { NAMES[index] } else { "unknown" }
}

pub const fn severity(priority: u8) -> &'static str {
    const NAMES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    NAMES[(priority & 7) as usize]
}

fn priority(line: &str) -> (Option<u8>, &str) {
    let read = || {
        let (digits, rest) = line.strip_prefix('<')?.split_once('>')?;
        let number: u8 = digits.parse().ok().filter(|number| *number <= PRIORITY_MAX)?;
        (digits.len() <= 3).then_some((number, rest))
    };
    read().map_or((None, line), |(number, rest)| (Some(number), rest))
}

/// `TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`, after the version.
fn rfc5424(rest: &str, now: u64) -> Option<Message<'_>> {
    let mut parts = rest.splitn(6, ' ');
    let (at, host, program, process, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let tail = parts.next().unwrap_or("-");
    let time = if at == "-" { None } else { Some(time::of_text(at, now)?) };
    let (data, text) = match tail.strip_prefix('-') {
        Some(text) => (None, text),
        None => {
            let end = structured_end(tail)?;
            let (data, text) = tail.split_at_checked(end)?;
            (Some(data), text)
        }
    };
    let text = text.strip_prefix(' ').unwrap_or(text);
    let said = |text| if text == "-" { None } else { Some(text) };
    Some(Message {
        priority: None,
        time,
        host: said(host),
        program: said(program),
        process: said(process),
        id: said(id),
        data,
        text: text.strip_prefix('\u{feff}').unwrap_or(text),
    })
}

/// Where `[id a="b"][…]` ends.
fn structured_end(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped, mut inside) = (false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if inside => quoted = !quoted,
            _ if quoted => {}
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            _ if !inside => return (at > 0).then_some(at),
            _ => {}
        }
    }
    (!inside && !text.is_empty()).then_some(text.len())
}

/// `TIME HOST PROGRAM[PID]: TEXT`, each of the first three or the host alone missing.
fn rfc3164(rest: &str, now: u64) -> Message<'_> {
    if let Some(message) = numbered(rest, now) {
        return message;
    }
    let Some((time, after)) = time_before(rest, now) else {
        return program_before(rest).unwrap_or(Message { text: rest, ..Message::default() });
    };
    // Without a host, what follows the time is the program.
    let with_host = || {
        let (host, behind) = after.split_once(' ')?;
        let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX && !host.ends_with(':') && !host.contains('[');
        let behind = behind.trim_start();
        let message = match behind.strip_prefix(": ") {
            // Cisco's ASA: the tag is empty, or its mnemonic stands there alone.
            Some(text) => Some(Message { text, ..Message::default() }),
            None if behind.starts_with('%') => Some(Message { text: behind, ..Message::default() }),
            None => program_before(behind).or_else(|| is_address(host).then(|| Message { text: behind, ..Message::default() })),
        };
        is_host.then_some(Message { host: Some(host), ..message? })
    };
    let found = with_host().or_else(|| program_before(after));
    let message = found.unwrap_or(Message { text: after, ..Message::default() });
    Message { time: Some(time), ..message }
}

/// Cisco's IOS: `NUMBER: [HOST: ][*|.]TIME[ ZONE]: %FACILITY-SEVERITY-MNEMONIC: TEXT`.
fn numbered(rest: &str, now: u64) -> Option<Message<'_>> {
    let (number, behind) = rest.split_once(": ")?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, at) = match behind.split_once(": ") {
        Some((host, at)) if !host.contains([' ', '%']) && !host.is_empty() => (Some(host), at),
        _ => (None, behind),
    };
    let (time, text) = match at.split_once(": ") {
        Some((stamp, text)) if !stamp.starts_with('%') => (Some(time::of_text(stamp.trim_start_matches(['*', '.']), now)?), text),
        _ => (None, at),
    };
    text.starts_with('%').then_some(Message { time, host, text, ..Message::default() })
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// A time that the text begins with: `Feb  6 12:14:14`, with a year or without, or ISO 8601.
fn time_before(text: &str, now: u64) -> Option<(u64, &str)> {
    match text.as_bytes().first()? {
        b'0'..=b'9' => {
            let (first, rest) = text.split_once(' ')?;
            first.contains('T').then_some(())?;
            Some((time::of_text(first, now)?, rest))
        }
        b'A'..=b'Z' => {
            let end = text.match_indices(' ').map(|(at, _)| at).find(|at| {
                let head = text.get(..*at).unwrap_or_default().trim_end_matches(':');
                head.ends_with(|c: char| c.is_ascii_digit()) && head.contains(':')
            })?;
            let (head, rest) = text.split_at_checked(end)?;
            let rest = rest.trim_start();
            // Some write the year behind the clock.
            let year = rest.split_once(' ').filter(|(year, _)| year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit()));
            if let Some((year, rest)) = year
                && let Some(time) = time::of_text(&format!("{head} {year}"), now)
            {
                return Some((time, rest.trim_start()));
            }
            Some((time::of_text(head.trim_end_matches(':'), now)?, rest))
        }
        _ => None,
    }
}

/// `PROGRAM[PID]: TEXT` or `PROGRAM: TEXT`.
fn program_before(text: &str) -> Option<Message<'_>> {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, ':' | '['))?;
    let (program, rest) = text.split_at_checked(end)?;
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@' | '(' | ')');
    let is_named = program.chars().all(is_name) && program.chars().any(char::is_alphabetic);
    if program.len() > PROGRAM_BYTES_MAX || !is_named {
        return None;
    }
    let (process, rest) = match rest.strip_prefix('[') {
        Some(inside) => {
            let (process, rest) = inside.split_once(']')?;
            (Some(process), rest)
        }
        None => (None, rest),
    };
    let text = rest.strip_prefix(':')?;
    Some(Message { program: Some(program), process, text: text.strip_prefix(' ').unwrap_or(text), ..Message::default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000_000_000_000;

    #[test]
    fn the_new_format_is_read_with_its_structured_data() {
        let line = r#"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 77 ID47 [ex@32473 iut="3" v="a\"]b"][x y="z"] An event"#;
        let message = parse(line, NOW);
        assert_eq!(message.priority.map(|it| (facility(it), severity(it))), Some(("local4", "notice")));
        assert_eq!(
            (message.host, message.program, message.process),
            (Some("mymachine.example.com"), Some("evntslog"), Some("77"))
        );
        assert_eq!(message.id, Some("ID47"));
        assert_eq!(message.data, Some(r#"[ex@32473 iut="3" v="a\"]b"][x y="z"]"#));
        assert_eq!((message.text, message.time), ("An event", Some(1_065_910_455_003_000_000)));
        let message = parse("<34>1 - - su - - - \u{feff}failed", NOW);
        assert_eq!((message.program, message.data, message.text), (Some("su"), None, "failed"));
    }

    #[test]
    fn the_old_format_is_read_as_it_is_really_sent() {
        for (line, host, program, process, text) in [
            ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed", Some("mymachine"), Some("su"), None, "'su root' failed"),
            ("<13>Oct 11 22:14:15 sshd[12]: x", None, Some("sshd"), Some("12"), "x"),
            ("<13>Oct 11 2023 22:14:15 fw %ASA-6-302: y", Some("fw"), None, None, "%ASA-6-302: y"),
            ("<13>Oct 11 2023 22:14:15: %ASA-6-302: y", None, None, None, "%ASA-6-302: y"),
            ("<13>Oct 11 22:14:15 2023 fw app[3]: y", Some("fw"), Some("app"), Some("3"), "y"),
            ("<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!", Some("10.0.0.99"), None, None, "Use the BFG!"),
            ("<189>29: R1: *Mar  1 18:48:50.483 UTC: %SYS-5-X: z", Some("R1"), None, None, "%SYS-5-X: z"),
            ("<189>29: %SYS-5-X: z", None, None, None, "%SYS-5-X: z"),
            ("<13>2023-10-11T22:14:15+02:00 web CRON[7]: z", Some("web"), Some("CRON"), Some("7"), "z"),
            ("<13>app: no time", None, Some("app"), None, "no time"),
            ("just text", None, None, None, "just text"),
            ("<999>text", None, None, None, "<999>text"),
            ("", None, None, None, ""),
        ] {
            let message = parse(line, NOW);
            let found = (message.host, message.program, message.process, message.text);
            assert_eq!(found, (host, program, process, text), "{line}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(line in "\\PC{0,80}|<[0-9]{1,3}>1 [-\\[\\]\"\\\\ a-z=]{0,60}") {
            let _message = parse(&line, NOW);
        }
    }
}
