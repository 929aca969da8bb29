//! Whom a client's certificate names. Its chain was checked by the handshake.

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What a record tells of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    pub subject: String,
    pub common_name: Option<String>,
    pub issuer: String,
    pub serial: String,
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
}

/// Names of one kind that are kept.
const NAMES_MAX: usize = 16;

/// Longest name that is kept, characters.
const NAME_CHARS_MAX: usize = 512;

impl Certificate {
    /// `None` where it is no X.509.
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let common_name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let of_kind = |kind: fn(&GeneralName<'_>) -> Option<String>| names.iter().filter_map(kind).take(NAMES_MAX).map(bounded);
        Some(Self {
            subject: bounded(certificate.subject().to_string()),
            common_name: common_name.map(|name| bounded(name.to_owned())).filter(|name| !name.is_empty()),
            issuer: bounded(certificate.issuer().to_string()),
            serial: bounded(certificate.raw_serial_as_string()),
            uris: of_kind(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }).collect(),
            dns: of_kind(|name| if let GeneralName::DNSName(dns) = name { Some((*dns).to_owned()) } else { None }).collect(),
            emails: of_kind(|name| if let GeneralName::RFC822Name(email) = name { Some((*email).to_owned()) } else { None })
                .collect(),
            fingerprint: hex::encode(Sha256::digest(der)),
        })
    }

    /// The name of a kind: `uri`, `dns`, `email`; of none the common name, else the first of those.
    pub fn name(&self, kind: &str) -> Option<&str> {
        match kind {
            "uri" => self.uris.first(),
            "dns" => self.dns.first(),
            "email" => self.emails.first(),
            _ => {
                let others = self.uris.iter().chain(&self.emails).chain(&self.dns);
                self.common_name.iter().chain(others).next()
            }
        }
        .map(String::as_str)
    }
}

fn bounded(text: String) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}
