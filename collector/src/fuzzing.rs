//! Doors for the fuzz targets to parsers that nobody else reaches from outside. In no other build.

use edgetrail_link::wire::FromAgent;
use http::request::Parts;

/// What is done with a message before the ledger or an authority is asked.
pub fn from_agent(message: FromAgent) {
    crate::ingest::read_unattached(message);
}

/// Whether a request carries a signature under a secret that nobody knows.
pub fn is_signed(head: &Parts, body: &[u8]) -> bool {
    crate::api::is_signed(head, body)
}
