//! Several TOML layers as one document, whose sections are read into their owners' own shapes.
//!
//! Each key of a section is tried alone first: so every wrong one is found, not only the first, and each is named with
//! the file and line that it came from.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::Layer;

/// A name this alike is offered for an unknown key: Jaro–Winkler as in clap's suggestions.
const ALIKE_MIN: f64 = 0.7;

/// Before every overriding variable's name.
const VARIABLE_PREFIX: &str = "EDGETRAIL_";

/// All layers merged, and what was found wrong so far.
#[derive(Debug)]
pub struct Document {
    table: Table,
    /// Dotted key → where it was last given.
    places: BTreeMap<String, String>,
    /// Dotted key → a variable's text as it was given, for a key that wants text where this reads as a number too.
    texts: BTreeMap<String, String>,
    known: Vec<&'static str>,
    others: &'static [&'static str],
    errors: Vec<String>,
}

impl Document {
    /// Later layers over earlier ones, `variables` over all of them. `others`: sections of other programs, which are
    /// not looked into.
    pub fn new(layers: &[Layer], variables: impl IntoIterator<Item = (String, String)>, others: &'static [&'static str]) -> Self {
        let (places, texts) = (BTreeMap::new(), BTreeMap::new());
        let mut document = Self { table: Table::new(), places, texts, known: Vec::new(), others, errors: Vec::new() };
        for layer in layers {
            document.layer(layer);
        }
        document.variables(variables);
        document
    }

    /// Lays a file over what is there: tables merge, everything else replaces.
    fn layer(&mut self, Layer { name, text }: &Layer) {
        let parsed = text.parse::<Table>().and_then(|table| DeTable::parse(text).map(|spans| (table, spans)));
        match parsed {
            Ok((table, spans)) => {
                merge(&mut self.table, table);
                note(spans.get_ref(), "", &|offset| format!("{name}:{}", line(text, offset)), &mut self.places);
            }
            Err(error) => {
                let at = error.span().map_or(1, |span| line(text, span.start));
                self.errors.push(format!("  {name}:{at}: {}", error.message()));
            }
        }
    }

    /// `EDGETRAIL_SECTION__KEY[__KEY…]`; the value is TOML where it reads as such, else text.
    fn variables(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            let Some(path) = name.strip_prefix(VARIABLE_PREFIX).filter(|path| path.contains("__")) else { continue };
            let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
            let typed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
            let typed = typed.unwrap_or_else(|| Value::String(value.clone()));
            if path.iter().any(String::is_empty) || !set(&mut self.table, &path, typed) {
                self.errors.push(format!("  {name}: names no key: write EDGETRAIL_SECTION__KEY"));
            }
            self.texts.insert(path.join("."), value);
            self.places.insert(path.join("."), name);
        }
    }

    /// Whether some layer gives a key, rightly or wrongly.
    pub fn gives(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// A section in its owner's shape, without the keys that are wrong; those are noted.
    pub fn section<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        self.known.push(name);
        let keys = match take(&mut self.table, name) {
            None => return T::default(),
            Some(Value::Table(keys)) => keys,
            Some(_) => {
                self.error(name, format!("write it as a table, [{name}]"));
                return T::default();
            }
        };
        let mut good = Table::new();
        for (key, value) in keys {
            let path = format!("{name}.{key}");
            let text = self.texts.get(&path).cloned().map(Value::String);
            match (alone::<T>(&key, &value), text) {
                (Ok(()), _) => drop(good.insert(key, value)),
                (Err(_), Some(text)) if alone::<T>(&key, &text).is_ok() => drop(good.insert(key, text)),
                (Err(error), _) => self.error(&path, explain(error.message())),
            }
        }
        good.try_into().unwrap_or_else(|error: toml::de::Error| {
            self.error(name, error.message());
            T::default()
        })
    }

    /// An array of tables.
    pub fn list<T: DeserializeOwned>(&mut self, name: &'static str) -> Vec<T> {
        self.known.push(name);
        let items = match take(&mut self.table, name) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.error(name, format!("write each as [[{name}]]"));
                return Vec::new();
            }
        };
        let mut list = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            match item.try_into() {
                Ok(item) => list.push(item),
                Err(error) => self.error(&format!("{name}[{index}]"), explain(error.message())),
            }
        }
        list
    }

    /// Notes what is wrong with a key.
    pub fn error(&mut self, key: &str, message: impl Display) {
        // A key that stands in no layer is named by itself: a default can't be wrong, a missing one can.
        let place = self.places.get(key).map(|place| format!("{place}: ")).unwrap_or_default();
        self.errors.push(format!("  {place}{key}: {message}"));
    }

    /// All errors, once every section was read; what nobody read is unknown.
    pub fn into_errors(mut self) -> Vec<String> {
        let known = std::mem::take(&mut self.known);
        for (name, value) in std::mem::take(&mut self.table) {
            if self.others.contains(&name.as_str()) {
                continue;
            }
            let below: Vec<&str> = known.iter().filter_map(|known| known.strip_prefix(&format!("{name}."))).collect();
            match value {
                Value::Table(table) if !below.is_empty() => {
                    for key in table.keys() {
                        self.error(&format!("{name}.{key}"), format!("unknown section{}", nearest(key, below.iter().copied())));
                    }
                }
                _ => {
                    let first = known.iter().map(|known| known.split('.').next().unwrap_or_default());
                    self.error(&name, format!("unknown section{}", nearest(&name, first)));
                }
            }
        }
        self.errors
    }
}

/// Whether a section of this one key reads.
fn alone<T: DeserializeOwned>(key: &str, value: &Value) -> Result<(), toml::de::Error> {
    Table::from_iter([(key.to_owned(), value.clone())]).try_into::<T>().map(drop)
}

/// serde's word for an unknown key, with the nearest known one in place of the whole list.
fn explain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let mut quoted = rest.split('`');
    let key = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
    format!("unknown key `{key}`{}", nearest(key, known.into_iter()))
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let best = known.iter().map(|name| (strsim::jaro_winkler(key, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((alike, name)) if alike >= ALIKE_MIN => format!("; did you mean `{name}`?"),
        Some(_) => format!("; known are {}", known.join(", ")),
        None => String::new(),
    }
}

fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

fn take(table: &mut Table, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => table.remove(path),
        Some((first, rest)) => match table.get_mut(first) {
            Some(Value::Table(inner)) => {
                let taken = take(inner, rest);
                if inner.is_empty() {
                    table.remove(first);
                }
                taken
            }
            _ => None,
        },
    }
}

fn set(table: &mut Table, path: &[String], value: Value) -> bool {
    match path {
        [] => false,
        [key] => {
            table.insert(key.clone(), value);
            true
        }
        [key, rest @ ..] => match table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            _ => false,
        },
    }
}

fn note(table: &DeTable<'_>, path: &str, place: &dyn Fn(usize) -> String, places: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        places.insert(path.clone(), place(key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => note(inner, &path, place, places),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    places.insert(format!("{path}[{index}]"), place(item.span().start));
                }
            }
            _ => {}
        }
    }
}

/// Counted from 1.
fn line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}
