//! Secrets within statements of SQL.

use std::ops::Range;

/// SQL's `PASSWORD 'x'` and `IDENTIFIED [WITH plugin] BY 'x'`, wherever a statement stands.
pub(super) fn statements(text: &str, spans: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for (at, _) in lower.match_indices("password") {
        quoted_behind(text, at + 8, 4, spans);
    }
    for (at, _) in lower.match_indices("identified") {
        let behind = lower.get(at..).unwrap_or_default();
        for by in [" by ", " as "] {
            if let Some(found) = behind.find(by).filter(|found| *found < PLUGIN_BYTES_MAX) {
                quoted_behind(text, at + found + 3, 4, spans);
            }
        }
    }
}

/// What may stand between `IDENTIFIED` and `BY`: the plugin's name.
const PLUGIN_BYTES_MAX: usize = 80;

/// The quoted text that begins after white space and at most so many bytes, such as `E`: in quotes or between `$tag$`.
fn quoted_behind(text: &str, from: usize, most: usize, spans: &mut Vec<Range<usize>>) {
    let Some(rest) = text.get(from..).filter(|rest| rest.starts_with(char::is_whitespace)) else { return };
    let Some(open) = rest.find(['\'', '$']).filter(|open| *open <= most) else { return };
    let start = from + open + 1;
    let inner = text.get(start..).unwrap_or_default();
    if rest.get(open..).is_some_and(|rest| rest.starts_with('\'')) {
        // A shell's way to a quote within quotes: `'\''`.
        let skipped = if inner.starts_with("\\''") { 3 } else { 0 };
        let literal = inner.get(skipped..).unwrap_or_default();
        // A statement within a literal: `''x''`.
        let doubled = literal.strip_prefix('\'').filter(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '$'));
        let (from, length) = match doubled {
            Some(rest) => (skipped + 1, rest.find("''").unwrap_or(rest.len())),
            None => (skipped, literal_end(literal)),
        };
        spans.push(start + from..start + from + length);
        return;
    }
    // Within a shell's double quotes each dollar is escaped.
    let dollar = if rest.get(..open).is_some_and(|before| before.ends_with('\\')) { "\\$" } else { "$" };
    let Some((tag, literal)) = inner.split_once(dollar) else { return };
    if !tag.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return;
    }
    let start = start + tag.len() + dollar.len();
    spans.push(start..start + literal.find(&format!("{dollar}{tag}{dollar}")).unwrap_or(literal.len()));
}

/// Where a literal of SQL ends: neither at `''` nor at `\'`, which stand for a quote.
fn literal_end(literal: &str) -> usize {
    let mut chars = literal.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek().map(|(_, next)| *next)) {
            ('\'', Some('\'')) | ('\\', Some(_)) => drop(chars.next()),
            ('\'', _) => return at,
            _ => {}
        }
    }
    literal.len()
}
