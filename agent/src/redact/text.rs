//! Secrets within text: command lines, messages, raw observations.
//!
//! One pass finds spans, then they are replaced: what follows a secret option, what is assigned to a secret name, what
//! stands between `:` and `@` of a URL, what looks like a key by itself. Bounded by the text's length; a span is never
//! longer than its line, save a private key's block.

use std::borrow::Cow;
use std::ops::Range;

use super::command::{options, settings};
use super::names::Names;
use super::sql::statements;

/// What stands in a secret's place. Source: CloudTrail's own word.
pub(super) const MASK: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// Beginnings of keys that say what they are, and how many characters follow at least.
const KEY_BEGINNINGS: &[(&str, usize)] = &[
    ("ghp_", 30),
    ("gho_", 30),
    ("ghs_", 30),
    ("ghu_", 30),
    ("github_pat_", 30),
    ("glpat-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("xoxa-", 16),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("sk-ant-", 16),
    ("sk-proj-", 16),
    ("npm_", 30),
    ("pypi-", 30),
    ("hvs.", 20),
    ("AIza", 30),
    ("dop_v1_", 30),
    ("SG.", 40),
];

/// The text with its secrets masked; borrowed where there are none.
pub(super) fn masked<'a>(text: &'a str, names: &Names) -> Cow<'a, str> {
    let mut spans = Vec::new();
    private_keys(text, &mut spans);
    for word in words_of(text) {
        alone(text, &word, &mut spans);
        url(text, &word, &mut spans);
    }
    assignments(text, names, &mut spans);
    options(text, &words_of(text), names, &mut spans);
    schemes(text, &mut spans);
    statements(text, &mut spans);
    settings(text, &words_of(text), names, &mut spans);
    replace(text, spans)
}

/// The elements of a command line with their secrets masked; `None` for those without.
pub(super) fn masked_argv(elements: &[&str], names: &Names) -> Vec<Option<String>> {
    let joined = elements.join("\0");
    let mut at = 0;
    let mut words = Vec::with_capacity(elements.len());
    for element in elements {
        words.push(at..at + element.len());
        at += element.len() + 1;
    }
    let mut spans = Vec::new();
    options(&joined, &words, names, &mut spans);
    settings(&joined, &words, names, &mut spans);
    let within = |word: &Range<usize>| {
        let inside = |span: &Range<usize>| span.start >= word.start && span.end <= word.end;
        spans.iter().filter(|span| inside(span)).map(|span| span.start - word.start..span.end - word.start).collect::<Vec<_>>()
    };
    let masked_element = |(element, word): (&&str, &Range<usize>)| {
        let first = replace(element, within(word));
        let second = masked(&first, names).into_owned();
        (second != **element).then_some(second)
    };
    elements.iter().zip(&words).map(masked_element).collect()
}

/// Words as a shell splits them: quotes hold together. Ranges include the quotes.
pub(super) fn words_of(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, c) if c.is_whitespace() || c == '\0' => {
                if let Some(start) = start.take() {
                    words.push(start..at);
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open || c == '\n' => quote = None,
            _ => {}
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|start| start..text.len()));
    words
}

/// `NAME=value`, `name: value`, `"name":"value"`, `--name=value`, `?name=value&`.
fn assignments(text: &str, names: &Names, spans: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    for at in memchr::memchr2_iter(b'=', b':', bytes) {
        let Some(name) = name_before(text, at) else { continue };
        if !names.is_secret(name) {
            continue;
        }
        let start = name.as_ptr() as usize - text.as_ptr() as usize;
        let before = text.get(..start).unwrap_or_default();
        // `tests pass: all` is prose; a member or a line of its own is not.
        let is_prose = name.eq_ignore_ascii_case("pass") && before.trim_end().ends_with(char::is_alphanumeric);
        if is_prose && bytes.get(at) == Some(&b':') {
            continue;
        }
        // `password: x` and `"password": "x"` may have a space; after `=` a space ends the value.
        let colon = bytes.get(at) == Some(&b':');
        let after = text.get(at + 1..).unwrap_or_default();
        // `::` and `:=` are no assignments of a value, `==` compares.
        let after_sign = after.trim_start_matches(['=', ':', '>']);
        let skipped = after.len() - after_sign.len();
        // `name = value` as in a configuration file.
        let spaced = !colon && at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b' ');
        let value = if colon || spaced { after_sign.trim_start_matches([' ', '\t']) } else { after_sign };
        let from = at + 1 + skipped + (after_sign.len() - value.len());
        // A header's scheme may be any word, and what follows of any form.
        if colon && !value.starts_with(['"', '\'', '\\', '[', '{']) && ends_in(name, "authorization") {
            let enclosing = before.chars().next_back().filter(|c| matches!(c, '"' | '\''));
            let rest = text.get(from..).unwrap_or_default();
            let line = rest.find(['\n', '\0']).map_or(rest, |end| rest.get(..end).unwrap_or_default());
            spans.push(from..from + enclosing.map_or(line.len(), |quote| quoted_end(line, quote, false)));
            continue;
        }
        push_value(text, from, colon, spans);
    }
}

fn ends_in(name: &str, ending: &str) -> bool {
    let at = name.len().checked_sub(ending.len());
    at.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

/// The name that ends just before `at`, through quotes and spaces that JSON and YAML put there.
fn name_before(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?.trim_end_matches(['"', '\'', ' ', '\\', ']']);
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let start = before.char_indices().rev().take_while(|(_, c)| is_name(*c)).last().map(|(start, _)| start)?;
    // `arn:aws:secretsmanager:…:secret:name`: a part of a chain is no name.
    let is_chained = before.get(..start).is_some_and(|before| before.ends_with(':') && !before.ends_with("::"));
    let name = before.get(start..)?.trim_start_matches('-');
    if is_chained && text.as_bytes().get(at) == Some(&b':') {
        return None;
    }
    (!name.is_empty()).then_some(name)
}

/// Marks the value that begins at `from`. A value of a header (`to_line`: after a colon, unquoted, with its scheme)
/// reaches over one space.
fn push_value(text: &str, from: usize, after_colon: bool, spans: &mut Vec<Range<usize>>) {
    let Some(rest) = text.get(from..) else { return };
    // In JSON within a string the quotes themselves are escaped.
    let escaped = rest.starts_with("\\\"") || rest.starts_with("\\'");
    let body = if escaped { rest.get(1..).unwrap_or_default() } else { rest };
    let skipped = rest.len() - body.len();
    if let Some(quote) = body.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner = body.get(1..).unwrap_or_default();
        let end = quoted_end(inner, quote, escaped);
        let start = from + skipped + 1;
        spans.push(start..start + end);
        return;
    }
    // `"X-Api-Key":["x"]`, `"credentials":{"user":"x"}`: all that is within.
    if let Some(inner) = body.strip_prefix(['[', '{']).filter(|_| after_colon) {
        let start = from + skipped + 1;
        spans.push(start..start + closing(inner));
        return;
    }
    let stops = |c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | ';' | ',' | '\0' | '}' | ')');
    let mut end = rest.find(stops).unwrap_or(rest.len());
    if after_colon {
        // `Authorization: Basic dXNlcjpwYXNz`: the scheme stays within the mask.
        let first = rest.get(..end).unwrap_or_default();
        if SCHEMES.iter().any(|scheme| first.eq_ignore_ascii_case(scheme)) {
            let second = rest.get(end..).unwrap_or_default();
            let gap = second.len() - second.trim_start_matches([' ', '\t']).len();
            let token = second.get(gap..).unwrap_or_default();
            end += gap + token.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(token.len());
        }
    }
    spans.push(from..from + end);
}

/// Where the bracket that was opened before this text closes; at the end of its line where it does not.
fn closing(inner: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in inner.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' if depth == 0 => return at,
            ']' | '}' => depth -= 1,
            '\n' => return at,
            _ => {}
        }
    }
    inner.len()
}

/// Where a quoted value ends: at its quote, not at one that is escaped; at the text's end where it has none.
fn quoted_end(inner: &str, quote: char, escaped: bool) -> usize {
    let mut backslashes = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '\\' => backslashes += 1,
            c if c == quote && escaped && backslashes == 1 => return at - 1,
            c if c == quote && !escaped && backslashes % 2 == 0 => return at,
            _ => backslashes = 0,
        }
    }
    inner.len()
}

const SCHEMES: &[&str] = &["bearer", "basic", "digest", "token", "negotiate", "apikey"];

/// `Bearer abc…` anywhere: also in `-H "Authorization: Bearer …"` that lost its name.
fn schemes(text: &str, spans: &mut Vec<Range<usize>>) {
    let words = words_plain(text);
    for pair in words.windows(2) {
        let [scheme, token] = pair else { continue };
        let scheme_text = text.get(scheme.clone()).unwrap_or_default().trim_matches(['"', '\'', ':']);
        let is_scheme = ["bearer", "basic"].iter().any(|known| scheme_text.eq_ignore_ascii_case(known));
        let token_text = text.get(token.clone()).unwrap_or_default().trim_end_matches(['"', '\'', ',', ';']);
        let looks_like_token = token_text.len() >= 12
            && token_text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'='))
            && (token_text.bytes().any(|b| b.is_ascii_digit())
                || token_text.bytes().any(|b| b.is_ascii_uppercase())
                || token_text.len() >= 20);
        if is_scheme && looks_like_token {
            spans.push(token.start..token.start + token_text.len());
        }
    }
}

/// Words by white space alone.
fn words_plain(text: &str) -> Vec<Range<usize>> {
    let offset = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    text.split_ascii_whitespace().map(|part| offset(part)..offset(part) + part.len()).collect()
}

/// `scheme://user:secret@host`: the secret.
fn url(text: &str, word: &Range<usize>, spans: &mut Vec<Range<usize>>) {
    let Some(raw) = text.get(word.clone()) else { return };
    for (scheme, _) in raw.match_indices("://") {
        let start = scheme + 3;
        let rest = raw.get(start..).unwrap_or_default();
        let end = rest.find(['/', '?', '#', '"', '\'', ' ']).unwrap_or(rest.len());
        // A password may hold `/` unescaped; then the `@` lies further on.
        let authority = rest.get(..end).unwrap_or_default();
        let Some(at) = authority.rfind('@') else { continue };
        if let Some(colon) = authority.get(..at).and_then(|user| user.find(':')) {
            spans.push(word.start + start + colon + 1..word.start + start + at);
        }
    }
}

/// Keys that say by themselves what they are: tokens of services, JSON web tokens.
fn alone(text: &str, word: &Range<usize>, spans: &mut Vec<Range<usize>>) {
    let Some(raw) = text.get(word.clone()) else { return };
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=');
    for (beginning, least) in KEY_BEGINNINGS {
        for (at, _) in raw.match_indices(beginning) {
            let rest = raw.get(at + beginning.len()..).unwrap_or_default();
            let end = rest.find(|c| !is_key(c)).unwrap_or(rest.len());
            let is_start = raw.get(..at).and_then(|before| before.chars().next_back()).is_none_or(|c| !c.is_ascii_alphanumeric());
            if end >= *least && is_start {
                spans.push(word.start + at..word.start + at + beginning.len() + end);
            }
        }
    }
    for (at, _) in raw.match_indices("eyJ") {
        let rest = raw.get(at..).unwrap_or_default();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(rest.len());
        let token = rest.get(..end).unwrap_or_default();
        if token.len() >= 30 && token.split('.').count() >= 3 {
            spans.push(word.start + at..word.start + at + end);
        }
    }
}

/// PEM blocks of private keys, whole; to the text's end where the end line is missing.
fn private_keys(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find("-----BEGIN ")).map(|at| from + at) {
        let rest = text.get(at..).unwrap_or_default();
        let head_end = rest.get(11..).and_then(|rest| rest.find("-----")).map(|end| at + 11 + end + 5);
        let Some(head_end) = head_end else { return };
        from = head_end;
        if !text.get(at..head_end).is_some_and(|head| head.contains("PRIVATE KEY")) {
            continue;
        }
        let end = text.get(head_end..).and_then(|rest| rest.find("-----END ")).map_or(text.len(), |end| head_end + end);
        spans.push(head_end..end);
        from = end;
    }
}

/// Replaces the spans; those that meet are one.
fn replace(text: &str, mut spans: Vec<Range<usize>>) -> Cow<'_, str> {
    spans.retain(|span| {
        span.start < span.end && text.get(span.clone()).is_some_and(|value| !value.trim().is_empty() && value != MASK)
    });
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    spans.sort_by_key(|span| (span.start, span.end));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        if span.start >= done {
            out.push_str(text.get(done..span.start).unwrap_or_default());
            out.push_str(MASK);
            done = span.end;
        } else if span.end > done {
            done = span.end;
        }
    }
    out.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(out)
}
