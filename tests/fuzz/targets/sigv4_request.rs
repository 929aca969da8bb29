//! Heads of HTTP requests: lines METHOD, URI, then NAME: VALUE, an empty one, the body. None of them knows the secret.
#![no_main]

use edgetrail_sigv4::Claim;
use http::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let mut lines = head.split(|byte| *byte == b'\n');
    let (Some(method), Some(uri)) = (lines.next(), lines.next()) else { return };
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        if let Some(at) = line.iter().position(|byte| *byte == b':') {
            let (name, value) = line.split_at(at);
            request = request.header(name, value.get(1..).unwrap_or_default().trim_ascii());
        }
    }
    if let Ok(request) = request.body(()) {
        let head = request.into_parts().0;
        edgetrail_sigv4::service_of(&head);
        let Ok(claim) = Claim::parse(&head) else { return };
        assert!(claim.verify(&head, body, "known to nobody", claim.signed_at).is_err(), "nobody knows the secret");
    }
});
