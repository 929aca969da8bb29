//! A stream of syslog messages or Vault's entries, in pieces: the same messages however it is cut.
#![no_main]

use edgetrail_agent::sources::inlet::{Frame, Frames};
use edgetrail_agent::sources::lines::syslog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(([kind, cut], bytes)) = bytes.split_first_chunk::<2>() else { return };
    let new = if kind % 2 == 0 { Frames::syslog } else { Frames::lines };
    let (mut whole, mut pieces) = (Vec::new(), Vec::new());
    let (mut one, mut other) = (new(), new());
    one.push(bytes, &mut whole);
    whole.extend(one.finish());
    for piece in bytes.chunks(usize::from(*cut).max(1)) {
        other.push(piece, &mut pieces);
    }
    pieces.extend(other.finish());
    // Of one that is too long, what came with its beginning is kept.
    for frames in [&mut whole, &mut pieces] {
        frames.retain(|frame| matches!(frame, Frame::Whole(_)));
    }
    assert_eq!(whole, pieces);
    for frame in whole {
        if let Frame::Whole(bytes) = frame {
            let _message = syslog::parse(&String::from_utf8_lossy(&bytes), 1 << 60);
        }
    }
});
