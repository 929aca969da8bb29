//! `[relay]`: what makes a collector a relay.

use std::fmt;
use std::str::FromStr;

use edgetrail_link::uplink::Endpoint;
use edgetrail_settings::{Document, Parsed};
use serde::Deserialize;

use super::API_PORT;

/// What a relay runs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Home's API.
    pub home: Endpoint,
}

/// `https://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeUrl(pub Endpoint);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not home's URL: give `https://host:8443`")]
pub struct HomeUrlError(String);

/// `[relay]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Shape {
    home: Option<Parsed<HomeUrl>>,
}

pub(super) fn settings(document: &mut Document) -> Option<RelayConfig> {
    let shape: Shape = document.section("relay");
    shape.home.map(|home| RelayConfig { home: home.0.0 })
}

impl FromStr for HomeUrl {
    type Err = HomeUrlError;

    fn from_str(text: &str) -> Result<Self, HomeUrlError> {
        let malformed = || HomeUrlError(text.to_owned());
        let authority = text.strip_prefix("https://").ok_or_else(malformed)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let endpoint = authority.parse().or_else(|_| format!("{authority}:{API_PORT}").parse());
        endpoint.map(Self).map_err(|_| malformed())
    }
}

impl fmt::Display for HomeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.0)
    }
}
