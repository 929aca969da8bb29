//! Who an agent is: account, region, host and the SPIFFE id in its certificate.
//!
//! A value of these types is valid: they are made only by parsing. Nothing here trusts a payload; the identity of a
//! peer comes from its certificate alone.

mod relay;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use relay::{RelayIdentity, RelayName};

/// Twelve decimal digits. Source: CloudTrail's account ids; the AWS CLI checks `\d{12}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId([u8; 12]);

/// A lower-case DNS label (RFC 1035 §2.3.1, digits allowed first as by RFC 1123 §2.1), at most 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// The SPIFFE trust domain that a collector's CA names: lower-case letters, digits, `.`, `-`, `_`; at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

/// An agent for its whole life, across streams and certificates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentId(Uuid);

/// One unbroken sequence of batches of one agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(Uuid);

/// `spiffe://TRUST/account/A/region/R/agent/ID`: what a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentIdentity {
    pub trust_domain: TrustDomain,
    pub account: AccountId,
    pub region: Region,
    pub agent: AgentId,
}

/// Why a text is not an identity; says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("`{0}` is not an account: give exactly 12 digits")]
    Account(String),
    #[error("`{0}` is not a region: give a lower-case DNS label such as `dc-tokyo-1`")]
    Region(String),
    #[error("`{0}` is not a trust domain: give lower-case letters, digits, `.`, `-` or `_`")]
    TrustDomain(String),
    #[error("`{0}` is not a UUID")]
    Uuid(String),
    #[error("`{0}` is not of the form spiffe://TRUST/account/A/region/R/agent/ID")]
    Spiffe(String),
    #[error("`{0}` is not a relay's name: give a lower-case DNS label such as `relay-tokyo-1`")]
    RelayName(String),
    #[error("`{0}` is not of the form spiffe://TRUST/relay/NAME")]
    Relay(String),
}

impl AccountId {
    pub fn as_str(&self) -> &str {
        // Proof: only ASCII digits get past `from_str`, the sole constructor.
        std::str::from_utf8(&self.0).unwrap_or("000000000000")
    }
}

impl FromStr for AccountId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let digits: [u8; 12] = text.as_bytes().try_into().map_err(|_| IdentityError::Account(text.to_owned()))?;
        if digits.iter().all(u8::is_ascii_digit) { Ok(Self(digits)) } else { Err(IdentityError::Account(text.to_owned())) }
    }
}

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Terraform's and other clients' region checks take it: `xx-name-1`.
    pub fn looks_like_aws(&self) -> bool {
        let mut parts = self.0.rsplitn(2, '-');
        let number = parts.next().unwrap_or_default();
        let rest = parts.next().unwrap_or_default();
        let first = rest.split('-').next().unwrap_or_default();
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && first.len() == 2 && rest.contains('-')
    }
}

impl FromStr for Region {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = (1..=63).contains(&text.len()) && text.bytes().all(label) && !text.starts_with('-') && !text.ends_with('-');
        if good { Ok(Self(text.to_owned())) } else { Err(IdentityError::Region(text.to_owned())) }
    }
}

impl TrustDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let good = (1..=255).contains(&text.len()) && text.bytes().all(allowed);
        if good { Ok(Self(text.to_owned())) } else { Err(IdentityError::TrustDomain(text.to_owned())) }
    }
}

impl FromStr for AgentIdentity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Spiffe(text.to_owned());
        let path = text.strip_prefix("spiffe://").ok_or_else(malformed)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [trust_domain, "account", account, "region", region, "agent", agent] = parts[..] else {
            return Err(malformed());
        };
        let identity = Self {
            trust_domain: trust_domain.parse()?,
            account: account.parse()?,
            region: region.parse()?,
            agent: agent.parse()?,
        };
        // One identity, one text: a UUID may be written in several ways, an agent's id only in one.
        if identity.to_string() == text { Ok(identity) } else { Err(malformed()) }
    }
}

impl fmt::Display for AgentIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, account, region, agent } = self;
        write!(f, "spiffe://{trust_domain}/account/{account}/region/{region}/agent/{agent}")
    }
}

macro_rules! text_identity {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdentityError;

            fn try_from(text: String) -> Result<Self, IdentityError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.as_str().to_owned()
            }
        }
    };
}

text_identity!(AccountId);
text_identity!(Region);
text_identity!(TrustDomain);

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AgentId {
    /// Of an agent whose certificate comes from a PKI of the operator's own: the first 16 bytes of
    /// `SHA256("edgetrail/agent/v1\n" ‖ name)` as a UUID of version 8. The name is a SPIFFE id or `dns:NAME`.
    pub fn of_name(name: &str) -> Self {
        let hash = crate::chain::Hash::of(&[b"edgetrail/agent/v1\n", name.as_bytes()].concat());
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash.0).for_each(|(to, from)| *to = from);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

macro_rules! uuid_identity {
    ($name:ident) => {
        impl $name {
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdentityError::Uuid(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_identity!(AgentId);
uuid_identity!(StreamId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_id_round_trips() {
        let text =
            "spiffe://edgetrail.internal/account/123456789012/region/dc-tokyo-1/agent/0190b2a4-0000-7000-8000-000000000001";
        let identity: AgentIdentity = text.parse().unwrap();
        assert_eq!(identity.to_string(), text);
    }

    #[test]
    fn spiffe_id_with_missing_or_extra_parts_is_refused() {
        for text in [
            "spiffe://t/account/123456789012/region/r/agent",
            "spiffe://t/account/123456789012/region/r/agent/0190b2a4-0000-7000-8000-000000000001/x",
            "https://t/account/123456789012/region/r/agent/0190b2a4-0000-7000-8000-000000000001",
            "spiffe://t/account/12345678901/region/r/agent/0190b2a4-0000-7000-8000-000000000001",
            "spiffe://t/account/123456789012/region/../agent/0190b2a4-0000-7000-8000-000000000001",
            "spiffe://t/account/123456789012/region/r/agent/{0190b2a4-0000-7000-8000-000000000001}",
            "spiffe://t/account/123456789012/region/r/agent/0190B2A4-0000-7000-8000-000000000001",
        ] {
            assert!(text.parse::<AgentIdentity>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_labels_are_regions() {
        for good in ["us-east-1", "dc-tokyo-1", "lab", "1a"] {
            assert!(good.parse::<Region>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a\n", &"a".repeat(64)] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
        assert!("dc-tokyo-1".parse::<Region>().unwrap().looks_like_aws());
        assert!(!"lab".parse::<Region>().unwrap().looks_like_aws());
    }
}
