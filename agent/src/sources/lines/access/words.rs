//! The words of a log line: bare, `"quoted"`, `[in brackets]` and `{in braces}`.

/// One word, unescaped where it was quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Bare(String),
    Quoted(String),
    Bracketed(String),
    Braced(String),
}

/// Most words of a line; what follows is one more.
const WORDS_MAX: usize = 128;

/// All words of a text. What is opened and not closed reaches to the end: a server cuts a line that is too long.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if found.len() >= WORDS_MAX {
            found.push(Word::Bare(rest.to_owned()));
            break;
        }
        let (word, after) = word(rest);
        found.push(word);
        rest = after.trim_start();
    }
    found
}

/// The quoted text that a text begins with, unescaped, and what follows.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((unescape(inside.get(..at)?), inside.get(at + 1..)?)),
            _ => {}
        }
    }
    Some((unescape(inside), ""))
}

fn word(text: &str) -> (Word, &str) {
    let enclosed = |open: char, close: char| {
        let inside = text.strip_prefix(open)?;
        Some(inside.split_once(close).map_or((inside.to_owned(), ""), |(inside, after)| (inside.to_owned(), after)))
    };
    if let Some((inside, after)) = quoted(text) {
        return (Word::Quoted(inside), after);
    }
    if let Some((inside, after)) = enclosed('[', ']') {
        return (Word::Bracketed(inside), after);
    }
    if let Some((inside, after)) = enclosed('{', '}') {
        return (Word::Braced(inside), after);
    }
    // `rt="0.1"` is one word: a quote inside it holds the spaces.
    let mut in_quotes = false;
    let end = text.char_indices().find(|(_, c)| {
        in_quotes ^= *c == '"';
        c.is_whitespace() && !in_quotes
    });
    let (bare, after) = end.and_then(|(at, _)| text.split_at_checked(at)).unwrap_or((text, ""));
    (Word::Bare(bare.to_owned()), after)
}

/// `\xHH`, `\"`, `\\`, `\n`, `\t`, `\uHHHH` as nginx, Apache and Envoy write them; bytes that are no UTF-8 stay escaped.
pub(super) fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut made = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (plain, used) = match (byte, bytes.get(at + 1)) {
            (b'\\', Some(b'x')) => match hex(bytes.get(at + 2..at + 4)) {
                // Control characters and what may be no UTF-8 stay as they were written.
                Some(value @ (0x20..=0x7e)) => (value, 4),
                _ => (byte, 1),
            },
            (b'\\', Some(b'"')) => (b'"', 2),
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            _ => (byte, 1),
        };
        made.push(plain);
        at += used;
    }
    String::from_utf8(made).unwrap_or_else(|_| text.to_owned())
}

fn hex(digits: Option<&[u8]>) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok()
}

impl Word {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Bare(text) | Self::Quoted(text) | Self::Bracketed(text) | Self::Braced(text) => text,
        }
    }

    pub(super) const fn bare(&self) -> Option<&str> {
        match self {
            Self::Bare(text) => Some(text.as_str()),
            _ => None,
        }
    }

    pub(super) const fn quoted(&self) -> Option<&str> {
        match self {
            Self::Quoted(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// A bare count.
    pub(super) fn number(&self) -> Option<u64> {
        self.bare()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_told_apart_and_unescaped() {
        let found = words(r#"200 "a \"b\" \x22c\x22 \x0a" [up stream] {x|y} rt="0 1" "open"#);
        let expected = [
            Word::Bare("200".to_owned()),
            Word::Quoted(r#"a "b" "c" \x0a"#.to_owned()),
            Word::Bracketed("up stream".to_owned()),
            Word::Braced("x|y".to_owned()),
            Word::Bare("rt=\"0 1\"".to_owned()),
            Word::Quoted("open".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_nor_hangs(text in "\\PC{0,60}|[\\[\\]{}\"\\\\x0-9a ]{0,60}") {
            prop_assert!(words(&text).len() <= WORDS_MAX + 1);
        }
    }
}
