//! Opens, headers, receipts and bindings: what decodes encodes to the very same bytes, or it could be signed twice.
#![no_main]

use edgetrail_proto::chain::{Binding, Header, Open, Receipt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.encode().as_slice(), bytes);
    }
    if let Ok(open) = Open::decode(bytes) {
        assert_eq!(open.encode().as_slice(), bytes);
    }
    if let Ok(receipt) = Receipt::decode(bytes) {
        assert_eq!(receipt.encode().as_slice(), bytes);
    }
    if let Ok(binding) = Binding::parse(bytes) {
        assert_eq!(binding.to_bytes(), bytes);
    }
});
