//! CloudTrail's service model, from `model.toml`: which errors an operation has, and what its shapes are.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

pub(crate) const TEXT: &str = include_str!("../model.toml");

#[derive(Deserialize)]
pub(crate) struct Model {
    pub(crate) operations: BTreeMap<String, Operation>,
    pub(crate) shapes: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
pub(crate) struct Operation {
    pub(crate) input: String,
    pub(crate) output: String,
    pub(crate) errors: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Shape {
    pub(crate) required: Vec<String>,
    /// Name → type: a scalar's name, `[ELEMENT]`, `{SHAPE}`, or `VALUE|VALUE` of an enumeration.
    pub(crate) members: BTreeMap<String, String>,
}

pub(crate) fn model() -> &'static Model {
    static MODEL: LazyLock<Model> = LazyLock::new(|| toml::from_str(TEXT).unwrap());
    &MODEL
}

impl Model {
    /// Asserts that the value is one of the shape: no unknown member, every required one, right types.
    pub(crate) fn check(&self, shape: &str, value: &Value) {
        let Value::Object(members) = value else { panic!("{shape} is an object: {value}") };
        let of = &self.shapes[shape];
        for required in &of.required {
            assert!(members.contains_key(required), "{shape} needs {required}: {value}");
        }
        for (name, value) in members {
            let kind = of.members.get(name).unwrap_or_else(|| panic!("{shape} has no member {name}"));
            self.check_kind(kind, value, &format!("{shape}.{name}"));
        }
    }

    fn check_kind(&self, kind: &str, value: &Value, at: &str) {
        let inner = |open, close| kind.strip_prefix(open).and_then(|kind: &str| kind.strip_suffix(close));
        match (inner('[', ']'), inner('{', '}'), value) {
            (Some(element), _, Value::Array(values)) => values.iter().for_each(|value| self.check_kind(element, value, at)),
            (None, Some(shape), _) => self.check(shape, value),
            (None, None, Value::String(_)) if kind == "string" => {}
            (None, None, Value::String(text)) if kind.split('|').any(|value| value == text) => {}
            (None, None, Value::Bool(_)) if kind == "boolean" => {}
            (None, None, Value::Number(_)) if kind == "timestamp" => {}
            _ => panic!("{at} is no {kind}: {value}"),
        }
    }
}
