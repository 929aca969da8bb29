//! Where a line ends: at its line feed, or only outside of quotes.
//!
//! PostgreSQL's csvlog writes line feeds within quotes. An entry begins outside of them, so its own beginning is enough to
//! know; a quote that is never closed makes an entry too long, which is named and passed over.

/// How lines are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Lines,
    /// Line feeds within double quotes belong to the entry, unless it begins with a brace: JSON escapes them.
    Quoted,
}

impl Framing {
    /// Where entries end: the places of their line feeds. `bytes` begin with an entry, or with the rest of one that is
    /// skipped: whether that still was within quotes is not to be known, so it ends with its line.
    pub fn ends(self, bytes: &[u8], skipping: bool) -> impl Iterator<Item = usize> {
        let mut within = false;
        let mut is_json = skipping || bytes.first() == Some(&b'{');
        memchr::memchr2_iter(b'\n', b'"', bytes).filter(move |at| {
            if bytes.get(*at) == Some(&b'"') {
                within ^= self == Self::Quoted && !is_json;
                return false;
            }
            if within {
                return false;
            }
            is_json = bytes.get(at + 1) == Some(&b'{');
            true
        })
    }

    /// Whether what was read, up to a line feed, is a whole entry.
    pub fn is_whole(self, entry: &[u8]) -> bool {
        !entry.ends_with(b"\n") || self.ends(entry, false).last() == Some(entry.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_within_quotes_ends_nothing() {
        let ends = |framing: Framing, bytes: &[u8], skipping| framing.ends(bytes, skipping).collect::<Vec<_>>();
        let text = b"a,\"b\nc\"\"d\",\n{\"e\n\"x\n\"\n";
        assert_eq!(ends(Framing::Quoted, text, false), [11, 15, 20]);
        assert_eq!(ends(Framing::Quoted, text, true), [4, 15, 20]);
        assert_eq!(ends(Framing::Lines, text, false).len(), 5);
        assert!(!Framing::Quoted.is_whole(b"a,\"b\n") && Framing::Quoted.is_whole(b"{\"a\n"));
    }
}
