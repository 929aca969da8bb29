//! A line's fields by name: `a.b` is the member `a.b`, or the member `b` of `a`.

use serde_json::{Map, Value};

/// The value under a dotted path; a member whose own name holds the dots goes first.
pub fn find<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    within(fields.get(first)?, rest, DEPTH_MAX)
}

fn within<'a>(value: &'a Value, path: &str, levels: usize) -> Option<&'a Value> {
    let levels = levels.checked_sub(1)?;
    let (first, rest) = path.split_once('.').unzip();
    let step = first.unwrap_or(path);
    let next = match value {
        Value::Object(inner) => match inner.get(path) {
            Some(value) => return Some(value),
            None => inner.get(step)?,
        },
        Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
        _ => return None,
    };
    match rest {
        Some(rest) => within(next, rest, levels),
        None => Some(next),
    }
}

/// The same for what says something: null, the empty text and `-` are nothing.
pub fn said<'a>(fields: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    find(fields, path).filter(|value| match value {
        Value::Null => false,
        Value::String(text) => !matches!(text.trim(), "" | "-"),
        _ => true,
    })
}

/// Takes a field away, as [`find`] finds it; an object only when nothing is left of it.
pub fn remove(fields: &mut Map<String, Value>, path: &str) {
    if fields.remove(path).is_some() {
        return;
    }
    let Some((first, rest)) = path.split_once('.') else { return };
    if let Some(Value::Object(inner)) = fields.get_mut(first) {
        remove(inner, rest);
        if inner.is_empty() {
            fields.remove(first);
        }
    }
}

/// A value as text: a number or truth as JSON writes it, the first of a list.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(items) => items.first().filter(|item| !item.is_array()).and_then(text),
        Value::Object(_) | Value::Null => None,
    }
}

/// Steps of a path.
const DEPTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_reach_members_whose_names_hold_dots_and_items_of_lists() {
        let Value::Object(fields) = json!({"a": {"b.c": 1, "d": [7, {"z": 8}]}, "a.x": 2, "n": null, "e": "-"}) else {
            unreachable!()
        };
        assert_eq!(find(&fields, "a.b.c"), Some(&json!(1)));
        assert_eq!(find(&fields, "a.x"), Some(&json!(2)));
        assert_eq!(find(&fields, "a.d.1.z"), Some(&json!(8)));
        assert_eq!((find(&fields, "a.q"), said(&fields, "n"), said(&fields, "e")), (None, None, None));
    }
}
