//! The text of a record before it is read: size, depth, white space.

use std::borrow::Cow;

use super::RecordError;
use crate::limits::{JSON_DEPTH_MAX, RECORD_BYTES_FOREIGN_MAX};

/// Why bytes are not even looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    TooLarge { bytes: usize },
    TooDeep,
    NotUtf8,
}

/// What is cheap to know before parsing: no deeper and no larger than anything that reads it can take.
pub(crate) fn check(json: &[u8]) -> Result<&str, Malformed> {
    if json.len() > RECORD_BYTES_FOREIGN_MAX {
        return Err(Malformed::TooLarge { bytes: json.len() });
    }
    // Most records have fewer brackets than levels are allowed: counting them is much faster than following them.
    let brackets = memchr::memchr2_iter(b'{', b'[', json).count();
    if brackets > JSON_DEPTH_MAX && depth(json) > JSON_DEPTH_MAX {
        return Err(Malformed::TooDeep);
    }
    std::str::from_utf8(json).map_err(|_| Malformed::NotUtf8)
}

/// How deep objects and arrays nest; meaningless but harmless where the text is not JSON.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The text without the white space between its tokens.
pub(super) fn compact(text: &str) -> Cow<'_, str> {
    let (mut in_string, mut escaped) = (false, false);
    let mut is_token = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ' ' | '\t' | '\n' | '\r' if !in_string => return false,
            _ => {}
        }
        true
    };
    match text.find(|c| !is_token(c)) {
        None => Cow::Borrowed(text),
        Some(first) => {
            // The closure stands behind the first white space, outside any string.
            let mut compact = String::with_capacity(text.len());
            let (before, after) = text.split_at(first);
            compact.push_str(before);
            compact.extend(after.chars().filter(|&c| is_token(c)));
            Cow::Owned(compact)
        }
    }
}

impl From<Malformed> for RecordError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooLarge { bytes } => Self::TooLarge { bytes },
            Malformed::TooDeep => Self::TooDeep,
            Malformed::NotUtf8 => Self::NotUtf8,
        }
    }
}
