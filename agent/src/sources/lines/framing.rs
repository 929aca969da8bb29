//! Where an entry ends: at its line feed, only outside of quotes, where an entry of sudo's log closes, or where a
//! container's line does that its runtime has cut.
//!
//! PostgreSQL's csvlog writes line feeds within quotes. An entry begins outside of them, so its own beginning is enough to
//! know; a quote that is never closed makes an entry too long, which is named and passed over.
//!
//! sudo's JSON log is one object, whose end sudo writes over with each further member. A member ends with the line that closes
//! it; what was read of the object's end stands before the next member, as rubbish that its reader passes over.

use super::cri::Streams;

/// How lines are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Lines,
    /// Line feeds within double quotes belong to the entry, unless it begins with a brace: JSON escapes them.
    Quoted,
    /// Lines of a container in CRI's form belong together until none of its streams is within a line; all others are lines.
    Cri,
    /// Members of an object that is spread over lines, as sudo writes it.
    Members,
}

/// How sudo closes a member: at the depth of one, whatever stands in texts has no line feeds.
const MEMBER_END: &[u8] = b"    }";

/// What sudo writes over with the next member: the object's end.
const OBJECT_END_BYTES: u64 = b"\n}\n".len() as u64;

impl Framing {
    /// Where entries end: the places of their line feeds. `bytes` begin with an entry, or with the rest of one that is
    /// skipped: whether that still was within quotes is not to be known, so it ends with its line.
    pub fn ends(self, bytes: &[u8], skipping: bool) -> impl Iterator<Item = usize> {
        let mut within = false;
        let mut streams = Streams::default();
        let mut is_json = skipping || bytes.first() == Some(&b'{');
        memchr::memchr2_iter(b'\n', b'"', bytes).filter(move |at| {
            if bytes.get(*at) == Some(&b'"') {
                within ^= self == Self::Quoted && !is_json;
                return false;
            }
            if self == Self::Cri && streams.are_within_a_line(line_before(bytes, *at)) {
                return false;
            }
            // A plain log of PostgreSQL's indents an entry's further lines: a quote that stays open there holds nothing up.
            if within && is_plain(bytes, *at) {
                within = bytes.get(at + 1).is_none_or(|next| *next == b'\t');
            }
            if self == Self::Quoted && bytes.get(at + 1) == Some(&b'\t') && is_plain(bytes, *at) {
                return false;
            }
            if within || self == Self::Members && !closes_member(bytes, *at) {
                return false;
            }
            is_json = bytes.get(at + 1) == Some(&b'{');
            true
        })
    }

    /// How much of what was read up to `offset` is never written over.
    pub fn settled(self, offset: u64) -> u64 {
        if self == Self::Members { offset.saturating_sub(OBJECT_END_BYTES) } else { offset }
    }

    /// Whether what was read, up to a line feed, is a whole entry.
    pub fn is_whole(self, entry: &[u8]) -> bool {
        !entry.ends_with(b"\n") || self.ends(entry, false).last() == Some(entry.len() - 1)
    }
}

/// Whether the entry whose line ends at `at` is of PostgreSQL's plain log: `DATE TIME ZONE [PID] …`, or a further line of it.
fn is_plain(bytes: &[u8], at: usize) -> bool {
    let line = line_before(bytes, at);
    let head = line.get(..line.len().min(PLAIN_HEAD_BYTES)).unwrap_or_default();
    line.first() == Some(&b'\t')
        || head.split(|byte| *byte == b' ').nth(3).is_some_and(|word| word.first() == Some(&b'[') && !head.contains(&b','))
}

/// A plain entry's process stands within so many bytes; csvlog's first comma does.
const PLAIN_HEAD_BYTES: usize = 40;

/// The line that ends at `at`.
pub(super) fn line_before(bytes: &[u8], at: usize) -> &[u8] {
    let before = bytes.get(..at).unwrap_or_default();
    memchr::memrchr(b'\n', before).map_or(before, |begin| before.get(begin + 1..).unwrap_or_default())
}

/// Whether the line that ends at `at` is the end of a member.
fn closes_member(bytes: &[u8], at: usize) -> bool {
    let line = line_before(bytes, at);
    line.strip_suffix(b",").unwrap_or(line) == MEMBER_END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_quote_in_a_plain_log_holds_nothing_up() {
        let text = b"2024-03-01 10:00:00 UTC [1] LOG:  AUDIT: \"a\n\tb\",x\n2024-03-01 10:00:00 UTC [1] ERROR:  unterminated \"x\n\tat 7\n2024-03-01 10:00:00 UTC [1] LOG:  y\n";
        let lines: Vec<usize> = memchr::memchr_iter(b'\n', text).collect();
        assert_eq!(Framing::Quoted.ends(text, false).collect::<Vec<_>>(), [lines[1], lines[3], lines[4]]);
    }

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
