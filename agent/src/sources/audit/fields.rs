//! The `key=value` text of an audit record.
//!
//! Written by the kernel in the outer part, by a program in `msg='…'` and by auditd behind 0x1d. Look-ups prefer the
//! outer part: what a program writes can't stand for what the kernel knows. Values that the writer did not trust are
//! quoted, or bare and hex-encoded; only the keys in [`ENCODED`] are ever decoded. Nothing here fails or panics:
//! words that are not `key=value` are kept as words.

use std::borrow::Cow;

use super::record::{ENRICHED_SEPARATOR, RawRecord};

/// Who wrote a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The kernel, or the daemon itself.
    Outer,
    /// A program, inside `msg='…'`.
    Message,
    /// auditd, naming what the kernel gave as numbers.
    Enriched,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub key: Cow<'a, str>,
    /// As written, without quotes.
    pub raw: Cow<'a, str>,
    pub quoted: bool,
    pub part: Part,
}

/// All fields of one record, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    list: Vec<Field<'a>>,
    /// What stands outside of fields: `avc: denied { read } for`.
    words: Vec<&'a str>,
}

/// Keys whose bare values are hex where the writer did not trust them. Source: audit_log_untrustedstring's callers in
/// the kernel, audit_encode_nv_string's in user space.
pub const ENCODED: &[&str] = &[
    "acct",
    "cmd",
    "comm",
    "cwd",
    "data",
    "dir",
    "exe",
    "file",
    "grp",
    "invalid_context",
    "key",
    "list_name",
    "name",
    "new-disk",
    "new-fs",
    "new_name",
    "ocomm",
    "old-disk",
    "old-fs",
    "path",
    "proctitle",
    "profile",
    "root_dir",
    "sw",
    "unit",
    "vm",
    "watch",
];

impl RawRecord {
    /// The text, with what is not UTF-8 replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.text)
    }
}

impl<'a> Fields<'a> {
    pub fn parse(text: &'a str) -> Self {
        let mut fields = Self::default();
        let (main, enriched) = match text.split_once(char::from(ENRICHED_SEPARATOR)) {
            Some((main, enriched)) => (main, Some(enriched)),
            None => (text, None),
        };
        let (outer, message) = split_message(main);
        // No field is without: one allocation for all.
        fields.list.reserve(memchr::memchr_iter(b'=', text.as_bytes()).count());
        fields.scan(outer, Part::Outer);
        if let Some(message) = message {
            fields.scan(message, Part::Message);
        }
        if let Some(enriched) = enriched {
            fields.scan(enriched, Part::Enriched);
        }
        fields
    }

    fn scan(&mut self, text: &'a str, part: Part) {
        let mut rest = after_separators(text);
        let mut prefix = None;
        while !rest.is_empty() {
            let (token_end, equals) = token(rest);
            let Some(equals) = equals else {
                let (word, after) = rest.split_at(token_end);
                self.word(word, part);
                prefix = Some(word);
                rest = after_separators(after);
                continue;
            };
            let (key, after) = rest.split_at(equals);
            // The first byte is the `=`.
            let after = after.get(1..).unwrap_or_default();
            let key = if key.as_bytes().first() == Some(&b'(') { key.get(1..).unwrap_or_default() } else { key };
            let (raw, quoted, after) = value(after);
            self.list.push(Field { key: prefixed(prefix.take(), key), raw: Cow::Borrowed(raw), quoted, part });
            rest = after_separators(after);
        }
    }

    /// A word belongs to an `op=` before it, which is the one bare value with spaces; else it stands by itself.
    fn word(&mut self, word: &'a str, part: Part) {
        match self.list.last_mut() {
            Some(last) if last.key == "op" && !last.quoted && last.part == part => {
                let op = last.raw.to_mut();
                if !op.is_empty() {
                    op.push(' ');
                }
                op.push_str(word);
            }
            _ => self.words.push(word),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Field<'a>> {
        self.list.iter()
    }

    pub fn words(&self) -> &[&'a str] {
        &self.words
    }

    /// The first field of this name, the kernel's before a program's; auditd's additions have names of their own.
    pub fn field(&self, key: &str) -> Option<&Field<'a>> {
        self.list.iter().find(|field| field.is(key))
    }

    /// Its value as written.
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.field(key).map(|field| field.raw.as_ref())
    }

    /// Its decoded value; none where the writer said that there is none: `?`, `(null)`, `(none)`, empty.
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        self.field(key).map(Field::decoded).filter(|value| !matches!(value.as_ref(), "" | "?" | "(null)" | "(none)"))
    }

    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.raw(key)?.parse().ok()
    }

    /// A number that the kernel writes in hex without a prefix.
    pub fn hex(&self, key: &str) -> Option<u64> {
        let raw = self.raw(key)?;
        u64::from_str_radix(raw.strip_prefix("0x").unwrap_or(raw), 16).ok()
    }

    /// Whether the act succeeded, in any of the spellings: `success=yes`, `res=success`, `res=1`.
    pub fn succeeded(&self) -> Option<bool> {
        match self.raw("success").or_else(|| self.raw("res")).or_else(|| self.raw("result"))? {
            "yes" | "success" | "1" => Some(true),
            "no" | "failed" | "0" | "fail" => Some(false),
            _ => None,
        }
    }
}

impl Field<'_> {
    /// Whether this is its key. Most of another length or beginning are told apart without a comparison of the whole.
    pub fn is(&self, key: &str) -> bool {
        let (own, key) = (self.key.as_bytes(), key.as_bytes());
        own.len() == key.len() && own.first() == key.first() && own == key
    }

    pub fn decoded(&self) -> Cow<'_, str> {
        // Most values are plainly no hex: that is seen sooner than whether the key is one of the list.
        if self.quoted || self.part == Part::Enriched || !is_hex(&self.raw) || !ENCODED.contains(&self.key.as_ref()) {
            return Cow::Borrowed(&self.raw);
        }
        decode_hex(&self.raw).map_or(Cow::Borrowed(self.raw.as_ref()), Cow::Owned)
    }
}

/// The text of an upper-case hex string; none where it is not one.
pub fn decode_hex(raw: &str) -> Option<String> {
    if !is_hex(raw) {
        return None;
    }
    hex::decode(raw).ok().map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(not_utf8) => String::from_utf8_lossy(not_utf8.as_bytes()).into_owned(),
    })
}

fn is_hex(raw: &str) -> bool {
    !raw.is_empty() && raw.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
}

/// Splits `… msg='inner'` before its last quote: the inner text may hold quotes itself.
fn split_message(text: &str) -> (&str, Option<&str>) {
    let Some((outer, message)) = text.split_once("msg='") else {
        return (text, None);
    };
    let message = message.rfind('\'').and_then(|end| message.get(..end)).unwrap_or(message);
    (outer, Some(message))
}

/// The text without the separators at its start.
fn after_separators(text: &str) -> &str {
    let start = text.bytes().position(|byte| !matches!(byte, b' ' | b',' | b'\n')).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Where the token at the start of `text` ends, and where its `=` is.
fn token(text: &str) -> (usize, Option<usize>) {
    let bytes = text.as_bytes();
    let end = memchr::memchr3(b' ', b',', b'\n', bytes).unwrap_or(bytes.len());
    let equals = memchr::memchr(b'=', bytes.get(..end).unwrap_or(bytes)).filter(|at| *at > 0);
    (end.max(1).min(text.len()), equals)
}

/// A value at the start of `text`: `(raw, quoted, rest)`.
fn value(text: &str) -> (&str, bool, &str) {
    let quote = text.as_bytes().first().copied().filter(|first| matches!(first, b'"' | b'\''));
    if let Some(quote) = quote
        && let Some((inner, rest)) = text.get(1..).and_then(|inner| inner.split_once(char::from(quote)))
    {
        return (inner, true, rest);
    }
    let end = memchr::memchr2(b' ', b'\n', text.as_bytes()).unwrap_or(text.len());
    let (raw, rest) = text.split_at(end);
    // Lists hold commas; a trailing one, or an old PAM's closing parenthesis, ends the value.
    let raw = raw.trim_end_matches(',');
    let raw = if raw.starts_with('(') { raw } else { raw.trim_end_matches(')') };
    (raw, false, rest)
}

/// Before Linux 3.15 LOGIN wrote `old auid=… new auid=…`: the words belong to the keys.
fn prefixed<'a>(word: Option<&str>, key: &'a str) -> Cow<'a, str> {
    match word {
        Some("old") => Cow::Owned(format!("old-{key}")),
        _ => Cow::Borrowed(key),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_program_can_not_stand_for_the_kernel() {
        let fields =
            Fields::parse("pid=7 uid=1000 auid=1000 ses=3 msg='op=x auid=0 ses=1 acct=\"root\" exe=\"/bin/x\" res=success'");
        assert_eq!(fields.raw("auid"), Some("1000"));
        assert_eq!(fields.get("acct").as_deref(), Some("root"));
        assert_eq!(fields.succeeded(), Some(true));
    }

    #[test]
    fn hex_is_decoded_only_where_the_writer_encodes() {
        let fields = Fields::parse("acct=28696E76616C6964207573657229 a0=10 comm=\"41\" exe=41 key=(null)");
        assert_eq!(fields.get("acct").as_deref(), Some("(invalid user)"));
        assert_eq!(fields.get("a0").as_deref(), Some("10"));
        assert_eq!(fields.get("comm").as_deref(), Some("41"));
        assert_eq!(fields.get("exe").as_deref(), Some("A"));
        assert_eq!(fields.get("key"), None);
    }

    #[test]
    fn an_operation_may_hold_spaces() {
        let text = "msg='op=changing /etc/group; group g/1003, new name: g2 acct=\"g\" exe=\"/usr/sbin/groupmod\" res=success'";
        let fields = Fields::parse(text);
        assert_eq!(fields.raw("op"), Some("changing /etc/group; group g/1003 new name: g2"));
        assert_eq!(fields.get("acct").as_deref(), Some("g"));
        assert_eq!(Fields::parse("msg='op= id=1003 res=success'").raw("op"), Some(""));
    }

    #[test]
    fn lists_and_old_parentheses_are_values() {
        let fields = Fields::parse(
            "msg='op=PAM:x grantors=pam_a,pam_b acct=root : exe=\"/c\" (hostname=?, addr=192.0.2.1, terminal=cron res=success)'",
        );
        assert_eq!(fields.get("grantors").as_deref(), Some("pam_a,pam_b"));
        assert_eq!((fields.raw("hostname"), fields.raw("addr"), fields.succeeded()), (Some("?"), Some("192.0.2.1"), Some(true)));
    }

    #[test]
    fn words_and_old_spellings_are_kept() {
        let fields = Fields::parse("avc: denied { read } for pid=1");
        assert_eq!(fields.words(), ["avc:", "denied", "{", "read", "}", "for"]);
        let fields = Fields::parse("pid=2 uid=0 old auid=4294967295 new auid=5 old ses=4294967295 new ses=9");
        assert_eq!((fields.raw("old-auid"), fields.raw("auid"), fields.raw("ses")), (Some("4294967295"), Some("5"), Some("9")));
    }

    #[test]
    fn enriched_names_stand_beside_the_numbers() {
        let fields = Fields::parse("syscall=59 auid=1000 key=(null)\u{1d}ARCH=x86_64 SYSCALL=execve AUID=\"alice\"");
        assert_eq!(fields.raw("syscall"), Some("59"));
        assert_eq!(fields.get("AUID").as_deref(), Some("alice"));
        assert_eq!(fields.get("SYSCALL").as_deref(), Some("execve"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[ -~=\"'\u{1d}é,]{0,200}") {
            for field in Fields::parse(&text).iter() {
                let _ = field.decoded();
            }
        }

        #[test]
        fn what_is_written_as_the_kernel_does_comes_back(value in "[^\0]{1,40}") {
            let text = format!("pid=1 comm={} ses=2", hex::encode_upper(&value));
            let fields = Fields::parse(&text);
            prop_assert_eq!(fields.field("comm").map(Field::decoded), Some(Cow::Owned(value)));
        }
    }
}
