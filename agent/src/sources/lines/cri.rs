//! Lines of containers as their runtime writes them, in the form of Kubernetes' CRI: `TIME STREAM TAGS TEXT`.
//!
//! A runtime cuts long lines into parts; those of standard output and standard error may alternate. What belongs together
//! is read together and joined by stream, bounded: a container that dies within a line holds nothing up.

/// The streams of a container that are within a line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streams {
    output: bool,
    error: bool,
    /// Lines since the entry's beginning.
    lines: usize,
}

/// An entry ends with so many lines at the latest: a container that dies within a line must not hold all that comes. Source:
/// runtimes cut at 16 KiB, so these hold 1 MiB.
const LINES_MAX: usize = 64;

impl Streams {
    /// Takes a line; whether something of this or an earlier one is still to come.
    pub(super) fn are_within_a_line(&mut self, line: &[u8]) -> bool {
        self.lines += 1;
        match Part::of(line) {
            Some(Part { stream: b"stdout", is_cut, .. }) => self.output = is_cut,
            Some(Part { is_cut, .. }) => self.error = is_cut,
            // No line of CRI's: what was open will not be closed.
            None => *self = Self::default(),
        }
        let goes_on = (self.output || self.error) && self.lines < LINES_MAX;
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

/// Whether any line of these may be a part of one: most logs hold none, and are then read as lines.
pub fn may_be_cut(bytes: &[u8]) -> bool {
    [b"stdout P", b"stderr P"].iter().any(|mark| memchr::memmem::find(bytes, *mark).is_some())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sources::lines::framing::Framing;

    #[test]
    fn what_a_runtime_cut_is_joined_stream_by_stream() {
        let cut = b"2025-12-31T17:37:40Z stdout P {\"a\":\n2025-12-31T17:37:41Z stderr F oh\n2025-12-31T17:37:42Z stdout F 1}\n";
        let all = [cut.as_slice(), b"2025-12-31T17:37:43Z stdout F next\nplain\n"].concat();
        let ends: Vec<usize> = Framing::Cri.ends(&all, false).collect();
        assert_eq!(ends, [cut.len() - 1, all.len() - 7, all.len() - 1]);
        let lines: Vec<String> = joined(&cut[..cut.len() - 1]).into_iter().map(|line| String::from_utf8(line).unwrap()).collect();
        assert_eq!(lines, ["2025-12-31T17:37:41Z stderr F oh", "2025-12-31T17:37:40Z stdout F {\"a\":1}"]);
        let never = b"2025-12-31T17:37:40Z stdout P x\n".repeat(LINES_MAX + 1);
        assert_eq!(Framing::Cri.ends(&never, false).count(), 1, "a line without an end ends some day");
        assert_eq!(joined(b"2025-12-31T17:37:40Z stdout P x").len(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            Framing::Cri.ends(&bytes, false).count();
            let _joined = joined(&bytes);
        }
    }
}
