//! Connections that end within a message. One that breaks has told what was whole, and its last piece is known as one.

use edgetrail_agent::sources::inlet::{Frame, Frames};

use crate::fixtures::{ENGINE, EVENTS, SYSLOG};

/// A stream: its messages as they are, each with how it is framed.
struct Stream {
    name: &'static str,
    frames: fn() -> Frames,
    messages: Vec<(String, Vec<u8>)>,
    /// Whether each says how long it is.
    is_counted: fn(usize) -> bool,
}

fn streams() -> Vec<Stream> {
    fn ended(messages: &[&str], end: &str) -> Vec<(String, Vec<u8>)> {
        messages.iter().map(|message| ((*message).to_owned(), format!("{message}{end}").into_bytes())).collect()
    }
    fn counted(messages: &[&str]) -> Vec<(String, Vec<u8>)> {
        messages.iter().map(|message| ((*message).to_owned(), format!("{} {message}", message.len()).into_bytes())).collect()
    }
    let mixed = counted(&SYSLOG).into_iter().zip(ended(&SYSLOG, "\n")).flat_map(|(counted, ended)| [counted, ended]);
    vec![
        Stream { name: "lines", frames: Frames::syslog, messages: ended(&SYSLOG, "\n"), is_counted: |_| false },
        Stream { name: "CR LF", frames: Frames::syslog, messages: ended(&SYSLOG, "\r\n"), is_counted: |_| false },
        Stream { name: "NUL", frames: Frames::syslog, messages: ended(&SYSLOG, "\0"), is_counted: |_| false },
        Stream { name: "counted", frames: Frames::syslog, messages: counted(&SYSLOG), is_counted: |_| true },
        Stream { name: "mixed", frames: Frames::syslog, messages: mixed.collect(), is_counted: |index| index % 2 == 0 },
        Stream { name: "an engine's", frames: Frames::lines, messages: ended(&ENGINE, "\n"), is_counted: |_| false },
        Stream { name: "Vault's", frames: Frames::lines, messages: ended(&EVENTS, "\n"), is_counted: |_| false },
    ]
}

#[test]
fn a_stream_cut_at_any_byte_tells_what_was_whole_and_half_a_message_as_half() {
    for Stream { name, frames, messages, is_counted } in streams() {
        let bytes: Vec<u8> = messages.iter().flat_map(|(_, framed)| framed.clone()).collect();
        for cut in 0..=bytes.len() {
            let mut ends = messages.iter().scan(0, |end, (_, framed)| {
                *end += framed.len();
                Some(*end)
            });
            let before = ends.by_ref().take_while(|end| *end <= cut).count();
            let whole: Vec<Frame> = messages[..before].iter().map(|(message, _)| Frame::Whole(message.clone().into())).collect();
            let begun: usize = messages[..before].iter().map(|(_, framed)| framed.len()).sum();
            for is_broken in [false, true] {
                let (mut frames, mut found) = (frames(), Vec::new());
                frames.push(&bytes[..cut], &mut found);
                assert_eq!(found, whole, "{name} cut at {cut}");
                let rest = if is_broken { frames.broken() } else { frames.finish() };
                let is_cut = matches!(rest, Some(Frame::Cut(_)));
                let is_half = cut > begun;
                match rest {
                    None => assert!(!is_half, "{name} cut at {cut}: its rest is lost"),
                    // An orderly end is an end of a line.
                    Some(Frame::Whole(rest)) => {
                        assert!(is_half && !is_broken && !is_counted(before), "{name} cut at {cut}: {rest:?}");
                        assert!(messages[before].0.as_bytes().starts_with(&rest), "{name} cut at {cut}: {rest:?}");
                    }
                    Some(_) => assert!(is_half && is_cut, "{name} cut at {cut}"),
                }
            }
        }
    }
}
