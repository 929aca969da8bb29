//! Durations and sizes as people write them.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// `"10s"`, `"5m"`, `"1h 30m"`, `"200ms"`, or whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// `"2GiB"`, `"512 MiB"`, `"1GB"`, or whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

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

fn span(text: &str) -> Option<Duration> {
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
        let form = "a duration such as \"10s\" or \"5m\"";
        deserializer.deserialize_any(OfText { parse: span, whole: Duration::from_secs, form }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = "a size such as \"2GiB\" or \"512MiB\"";
        deserializer.deserialize_any(OfText { parse: size, whole: |bytes| bytes, form }).map(Self)
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
        assert_eq!(span("1h 30m"), Some(Duration::from_secs(5400)));
        assert_eq!(span("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(span("-5s"), None);
    }
}
