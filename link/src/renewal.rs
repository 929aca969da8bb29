//! What an agent signs to renew its certificate: checked by the collector under the certificate's own key.

use edgetrail_proto::chain::Hash;

const DOMAIN: &[u8; 19] = b"edgetrail/renew/v1\n";

/// `"edgetrail/renew/v1\n" ‖ SHA256(csr) ‖ SHA256(certificate) ‖ time u64`. The time is the host's word: a replayed
/// request gives nobody anything but the same key's own certificate.
pub fn message(csr: &[u8], certificate: &[u8], time: u64) -> Vec<u8> {
    [DOMAIN.as_slice(), &Hash::of(csr).0, &Hash::of(certificate).0, &time.to_be_bytes()].concat()
}
