//! Doors for the fuzz targets to parsers that nobody else reaches from outside. In no other build.

use edgetrail_link::wire::FromAgent;

/// What is done with a message before the ledger or an authority is asked.
pub fn from_agent(message: FromAgent) {
    crate::ingest::read_unattached(message);
}
