//! A batch's body in each encoding: never longer than announced, and framed records come back as they went in.
#![no_main]

use edgetrail_link::body::{BODY_BYTES_MAX, Decoder, Encoding, frame, unframe};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, body)) = bytes.split_first_chunk::<5>() else { return };
    let [kind, length @ ..] = *head;
    let announced = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let (Some(encoding), Ok(mut decoder)) = (Encoding::from_wire(i32::from(kind % 3)), Decoder::new()) else { return };
    let Ok(decoded) = decoder.decode(encoding, body, announced) else { return };
    assert_eq!(decoded.len(), announced);
    assert!(announced <= BODY_BYTES_MAX);
    if let Ok(records) = unframe(&decoded).collect::<Result<Vec<_>, _>>() {
        let mut again = Vec::new();
        records.iter().for_each(|record| frame(&mut again, record));
        assert_eq!(again, decoded);
    }
});
