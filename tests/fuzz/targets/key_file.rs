//! The key file's two slots: a slot counts only where every byte of it is what was written.
#![no_main]

use edgetrail_proto::chain::{KEY_SLOT_BYTES, KeySlot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for slot in bytes.chunks(KEY_SLOT_BYTES) {
        if let Some(found) = KeySlot::decode(slot) {
            assert_eq!(found.encode().as_slice(), slot);
        }
    }
});
