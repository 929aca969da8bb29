//! Times as logs write them, in Unix nanoseconds.
//!
//! A time without a zone is the host's own: its daemons write local time. A time without a year is of the latest year in
//! which it lies at most a day ahead of the reading.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use serde_json::Value;

/// Above these, a bare number counts milliseconds, microseconds, nanoseconds: seconds of the year 5138, and on.
const SECONDS_MAX: u64 = 100_000_000_000;

/// Of a text or number, whatever its form. `now` in Unix nanoseconds.
pub fn of_value(value: &Value, now: u64) -> Option<u64> {
    match value {
        Value::String(text) => of_text(text, now),
        Value::Number(number) => of_number(&number.to_string()),
        _ => None,
    }
}

/// Of a text in any of the forms that logs use.
pub fn of_text(text: &str, now: u64) -> Option<u64> {
    let text = text.trim();
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    match text.as_bytes() {
        [b'0'..=b'9', ..] if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => of_number(text),
        [b'0'..=b'9', b'0'..=b'9' | b'/', rest @ ..] if rest.iter().take(4).any(u8::is_ascii_alphabetic) => common(text),
        [b'0'..=b'9', ..] => iso(text),
        [b'A'..=b'Z', ..] => named(text, now),
        _ => None,
    }
}

/// Longest text that is looked at as a time.
const TEXT_BYTES_MAX: usize = 64;

/// Decimal digits, exactly: a float would lose the last of them.
fn of_number(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: u64 = whole.parse().ok()?;
    let per_unit: u64 = match whole {
        n if n < SECONDS_MAX => 1_000_000_000,
        n if n < SECONDS_MAX * 1000 => 1_000_000,
        n if n < SECONDS_MAX * 1_000_000 => 1000,
        _ => 1,
    };
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let billionths: u64 = digits.parse().ok()?;
    whole.checked_mul(per_unit)?.checked_add(billionths.checked_mul(per_unit)? / 1_000_000_000)
}

/// `08/Jun/2020:06:49:01 +0000`, with or without a fraction and a zone.
fn common(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once(':')?;
    let mut parts = date.split('/');
    let (day, month, year) = (parts.next()?, month(parts.next()?)?, parts.next()?);
    let (clock, zone) = clock.split_once(' ').unwrap_or((clock, ""));
    stamp(civil(year.parse().ok()?, month, day.parse().ok()?, clock)?, zone.trim())
}

/// `2020-06-08T06:49:01.5Z`, `2020-06-08 06:49:01,500 +02:00`, `2021/12/01 13:53:33`, `… UTC`.
fn iso(text: &str) -> Option<u64> {
    let (year, month, day) = (text.get(..4)?, text.get(5..7)?, text.get(8..10)?);
    let between = (text.as_bytes().get(4)?, text.as_bytes().get(7)?);
    if !matches!(between, (b'-', b'-') | (b'/', b'/')) {
        return None;
    }
    let rest = text.get(10..)?.trim_start_matches(['T', 't', ' ']);
    let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.' | ','))).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at_checked(end)?;
    stamp(civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?, clock)?, zone.trim())
}

/// `Thu Oct 13 12:24:49.880562 2022`, `Oct 13 12:24:49`, `Oct 13 12:24:49 2022`, `Mon, 02 Jan 2006 15:04:05 GMT`.
fn named(text: &str, now: u64) -> Option<u64> {
    let mut words = text.split([' ', ',']).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_some_and(|word| month(word).is_none()) {
        words.next();
    }
    let first = words.next()?;
    let (month, day) = match month(first) {
        Some(month) => (month, words.next()?.parse().ok()?),
        None => (month(words.next()?)?, first.parse().ok()?),
    };
    let third = words.next()?;
    let (clock, year) = if third.contains(':') { (third, words.next()) } else { (words.next()?, Some(third)) };
    if let Some(year) = year.and_then(|year| year.parse().ok()) {
        return stamp(civil(year, month, day, clock)?, words.next().unwrap_or(""));
    }
    let zone = year.unwrap_or("");
    let latest = now.saturating_add(AHEAD_MAX);
    let year = Timestamp::from_nanosecond(i128::from(latest)).ok()?.to_zoned(TimeZone::UTC).year();
    // 29 February is of the last leap year. A zone may be in the next year already.
    let candidates = (-8i16..=1).rev().filter_map(|by| stamp(civil(year.checked_add(by)?, month, day, clock)?, zone));
    candidates.into_iter().find(|time| *time <= latest)
}

/// How far ahead of this host's clock a time may lie, nanoseconds.
const AHEAD_MAX: u64 = 24 * 60 * 60 * 1_000_000_000;

/// English month names, shortened.
fn month(text: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let short = text.get(..3)?.to_ascii_lowercase();
    let is_whole = text.len() == 3 || text.bytes().all(|byte| byte.is_ascii_alphabetic());
    (1i8..).zip(MONTHS).find(|(_, name)| is_whole && *name == short).map(|(number, _)| number)
}

/// `clock` is `HH:MM:SS` with a fraction after `.` or `,`.
fn civil(year: i16, month: i8, day: i8, clock: &str) -> Option<DateTime> {
    let (whole, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let mut parts = whole.split(':').map(str::parse::<i8>);
    let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
    // A leap second is the second before it.
    let second = parts.next().map_or(Some(0), Result::ok)?.min(59);
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    DateTime::new(year, month, day, hour, minute, second, digits.parse().ok()?).ok()
}

fn stamp(at: DateTime, zone: &str) -> Option<u64> {
    let zone = match zone {
        "Z" | "z" | "UTC" | "GMT" => TimeZone::UTC,
        "" => TimeZone::system(),
        _ => offset(zone).map_or_else(TimeZone::system, |offset| offset.to_time_zone()),
    };
    u64::try_from(at.to_zoned(zone).ok()?.timestamp().as_nanosecond()).ok()
}

/// `+0200`, `+02:00`, `-07`.
fn offset(zone: &str) -> Option<Offset> {
    let (sign, digits) = zone.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4).map_or(Ok(0), str::parse).ok()?;
    Offset::from_seconds(sign * (hours.checked_mul(60)?.checked_add(minutes)?).checked_mul(60)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> String {
        let now = of_text("2022-01-03T00:00:00Z", 0).unwrap();
        of_text(text, now).map_or_else(|| "none".to_owned(), |ns| Timestamp::from_nanosecond(ns.into()).unwrap().to_string())
    }

    #[test]
    fn every_form_that_logs_use_is_read() {
        for (text, expected) in [
            ("08/Jun/2020:06:49:01 +0000", "2020-06-08T06:49:01Z"),
            ("29/Jul/2023:10:26:06 -0700", "2023-07-29T17:26:06Z"),
            ("06/Feb/2009:12:14:14.655 +0100", "2009-02-06T11:14:14.655Z"),
            ("2016-04-15T20:17:00.310Z", "2016-04-15T20:17:00.31Z"),
            ("2025-12-31T17:37:40.493035218+01:00", "2025-12-31T16:37:40.493035218Z"),
            ("2024-01-02 03:04:05.678 UTC", "2024-01-02T03:04:05.678Z"),
            ("2024-01-02 03:04:05,678+0000", "2024-01-02T03:04:05.678Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.25", "2023-11-14T22:13:20.25Z"),
            ("1700000000123", "2023-11-14T22:13:20.123Z"),
            ("1700000000123456", "2023-11-14T22:13:20.123456Z"),
            ("1700000000123456789", "2023-11-14T22:13:20.123456789Z"),
            ("Mon, 02 Jan 2006 15:04:05 GMT", "2006-01-02T15:04:05Z"),
            ("Thu Oct 13 12:24:49.880562 2022 +0000", "2022-10-13T12:24:49.880562Z"),
            ("Dec 31 23:59:59 UTC", "2021-12-31T23:59:59Z"),
            ("30/Feb/2020:06:49:01 +0000", "none"),
            ("soon", "none"),
            ("", "none"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
        assert_eq!(of_value(&serde_json::json!(1_700_000_000.5), 0), Some(1_700_000_000_500_000_000));
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "\\PC{0,40}|[0-9/:T .,+A-Za-z-]{0,40}", number in "[0-9.eE-]{0,30}") {
            let _either = (of_text(&text, 0), of_number(&number));
        }
    }
}
