//! What the targets share: a normalizer without a host around it, and what every record of it must be.
#![cfg(feature = "fuzz")]
#![allow(clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

use std::path::Path;
use std::sync::LazyLock;

use edgetrail_agent::normalize::{Host, Made, Normalizer, audit, names};
use edgetrail_agent::observation::Observation;
use edgetrail_collector::pki::Authority;
use edgetrail_proto::facets::Facets;
use edgetrail_proto::identity::AgentId;
use edgetrail_proto::limits::{RECORD_BYTES_FOREIGN_MAX, RECORD_BYTES_MAX};

/// normalize, as the pipeline has it. Redaction has a target of its own.
#[derive(Debug)]
pub struct Bench {
    normalizer: Normalizer,
}

impl Default for Bench {
    fn default() -> Self {
        let host = Host {
            agent: AgentId::from_bytes([7; 16]),
            name: "web-1".to_owned(),
            account: "111122223333".parse().expect("twelve digits"),
            region: "dc-local-1".parse().expect("a label"),
            partition: "aws".to_owned(),
            keep_raw: true,
        };
        let names = names::Names::of_files(Path::new("/nonexistent"), Path::new("/nonexistent"));
        Self { normalizer: Normalizer::new(host, audit::Decoder::restore(None), names) }
    }
}

impl Bench {
    /// Every record that an observation makes is one that no limit turns away, with facets that can be indexed.
    pub fn judge(&mut self, observation: &Observation) {
        for draft in self.normalizer.normalize(observation) {
            let mut made = draft.record;
            let (bytes, most) = match &mut made {
                Made::Record(record) => (record.to_fitted_json(), RECORD_BYTES_MAX),
                Made::Written(bytes) => (bytes.clone(), RECORD_BYTES_MAX),
                Made::Foreign(bytes) => (bytes.clone(), RECORD_BYTES_FOREIGN_MAX),
            };
            assert!(bytes.len() <= most, "{} bytes", bytes.len());
            if let (Made::Record(_) | Made::Written(_), Err(error)) = (&made, Facets::parse(&bytes)) {
                panic!("{error}: {}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

/// An authority that vouches for nobody else here.
pub static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    Authority::open(directory.path(), "fuzz.example".parse().expect("a name")).expect("an authority can be made")
});

/// Pieces, each behind its length as u16; the last one as long as there are bytes.
pub fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        bytes = behind;
        Some(piece)
    })
}

/// A configuration file of this text.
pub fn layer(text: &str) -> edgetrail_settings::Layer {
    edgetrail_settings::Layer { name: "fuzz.toml".to_owned(), text: text.to_owned() }
}
