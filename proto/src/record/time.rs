//! eventTime: whole seconds, UTC, `YYYY-MM-DDTHH:MM:SSZ`; inside Edgetrail, Unix nanoseconds.
//!
//! Never panics on any text; a time before 1970 or after 2554 has no place in a u64 of nanoseconds and is refused.

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

const DAY_SECONDS: u64 = 86_400;

/// `YYYY-MM-DDTHH:MM:SSZ` of Unix nanoseconds, cut to the second.
pub fn format_time(unix_ns: u64) -> String {
    let seconds = unix_ns / SECOND;
    let (year, month, day) = civil_of_days(seconds / DAY_SECONDS);
    let of_day = seconds % DAY_SECONDS;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Unix nanoseconds of an RFC 3339 time; `None` where it is none or lies outside a u64.
pub fn parse_time(text: &str) -> Option<u64> {
    if let Some(seconds) = parse_whole_seconds(text.as_bytes()) {
        return seconds.checked_mul(SECOND);
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// CloudTrail's own form, by far the commonest: no allocation, no calendar library.
fn parse_whole_seconds(text: &[u8]) -> Option<u64> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1, b'Z'] = text else {
        return None;
    };
    let two = |tens: u8, ones: u8| -> Option<u64> {
        (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| u64::from(tens - b'0') * 10 + u64::from(ones - b'0'))
    };
    let year = two(y0, y1)? * 100 + two(y2, y3)?;
    let (month, day) = (two(m0, m1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(n0, n1)?, two(s0, s1)?);
    if year < 1970 || !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(days_of_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar from 1970 on. Years are counted from March, so that the
/// leap day is the last of its year.
const fn days_of_civil(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - MARCH_0_TO_1970
}

/// Days from 0000-03-01 to 1970-01-01.
const MARCH_0_TO_1970: u64 = 719_468;

const fn civil_of_days(days: u64) -> (u64, u64, u64) {
    let days = days + MARCH_0_TO_1970;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_what_the_calendar_says() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2024-05-01T20:56:00Z", 1_714_596_960),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(parse_time(text), Some(seconds * SECOND), "{text}");
            assert_eq!(format_time(seconds * SECOND + 999), text);
        }
    }

    #[test]
    fn other_forms_of_rfc_3339_are_read() {
        assert_eq!(parse_time("1970-01-01T01:00:00.5+01:00"), Some(SECOND / 2));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2024-01-01T24:00:00Z", "x"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_second_round_trips_and_agrees_with_jiff(seconds in 0..u64::MAX / SECOND) {
            let text = format_time(seconds * SECOND);
            prop_assert_eq!(parse_time(&text), Some(seconds * SECOND));
            let by_jiff = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap().to_string();
            prop_assert_eq!(text, by_jiff);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_time(&text);
        }
    }
}
