//! What an agent signs to renew its certificate: checked by the collector under the certificate's own key.

use edgetrail_proto::chain::Hash;

const DOMAIN: &[u8; 19] = b"edgetrail/renew/v1\n";

const RELAY_DOMAIN: &[u8; 25] = b"edgetrail/renew-relay/v1\n";

/// `"edgetrail/renew/v1\n" ‖ SHA256(csr) ‖ SHA256(certificate) ‖ time u64`. The time is the host's word: a replayed
/// request gives nobody anything but the same key's own certificate.
pub fn message(csr: &[u8], certificate: &[u8], time: u64) -> Vec<u8> {
    [DOMAIN.as_slice(), &Hash::of(csr).0, &Hash::of(certificate).0, &time.to_be_bytes()].concat()
}

/// What a relay signs: `"edgetrail/renew-relay/v1\n" ‖ SHA256(csr) ‖ SHA256(certificate) ‖ time u64 ‖ receipt_public_key ‖
/// SHA256(the names, each followed by "\n")`.
pub fn relay_message(csr: &[u8], certificate: &[u8], time: u64, receipt_public_key: &[u8], names: &[String]) -> Vec<u8> {
    let names: String = names.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
    let (csr, certificate) = (Hash::of(csr), Hash::of(certificate));
    let (time, names) = (time.to_be_bytes(), Hash::of(names.as_bytes()));
    [RELAY_DOMAIN.as_slice(), &csr.0, &certificate.0, &time, receipt_public_key, &names.0].concat()
}
