//! A TOML document that is read key by key: what was asked for is what is known, so no list of keys can go stale.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A name this alike is offered for an unknown key. Source: Jaro–Winkler as in clap's suggestions.
const ALIKE_MIN: f64 = 0.7;

/// Before every overriding variable's name.
const VARIABLE_PREFIX: &str = "EDGETRAIL_";

/// The file with its overrides, and what was found wrong so far.
pub(super) struct Document {
    sections: Table,
    asked: BTreeSet<String>,
    others: &'static [&'static str],
    errors: Vec<String>,
}

/// One table of the document, while its keys are read.
pub(super) struct Section {
    name: &'static str,
    keys: Table,
    asked: BTreeSet<String>,
    errors: Vec<String>,
}

impl Document {
    /// `others`: sections of other binaries, which are not looked into.
    pub(super) fn parse(text: &str, others: &'static [&'static str]) -> Result<Self, toml::de::Error> {
        Ok(Self { sections: text.parse()?, asked: BTreeSet::new(), others, errors: Vec::new() })
    }

    /// `EDGETRAIL_SECTION__KEY[__KEY…]` in upper case; the value is TOML where it parses as such, else text.
    pub(super) fn override_from(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in environment {
            let Some(path) = name.strip_prefix(VARIABLE_PREFIX).filter(|path| path.contains("__")) else { continue };
            let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            let typed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
            let value = typed.unwrap_or(Value::String(value));
            if let Err(at) = set(&mut self.sections, &path, value) {
                self.errors.push(format!("  {name}: `{at}` is no table in the file"));
            }
        }
    }

    pub(super) fn section(&mut self, name: &'static str) -> Section {
        self.asked.insert(name.to_owned());
        let mut section = Section { name, keys: Table::new(), asked: BTreeSet::new(), errors: Vec::new() };
        match self.sections.remove(name) {
            Some(Value::Table(keys)) => section.keys = keys,
            Some(_) => self.errors.push(format!("  {name}: write it as a table, [{name}]")),
            None => {}
        }
        section
    }

    /// Takes up a section's errors; what nobody asked for is unknown.
    pub(super) fn finish(&mut self, section: Section) {
        self.errors.extend(section.errors);
        for key in section.keys.keys() {
            self.errors.push(format!("  {}.{key}: unknown key{}", section.name, nearest(key, &section.asked)));
        }
    }

    /// All errors, once every section was read.
    pub(super) fn into_errors(mut self) -> Vec<String> {
        for name in self.sections.keys().filter(|name| !self.others.contains(&name.as_str())) {
            self.errors.push(format!("  {name}: unknown section{}", nearest(name, &self.asked)));
        }
        self.errors
    }
}

impl Section {
    /// A text of one of our types.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<T> {
        let text = match self.take(key)? {
            Value::String(text) => text,
            // An account of digits alone is easily written, or set in the environment, without quotes.
            Value::Integer(number) => number.to_string(),
            other => return self.wrong(key, &other, "a text"),
        };
        text.parse().map_err(|error| self.error(key, error)).ok()
    }

    pub(super) fn required<T: FromStr<Err: Display>>(&mut self, key: &str, what: &str) -> Option<T> {
        if !self.keys.contains_key(key) {
            self.error(key, format!("missing: give {what}"));
        }
        self.parsed(key)
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.parsed(key)
    }

    /// `"5m"`, `"10 s"`, `"1h 30m"`, or whole seconds.
    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        const FORM: &str = "a duration such as \"10s\", \"5m\" or \"90d\"";
        match self.take(key)? {
            Value::Integer(seconds) => match u64::try_from(seconds) {
                Ok(seconds) => Some(Duration::from_secs(seconds)),
                Err(_) => self.wrong(key, &Value::Integer(seconds), FORM),
            },
            Value::String(text) => match duration(&text) {
                Some(duration) => Some(duration),
                None => self.wrong(key, &Value::String(text), FORM),
            },
            other => self.wrong(key, &other, FORM),
        }
    }

    pub(super) fn integer(&mut self, key: &str) -> Option<u64> {
        match self.take(key)? {
            Value::Integer(number) if number >= 0 => Some(number.cast_unsigned()),
            other => self.wrong(key, &other, "a whole number"),
        }
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(value) => Some(value),
            other => self.wrong(key, &other, "true or false"),
        }
    }

    pub(super) fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        let strings = value.as_array().map(|values| values.iter().map(|value| value.as_str().map(str::to_owned)).collect());
        match strings {
            Some(Some(strings)) => Some(strings),
            Some(None) | None => self.wrong(key, &value, "a list of texts"),
        }
    }

    /// A table whose shape another stage owns.
    pub(super) fn shape<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        self.take(key)?.try_into().map_err(|error: toml::de::Error| self.error(key, error.message())).ok()
    }

    pub(super) fn error(&mut self, key: &str, message: impl Display) {
        self.errors.push(format!("  {}.{key}: {message}", self.name));
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.asked.insert(key.to_owned());
        self.keys.remove(key)
    }

    fn wrong<T>(&mut self, key: &str, found: &Value, wanted: &str) -> Option<T> {
        self.error(key, format!("`{found}` is not {wanted}"));
        None
    }
}

/// Jiff's friendly form counts no days without a calendar; here a day has 24 hours.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.trim().parse::<u64>().ok()) {
        return days.checked_mul(24 * 3600).map(Duration::from_secs);
    }
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Ok(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => match table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err(key.clone()),
        },
    }
}

fn nearest(key: &str, known: &BTreeSet<String>) -> String {
    let scored = known.iter().map(|name| (strsim::jaro_winkler(key, name), name));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((alike, name)) if alike >= ALIKE_MIN => format!("; did you mean `{name}`?"),
        Some(_) | None if known.is_empty() => String::new(),
        Some(_) | None => {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            format!("; known are {}", known.join(", "))
        }
    }
}
