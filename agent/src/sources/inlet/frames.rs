//! Messages out of a stream's bytes: a line each, or counted octets as RFC 6587 §3.4.1 writes them before each.

use bytes::{Buf, Bytes, BytesMut};

/// Largest message that is read, in bytes. Source: Vault's entries hold whole requests; syslog's are far smaller.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Kept of a longer one.
const TOO_LONG_KEPT_BYTES: usize = 32 * 1024;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Whole(Bytes),
    /// The beginning of a message over the limit; its rest is passed over.
    TooLong(Bytes),
    /// The beginning of a message whose stream ended within it.
    Cut(Bytes),
}

/// Takes a stream apart.
#[derive(Debug, Default)]
pub struct Frames {
    held: BytesMut,
    /// Whether counts of octets are looked for.
    counts: bool,
    passing: Passing,
}

/// What is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Passing {
    #[default]
    Nothing,
    /// The rest of a line.
    Line,
    /// So many bytes.
    Octets(usize),
}

impl Frames {
    /// Of lines.
    pub fn lines() -> Self {
        Self::default()
    }

    /// Of syslog over a stream: each message says by its beginning how it ends.
    pub fn syslog() -> Self {
        Self { counts: true, ..Self::default() }
    }

    /// Takes bytes in; gives the messages that are complete.
    pub fn push(&mut self, bytes: &[u8], found: &mut Vec<Frame>) {
        self.held.extend_from_slice(bytes);
        while let Some(frame) = self.next() {
            if !frame.is_empty() {
                found.push(frame);
            }
        }
    }

    /// What is left when the stream ends because its writer says so: the last line may lack its end, a counted message may not.
    pub fn finish(&mut self) -> Option<Frame> {
        let mut rest = self.held.split().freeze();
        let frame = match count(&rest) {
            Count::Some { digits, .. } if self.counts => {
                rest.advance(digits);
                Frame::Cut(rest)
            }
            // A count alone: of what is not to be known.
            Count::More if self.counts => Frame::Cut(rest),
            _ => Frame::Whole(trimmed(rest)),
        };
        (self.passing == Passing::Nothing && !frame.is_empty()).then_some(frame)
    }

    /// What is left when the stream breaks: whatever it is, its writer had not ended it.
    pub fn broken(&mut self) -> Option<Frame> {
        self.finish().map(|frame| match frame {
            Frame::Whole(bytes) => Frame::Cut(bytes),
            other => other,
        })
    }

    fn next(&mut self) -> Option<Frame> {
        match self.passing {
            Passing::Nothing => {}
            Passing::Octets(count) => {
                let passed = count.min(self.held.len());
                self.held.advance(passed);
                self.passing = if passed == count { Passing::Nothing } else { Passing::Octets(count - passed) };
                if self.passing != Passing::Nothing {
                    return None;
                }
            }
            Passing::Line => match memchr::memchr(b'\n', &self.held) {
                Some(end) => {
                    self.held.advance(end + 1);
                    self.passing = Passing::Nothing;
                }
                None => {
                    self.held.clear();
                    return None;
                }
            },
        }
        if self.counts {
            match count(&self.held) {
                Count::Some { digits, octets } => return self.counted(digits, octets),
                Count::More => return None,
                Count::None => {}
            }
        }
        // Some senders end a message with NUL.
        let end = if self.counts { memchr::memchr2(b'\n', 0, &self.held) } else { memchr::memchr(b'\n', &self.held) };
        match end {
            Some(end) if end <= FRAME_BYTES_MAX => {
                let line = self.held.split_to(end).freeze();
                self.held.advance(1);
                Some(Frame::Whole(trimmed(line)))
            }
            None if self.held.len() <= FRAME_BYTES_MAX => None,
            _ => {
                let beginning = self.held.split_to(TOO_LONG_KEPT_BYTES.min(self.held.len())).freeze();
                self.passing = Passing::Line;
                Some(Frame::TooLong(beginning))
            }
        }
    }

    fn counted(&mut self, digits: usize, octets: usize) -> Option<Frame> {
        if octets > FRAME_BYTES_MAX {
            let kept = TOO_LONG_KEPT_BYTES.min(self.held.len().saturating_sub(digits));
            self.held.advance(digits);
            let beginning = self.held.split_to(kept).freeze();
            self.passing = Passing::Octets(octets - kept);
            return Some(Frame::TooLong(beginning));
        }
        if self.held.len() < digits + octets {
            return None;
        }
        self.held.advance(digits);
        Some(Frame::Whole(trimmed(self.held.split_to(octets).freeze())))
    }
}

impl Frame {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) | Self::TooLong(bytes) | Self::Cut(bytes) if bytes.is_empty())
    }
}

enum Count {
    /// `digits` with the space behind them.
    Some {
        digits: usize,
        octets: usize,
    },
    /// What there is may become one.
    More,
    None,
}

/// Digits of a count: more are none.
const DIGITS_MAX: usize = 9;

/// `123 <` at the beginning: without the bracket it is a message that begins with a number.
fn count(held: &[u8]) -> Count {
    let digits = held.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    match (digits, held.get(digits), held.get(digits + 1)) {
        (0, ..) | (_, Some(_), _) if digits == 0 || held.get(digits) != Some(&b' ') => Count::None,
        (digits, Some(b' '), Some(b'<')) if digits <= DIGITS_MAX => {
            let text = held.get(..digits).and_then(|digits| std::str::from_utf8(digits).ok());
            match text.and_then(|text| text.parse().ok()) {
                Some(octets) => Count::Some { digits: digits + 1, octets },
                None => Count::None,
            }
        }
        (_, Some(b' '), Some(_)) => Count::None,
        (digits, ..) if digits <= DIGITS_MAX => Count::More,
        _ => Count::None,
    }
}

fn trimmed(line: Bytes) -> Bytes {
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n' | 0)).map_or(0, |at| at + 1);
    line.slice(..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(frames: &mut Frames, pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        for piece in pieces {
            frames.push(piece, &mut found);
        }
        found.extend(frames.finish());
        let text = |frame: Frame| match frame {
            Frame::Whole(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Frame::TooLong(bytes) => format!("too long: {}", bytes.len()),
            Frame::Cut(bytes) => format!("cut: {}", String::from_utf8_lossy(&bytes)),
        };
        found.into_iter().map(text).collect()
    }

    #[test]
    fn lines_and_counted_messages_mix_and_may_come_in_pieces() {
        let all = b"<1>a\n5 <2>b\n<3>c\0<4>d\r\n\n7 <5>e\nfg<6>h";
        let expected = ["<1>a", "<2>b", "<3>c", "<4>d", "<5>e\nfg", "<6>h"];
        assert_eq!(texts(&mut Frames::syslog(), &[all]), expected);
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(texts(&mut Frames::syslog(), &bytes), expected);
        assert_eq!(texts(&mut Frames::lines(), &[b"5 <a>\n{}\n7"]), ["5 <a>", "{}", "7"]);
    }

    #[test]
    fn a_counted_message_that_its_stream_cuts_is_no_whole_one() {
        let all = "<1>a\n9 <2>bcdef";
        for (end, expected) in [(6, "cut: 9"), (7, "cut: 9 "), (8, "cut: <"), (13, "cut: <2>bcd"), (15, "cut: <2>bcdef")] {
            let found = texts(&mut Frames::syslog(), &[&all.as_bytes()[..end]]);
            assert_eq!(found, ["<1>a", expected], "{end}");
        }
        assert_eq!(texts(&mut Frames::syslog(), &[b"8 <2>bcdef"]), ["<2>bcdef"]);
        assert_eq!(texts(&mut Frames::lines(), &[b"9 <2>b"]), ["9 <2>b"]);
        for mut frames in [Frames::lines(), Frames::syslog()] {
            frames.push(b"<1>a\n<2>b", &mut Vec::new());
            assert_eq!(frames.broken(), Some(Frame::Cut("<2>b".into())));
            assert_eq!(frames.broken(), None);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_told_once_and_passed_over() {
        let long = vec![b'x'; FRAME_BYTES_MAX + 10];
        let found = texts(&mut Frames::syslog(), &[&long, &long, b"\n<1>next\n"]);
        assert_eq!(found, [format!("too long: {TOO_LONG_KEPT_BYTES}"), "<1>next".to_owned()]);
        let counted = [format!("{} <", FRAME_BYTES_MAX + 5).as_bytes(), &vec![b'y'; FRAME_BYTES_MAX + 4], b"<1>next\n"].concat();
        let pieces: Vec<&[u8]> = counted.chunks(50_000).collect();
        assert_eq!(texts(&mut Frames::syslog(), &pieces).last().map(String::as_str), Some("<1>next"));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_nothing_panics(bytes in "[0-9 <>a\\n\\x00]{0,60}", cut in 1usize..9) {
            let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(cut).collect();
            // Of one that is too long, what came with its beginning is kept.
            let whole = |pieces: &[&[u8]]| {
                let all = texts(&mut Frames::syslog(), pieces).into_iter();
                all.filter(|text| !text.starts_with("too long")).collect::<Vec<_>>()
            };
            prop_assert_eq!(whole(&[bytes.as_bytes()]), whole(&pieces));
        }
    }
}
