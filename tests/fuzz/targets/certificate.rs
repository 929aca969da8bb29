//! Certificates, requests for them and opens with their chains, as strangers send them.
#![no_main]

use edgetrail_fuzz::{AUTHORITY, pieces};
use edgetrail_link::tls;
use edgetrail_verify::opening::{Statement, check};
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;

fuzz_target!(|bytes: &[u8]| {
    let parts: Vec<&[u8]> = pieces(bytes).collect();
    for part in &parts {
        let certificate = CertificateDer::from(part.to_vec());
        drop((tls::identity_of(&certificate), tls::validity_of(&certificate), tls::serial_of(&certificate)));
        drop(tls::public_key_of(&certificate));
        assert!(!tls::signed_by(&certificate, b"message", part), "a certificate is no signature");
        drop(AUTHORITY.check_request(part));
    }
    let [open, binding, signature, chain @ ..] = parts.as_slice() else { return };
    let statement = Statement { open, binding, signature, certificate_chain: chain.to_vec() };
    assert!(check(&statement, &[]).is_err(), "no root vouches for anything here");
});
