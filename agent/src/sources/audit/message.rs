//! Netlink messages of the audit family, as bytes.
//!
//! A multicast datagram's `nlmsg_len` covers its header; a unicast one's does not (kauditd writes the payload's length
//! alone): where one datagram holds one message, the length that recv returned is the truth. Replies to requests are
//! ordinary netlink. All fields are in the host's byte order. Nothing here trusts a length.

/// The kernel's `struct nlmsghdr`: length u32, type u16, flags u16, sequence u32, port u32.
pub const HEADER_BYTES: usize = 16;

/// `NLM_F_REQUEST`, and with `NLM_F_ACK`.
const REQUEST: u16 = 0x1;
const REQUEST_ACK: u16 = REQUEST | 0x4;

/// `NLMSG_ERROR`: an errno, or 0 as an acknowledgement.
pub const ERROR: u16 = 2;

/// `AUDIT_GET` and `AUDIT_SET`: the state of the audit system.
pub const GET: u16 = 1000;
pub const SET: u16 = 1001;

/// `NLMSG_DONE`: the end of a listing.
pub const DONE: u16 = 3;

/// `AUDIT_ADD_RULE`, `AUDIT_DEL_RULE` and `AUDIT_LIST_RULES`.
pub const ADD_RULE: u16 = 1011;
pub const DELETE_RULE: u16 = 1012;
pub const LIST_RULES: u16 = 1013;

/// A received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The one message of a datagram; none where not even a header is there.
    pub fn of_datagram(datagram: &'a [u8]) -> Option<Self> {
        let kind = datagram.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
        Some(Self { kind, payload: datagram.get(HEADER_BYTES..)? })
    }

    /// The errno of an `NLMSG_ERROR`, 0 for an acknowledgement.
    pub fn errno(&self) -> Option<i32> {
        let code = self.payload.get(..4)?.try_into().ok().map(i32::from_ne_bytes)?;
        (self.kind == ERROR).then(|| code.saturating_neg())
    }
}

/// A request that the kernel acknowledges.
pub fn request(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    with_flags(kind, REQUEST_ACK, sequence, payload)
}

/// One that the kernel answers only where it refuses it.
pub fn request_unacknowledged(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    with_flags(kind, REQUEST, sequence, payload)
}

fn with_flags(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_reads_back() {
        let bytes = request(GET, 7, b"abcd");
        assert_eq!(Message::of_datagram(&bytes), Some(Message { kind: GET, payload: b"abcd" }));
        assert_eq!(bytes[0..4], 20u32.to_ne_bytes());
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(message) = Message::of_datagram(&bytes) {
                prop_assert_eq!(message.payload.len() + HEADER_BYTES, bytes.len());
                let _ = message.errno();
            }
        }
    }
}
