//! JSON compared by what its text says: names, order of arrays, strings decoded, numbers by their digits.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

#[derive(Debug, PartialEq)]
pub(crate) enum Tree {
    Object(BTreeMap<String, Tree>),
    Array(Vec<Tree>),
    String(String),
    /// A number, `true`, `false` or `null`, as it is written.
    Word(String),
}

impl Tree {
    pub(crate) fn of(json: &str) -> Self {
        match json.trim_start().bytes().next() {
            Some(b'{') => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
                Self::Object(members.into_iter().map(|(name, text)| (name, Self::of(text.get()))).collect())
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(json).unwrap();
                Self::Array(items.into_iter().map(|text| Self::of(text.get())).collect())
            }
            Some(b'"') => Self::String(serde_json::from_str(json).unwrap()),
            _ => Self::Word(json.trim().to_owned()),
        }
    }
}
