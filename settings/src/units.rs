//! Durations, sizes and names as people write them.

use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// `"10s"`, `"5m"`, `"1h 30m"`, `"90d"`, `"200ms"`, or whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// `"2GiB"`, `"512 MiB"`, `"1GB"`, or whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Text that its own type reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

/// `10s`, `5m`, `1h 30m`, `90d`, `200ms`. Jiff's friendly form counts no days without a calendar; here one has 24 hours.
pub fn duration(text: &str) -> Option<Duration> {
    if let Some(days) = text.trim().strip_suffix('d').and_then(|days| days.trim().parse::<u64>().ok()) {
        return days.checked_mul(24 * 3600).map(Duration::from_secs);
    }
    text.trim().parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let (number, factor) =
        UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).unwrap_or((&text, 1));
    number.trim().parse::<u64>().ok()?.checked_mul(factor)
}

struct OfText<T> {
    parse: fn(&str) -> Option<T>,
    whole: fn(u64) -> T,
    form: &'static str,
}

impl<T> Visitor<'_> for OfText<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.form)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number).map(self.whole).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = "a duration such as \"10s\", \"5m\" or \"90d\"";
        deserializer.deserialize_any(OfText { parse: duration, whole: Duration::from_secs, form }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = "a size such as \"2GiB\" or \"512MiB\"";
        deserializer.deserialize_any(OfText { parse: size, whole: |bytes| bytes, form }).map(Self)
    }
}

struct OfName<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for OfName<T> {
    type Value = Parsed<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Parsed<T>, E> {
        text.parse().map(Parsed).map_err(E::custom)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OfName(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        assert_eq!(size("2GiB"), Some(2 << 30));
        assert_eq!(size(" 512 MiB "), Some(512 << 20));
        assert_eq!(size("1000"), Some(1000));
        assert_eq!((size("2 GiBs"), size("-1"), size("")), (None, None, None));
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, seconds) in [("10s", 10), ("5m", 300), ("1h 30m", 5400), ("90d", 7_776_000), ("24 h", 86_400)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        for text in ["", "5", "-5s", "soon", "d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_refused_in_its_own_words() {
        let table = toml::from_str::<std::collections::BTreeMap<String, Parsed<std::net::IpAddr>>>;
        assert_eq!(table("a = \"::1\"").unwrap()["a"], Parsed("::1".parse().unwrap()));
        assert!(table("a = \"here\"").unwrap_err().message().contains("invalid IP address syntax"));
    }
}
