//! Who a relay is: a name within its home, and the SPIFFE id in its certificate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{IdentityError, TrustDomain};

/// A lower-case DNS label, as a region's: at most 63 bytes. Given with the token, and unique within a home.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayName(String);

/// `spiffe://TRUST/relay/NAME`: what a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayIdentity {
    pub trust_domain: TrustDomain,
    pub name: RelayName,
}

impl RelayName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelayName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = (1..=63).contains(&text.len()) && text.bytes().all(label) && !text.starts_with('-') && !text.ends_with('-');
        if good { Ok(Self(text.to_owned())) } else { Err(IdentityError::RelayName(text.to_owned())) }
    }
}

impl fmt::Display for RelayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RelayName {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        text.parse()
    }
}

impl From<RelayName> for String {
    fn from(name: RelayName) -> Self {
        name.0
    }
}

impl FromStr for RelayIdentity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Relay(text.to_owned());
        let path = text.strip_prefix("spiffe://").ok_or_else(malformed)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [trust_domain, "relay", name] = parts[..] else { return Err(malformed()) };
        Ok(Self { trust_domain: trust_domain.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for RelayIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/relay/{}", self.trust_domain, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::AgentIdentity;

    #[test]
    fn a_relays_id_round_trips_and_is_no_agents() {
        let text = "spiffe://edgetrail.internal/relay/tokyo-1";
        let identity: RelayIdentity = text.parse().unwrap();
        assert_eq!(identity.to_string(), text);
        assert!(text.parse::<AgentIdentity>().is_err());
        for bad in ["spiffe://t/relay/", "spiffe://t/relay/a/b", "spiffe://t/relay/A", "https://t/relay/a", "spiffe:///relay/a"] {
            assert!(bad.parse::<RelayIdentity>().is_err(), "{bad}");
        }
    }
}
