//! Numbers and instants of conditions, exact: no float is near enough to be a bound.

use std::cmp::Ordering;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A decimal number without exponent, of any length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// Digits before the point, without leading zeros; none for zero.
    whole: String,
    /// Digits behind the point, without trailing zeros.
    fraction: String,
}

impl Decimal {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) =
            text.strip_prefix('-').map_or((false, text.strip_prefix('+').unwrap_or(text)), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        // There is one zero.
        Some(Self { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = |one: &Self, other: &Self| {
            one.whole
                .len()
                .cmp(&other.whole.len())
                .then_with(|| one.whole.cmp(&other.whole))
                .then_with(|| one.fraction.cmp(&other.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `2026-01-31T12:00:00Z` with any offset, a day (its first instant in UTC), or Unix seconds.
/// Source: IAM User Guide, "Date condition operators": W3C's profile of ISO 8601, or epoch time.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_second(text.parse().ok()?).ok();
    }
    if text.contains(['T', 't']) {
        return text.parse().ok();
    }
    let day: Date = text.parse().ok()?;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_by_what_they_are() {
        let rising = [
            "-100",
            "-10.5",
            "-10.25",
            "-1",
            "0",
            "0.09",
            "0.1",
            "1",
            "1.00001",
            "9",
            "10",
            "18446744073709551615",
            "18446744073709551616",
        ];
        for (at, one) in rising.iter().enumerate() {
            for (behind, other) in rising.iter().enumerate() {
                assert_eq!(Decimal::parse(one).unwrap().cmp(&Decimal::parse(other).unwrap()), at.cmp(&behind), "{one} {other}");
            }
        }
        for (one, other) in [("1", "1.0"), ("-0", "0"), ("007", "7"), ("+5", "5"), ("1.50", "1.5")] {
            assert_eq!(Decimal::parse(one), Decimal::parse(other));
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", "-", ".5", "5.", "1e3", "NaN", "inf", "1,5", "0x1", " 1", "--1", "1.2.3"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_instant_is_the_same_however_it_is_written() {
        let wanted = Timestamp::from_second(1_767_225_600).unwrap();
        for text in [
            "2026-01-01T00:00:00Z",
            "2026-01-01",
            "1767225600",
            "2026-01-01T01:00:00+01:00",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00.000Z",
        ] {
            assert_eq!(instant(text), Some(wanted), "{text}");
        }
        for text in ["", "yesterday", "2026-01-01T00:00:00", "2026-13-01", "-5", "99999999999999999999", "2026-02-30"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
