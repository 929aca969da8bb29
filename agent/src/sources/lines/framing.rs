//! Where an entry ends: at its line feed, only outside of quotes, where an entry of sudo's log closes, or where a
//! container's line does that its runtime has cut.
//!
//! PostgreSQL's csvlog writes line feeds within quotes. An entry begins outside of them, so its own beginning is enough to
//! know; a quote that is never closed makes an entry too long, which is named and passed over.
//!
//! sudo's JSON log is one object, whose end sudo writes over with each further member. A member ends with the line that closes
//! it; what was read of the object's end stands before the next member, as rubbish that its reader passes over.

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
        let mut parts = Parts::default();
        let mut is_json = skipping || bytes.first() == Some(&b'{');
        memchr::memchr2_iter(b'\n', b'"', bytes).filter(move |at| {
            if bytes.get(*at) == Some(&b'"') {
                within ^= self == Self::Quoted && !is_json;
                return false;
            }
            if self == Self::Cri && parts.is_cut_at(bytes, *at) {
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

/// The streams of a container that are within a line.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    output: bool,
    error: bool,
    /// Lines since the entry's beginning.
    lines: usize,
}

/// An entry ends with so many lines at the latest: a container that dies within a line must not hold all that comes. Source:
/// runtimes cut at 16 KiB, so these hold 2 MiB.
const CRI_LINES_MAX: usize = 128;

impl Parts {
    /// Takes the line that ends at `at`; whether something of it is still to come.
    fn is_cut_at(&mut self, bytes: &[u8], at: usize) -> bool {
        self.lines += 1;
        match Part::of(line_before(bytes, at)) {
            Some(Part { stream: b"stdout", is_cut, .. }) => self.output = is_cut,
            Some(Part { is_cut, .. }) => self.error = is_cut,
            // No line of CRI's: what was open will not be closed.
            None => *self = Self::default(),
        }
        let goes_on = (self.output || self.error) && self.lines < CRI_LINES_MAX;
        if !goes_on {
            *self = Self::default();
        }
        goes_on
    }
}

/// One line in CRI's form: `TIME STREAM TAGS TEXT`. Source: kubernetes, CRI logging, `P` for a part and `F` for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub time: &'a [u8],
    pub stream: &'a [u8],
    /// Whether the text goes on with the stream's next line.
    pub is_cut: bool,
    pub text: &'a [u8],
}

impl<'a> Part<'a> {
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        let is_time = time.first().is_some_and(u8::is_ascii_digit) && time.contains(&b'T');
        if !is_time || !matches!(stream, b"stdout" | b"stderr") {
            return None;
        }
        let is_cut = match tags.split(|byte| *byte == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self { time, stream, is_cut, text: parts.next().unwrap_or_default() })
    }
}

/// The whole lines of an entry that a runtime has cut, each in CRI's form; what lost its end, as far as it goes.
pub fn joined(entry: &[u8]) -> Vec<Vec<u8>> {
    let mut open: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let mut whole = Vec::new();
    for line in entry.split(|byte| *byte == b'\n') {
        let Some(Part { time, stream, is_cut, text }) = Part::of(line) else {
            whole.push(line.to_vec());
            continue;
        };
        let mut joined = match open.iter().position(|(of, _)| *of == stream) {
            Some(index) => open.remove(index).1,
            None => [time, b" ", stream, b" F "].concat(),
        };
        joined.extend_from_slice(text);
        if is_cut { open.push((stream, joined)) } else { whole.push(joined) }
    }
    whole.extend(open.into_iter().map(|(_, cut)| cut));
    whole
}

fn line_before(bytes: &[u8], at: usize) -> &[u8] {
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
    fn what_a_runtime_cut_is_joined_stream_by_stream() {
        let cut = b"2025-12-31T17:37:40Z stdout P {\"a\":\n2025-12-31T17:37:41Z stderr F oh\n2025-12-31T17:37:42Z stdout F 1}\n";
        let all = [cut.as_slice(), b"2025-12-31T17:37:43Z stdout F next\nplain\n"].concat();
        let ends: Vec<usize> = Framing::Cri.ends(&all, false).collect();
        assert_eq!(ends, [cut.len() - 1, all.len() - 7, all.len() - 1]);
        let lines: Vec<String> = joined(&cut[..cut.len() - 1]).into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, ["2025-12-31T17:37:41Z stderr F oh", "2025-12-31T17:37:40Z stdout F {\"a\":1}"]);
        let never = b"2025-12-31T17:37:40Z stdout P x\n".repeat(CRI_LINES_MAX + 1);
        assert_eq!(Framing::Cri.ends(&never, false).count(), 1, "a line without an end ends some day");
        assert_eq!(joined(b"2025-12-31T17:37:40Z stdout P x").len(), 1);
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
