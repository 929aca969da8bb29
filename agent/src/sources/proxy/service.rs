//! What a proxy knows of its service: how its requests are named and its callers known.

use std::str::FromStr as _;

use http::HeaderName;

use super::config::{Category, Config, Network, Parameter};
use super::openapi::{self, Routes};
use crate::sources::lines::access::route::Route;

/// What names requests and callers, the same for all of a proxy's.
#[derive(Debug)]
pub struct Service {
    /// eventSource.
    pub name: String,
    /// The upstream as it is configured.
    pub upstream: String,
    pub routes: Vec<Route>,
    pub operations: Routes,
    pub is_data: bool,
    /// Ways to know a caller, in order of preference.
    pub identity: Vec<String>,
    /// Headers that are copied: those that are recorded, and those that say who it is.
    pub(super) headers: Vec<HeaderName>,
    /// Those that are recorded.
    pub recorded: Vec<HeaderName>,
    pub takes: Takes,
    pub(super) trusted: Vec<Network>,
}

/// What of a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    pub path: bool,
    pub query: bool,
    /// Bytes of a body; 0 where it is not recorded.
    pub body: usize,
    pub response: usize,
}

impl Service {
    /// With what is wrong with its document, if it can't be used: requests are then named without it.
    pub(super) fn open(config: &Config) -> (Self, Option<String>) {
        let (operations, trouble) = match config.openapi.as_deref().map(openapi::read) {
            None => (Routes::default(), None),
            Some(Ok(routes)) => (routes, None),
            Some(Err(error)) => (Routes::default(), Some(error.to_string())),
        };
        let named = |name: &str| HeaderName::from_str(name).ok();
        let recorded: Vec<HeaderName> = config.headers.iter().filter_map(|name| named(name)).collect();
        let mut headers = recorded.clone();
        headers.extend(config.identity_headers().filter_map(named).filter(|name| !recorded.contains(name)));
        let takes = |parameter| config.parameters.contains(&parameter);
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        let service = Self {
            name: config.service.clone(),
            upstream: config.upstream.as_ref().map(|target| target.0.to_string()).unwrap_or_default(),
            routes: config.routes.iter().filter_map(|route| Route::new(route).ok()).collect(),
            operations,
            is_data: config.category == Category::Data,
            identity: config.identity.clone(),
            headers,
            recorded,
            takes: Takes {
                path: takes(Parameter::Path),
                query: takes(Parameter::Query),
                body: if takes(Parameter::Body) { bytes(config.body_bytes.0) } else { 0 },
                response: bytes(config.response_bytes.0),
            },
            trusted: config.trusted_proxies.iter().map(|network| network.0).collect(),
        };
        (service, trouble)
    }

    /// Whether the Authorization header is looked into.
    pub(super) fn reads_authorization(&self) -> bool {
        self.reads_basic() || self.identity.iter().any(|way| way == "jwt" || way.starts_with("jwt:"))
    }

    pub(super) fn reads_basic(&self) -> bool {
        self.identity.iter().any(|way| way == "basic")
    }
}

#[cfg(test)]
impl Service {
    /// orders.example without a document.
    pub(crate) fn for_tests() -> Self {
        let upstream = "http://127.0.0.1:9000".parse().map(edgetrail_settings::Parsed).unwrap();
        Self::open(&Config { service: "orders.example".to_owned(), upstream: Some(upstream), ..Config::default() }).0
    }
}
