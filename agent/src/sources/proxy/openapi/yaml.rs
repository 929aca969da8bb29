//! YAML as JSON's values, as far as a description's names need it: every scalar is a text, and what only describes
//! messages is left out while it is read. Bounded in depth and in nodes; an alias costs what it stands for.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::DocumentError;

/// Nodes that are kept of a document.
const NODES_MAX: usize = 1_000_000;

/// Deeper than any description nests.
const DEPTH_MAX: usize = 100;

/// Members that describe messages, not operations: most of a document.
const LEFT_OUT: &[&str] = &[
    "responses",
    "requestBody",
    "requestBodies",
    "parameters",
    "schemas",
    "schema",
    "definitions",
    "examples",
    "example",
    "callbacks",
    "webhooks",
    "headers",
    "securitySchemes",
    "links",
];

/// What is being read.
enum Open {
    Sequence {
        items: Vec<Value>,
        anchor: usize,
        weight: usize,
    },
    Mapping {
        members: Map<String, Value>,
        key: Option<String>,
        anchor: usize,
        weight: usize,
    },
    /// Of what is left out: how deep within it.
    Skipped {
        depth: usize,
    },
}

/// A value under way, with the nodes that it is made of.
#[derive(Default)]
struct Reading {
    open: Vec<Open>,
    anchors: HashMap<usize, (Value, usize)>,
    root: Option<Value>,
    nodes: usize,
}

/// The first document of a text.
pub(super) fn parse(text: &str) -> Result<Value, DocumentError> {
    let mut reading = Reading::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| DocumentError::Syntax(error.to_string()))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        reading.take(event)?;
    }
    reading.root.ok_or(DocumentError::NotOpenApi)
}

impl Reading {
    fn take(&mut self, event: Event<'_>) -> Result<(), DocumentError> {
        if let Some(Open::Skipped { depth }) = self.open.last_mut() {
            match event {
                Event::SequenceStart(..) | Event::MappingStart(..) => *depth += 1,
                Event::SequenceEnd | Event::MappingEnd => *depth = depth.saturating_sub(1),
                _ => {}
            }
            if *depth == 0 {
                self.open.pop();
                self.place(Value::Null, 0)?;
            }
            return Ok(());
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain && matches!(text.as_ref(), "" | "~" | "null");
                let value = if is_null { Value::Null } else { Value::from(text.into_owned()) };
                self.place_anchored(value, anchor, 1)
            }
            Event::Alias(anchor) => {
                // What was left out, or is still open, is nothing.
                let (value, weight) =
                    self.anchors.get(&anchor).map_or((Value::Null, 1), |(value, weight)| (value.clone(), *weight));
                self.place(value, weight)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::Sequence { items: Vec::new(), anchor, weight: 1 }),
            Event::MappingStart(anchor, _) => self.begin(Open::Mapping { members: Map::new(), key: None, anchor, weight: 1 }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence { items, anchor, weight }) => self.place_anchored(Value::Array(items), anchor, weight),
                Some(Open::Mapping { members, anchor, weight, .. }) => {
                    self.place_anchored(Value::Object(merged(members)), anchor, weight)
                }
                Some(Open::Skipped { .. }) | None => Ok(()),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), DocumentError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(DocumentError::Shape(format!("it nests deeper than {DEPTH_MAX} levels")));
        }
        let is_left_out = match self.open.last() {
            Some(Open::Mapping { key: Some(key), .. }) => LEFT_OUT.contains(&key.as_str()),
            _ => false,
        };
        self.open.push(if is_left_out { Open::Skipped { depth: 1 } } else { open });
        Ok(())
    }

    fn place_anchored(&mut self, value: Value, anchor: usize, weight: usize) -> Result<(), DocumentError> {
        if anchor != 0 {
            self.count(weight)?;
            self.anchors.insert(anchor, (value.clone(), weight));
        }
        self.place(value, weight)
    }

    /// Puts a whole value where it belongs.
    fn place(&mut self, value: Value, weight: usize) -> Result<(), DocumentError> {
        self.count(weight)?;
        match self.open.last_mut() {
            None => self.root = self.root.take().or(Some(value)),
            Some(Open::Sequence { items, weight: whole, .. }) => {
                items.push(value);
                *whole += weight;
            }
            Some(Open::Mapping { members, key, weight: whole, .. }) => {
                *whole += weight;
                match key.take() {
                    None => *key = Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
                    Some(key) => drop(members.insert(key, value)),
                }
            }
            Some(Open::Skipped { .. }) => {}
        }
        Ok(())
    }

    fn count(&mut self, weight: usize) -> Result<(), DocumentError> {
        self.nodes = self.nodes.saturating_add(weight);
        if self.nodes > NODES_MAX {
            return Err(DocumentError::Shape(format!(
                "it has more than {NODES_MAX} values, aliases counted as what they stand for"
            )));
        }
        Ok(())
    }
}

/// `<<` adds the members of a mapping, or of several, that are not there by themselves.
fn merged(mut members: Map<String, Value>) -> Map<String, Value> {
    let Some(base) = members.remove("<<") else { return members };
    let bases = if let Value::Array(bases) = base { bases } else { vec![base] };
    for base in bases {
        if let Value::Object(base) = base {
            for (key, value) in base {
                members.entry(key).or_insert(value);
            }
        }
    }
    members
}
