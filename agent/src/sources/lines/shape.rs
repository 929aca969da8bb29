//! A mapping as it is written: TOML, the same for those that ship and an operator's own.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A mapping file. Every text of `record` and of an event is a [`super::template::Template`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub format: Format,
    /// What the mapping is for, for people.
    #[serde(default)]
    pub about: String,
    /// `regex`: the line's form, whose named groups are the fields. `json`, `logfmt`: what stands around the members, which
    /// are the group `rest`; its other groups are fields too.
    pub pattern: Option<String>,
    /// A field whose text holds members itself, as JSON or logfmt.
    pub unfold: Option<String>,
    /// Only lines of which this field says something are this mapping's; others make a `LogMessage` of category Data.
    pub requires: Option<String>,
    #[serde(default)]
    pub record: RecordShape,
    /// The first that fits a line says the rest of its record.
    #[serde(default, rename = "event")]
    pub events: Vec<EventShape>,
    /// `access`: how requests become records.
    #[serde(default)]
    pub access: AccessShape,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object.
    Json,
    Logfmt,
    /// Text of a form of the operator's own.
    Regex,
    /// A line of an access log, of any of the known servers.
    Access,
    /// An entry of Vault's or OpenBao's audit device.
    Vault,
    /// PostgreSQL's csvlog or jsonlog, with pgaudit's lines in it.
    Postgresql,
    /// A syslog message.
    Syslog,
    /// An event of Docker's or Podman's stream.
    Docker,
}

/// How fields become a record; where nothing is said, the member is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordShape {
    pub source: Option<Texts>,
    pub name: Option<Texts>,
    pub time: Option<Texts>,
    pub address: Option<Texts>,
    pub agent: Option<Texts>,
    pub request_id: Option<Texts>,
    pub error_code: Option<Texts>,
    pub error_message: Option<Texts>,
    /// `true` or `false`.
    pub read_only: Option<Texts>,
    /// `Management` or `Data`.
    pub category: Option<Texts>,
    /// `AwsApiCall`, `AwsServiceEvent`, `AwsConsoleAction` or `AwsConsoleSignIn`.
    #[serde(rename = "type")]
    pub kind: Option<Texts>,
    pub identity: Option<IdentityShape>,
    /// Members of requestParameters; `"*"` is a member for each field that nothing else takes.
    pub parameters: Option<BTreeMap<String, Texts>>,
    pub response: Option<BTreeMap<String, Texts>>,
    pub resources: Option<Vec<ResourceShape>>,
}

/// userIdentity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityShape {
    /// Of userIdentity; `WebIdentityUser` unless given.
    #[serde(rename = "type")]
    pub kind: Option<Texts>,
    pub name: Option<Texts>,
    pub id: Option<Texts>,
    pub provider: Option<Texts>,
    pub access_key: Option<Texts>,
    /// Who acts where there is no user: makes it `AWSService`.
    pub invoked_by: Option<Texts>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceShape {
    #[serde(rename = "type")]
    pub kind: String,
    /// What follows the account in its ARN, or an ARN.
    pub arn: Texts,
}

/// Lines of a certain kind, and what of their record differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventShape {
    /// Field and what it must match: shell-like, `*` and `?`; several are alternatives. All fields must.
    #[serde(default)]
    pub when: BTreeMap<String, Texts>,
    #[serde(flatten)]
    pub record: RecordShape,
}

/// One text, or several in order of preference.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    One(String),
    Several(Vec<String>),
}

/// `[access]`, of a mapping and of a section `[[sources.file]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessShape {
    /// eventSource; `SERVER.http` unless given.
    pub service: Option<String>,
    /// The server that writes the log, where its lines don't show it.
    pub server: Option<String>,
    /// How the caller is known, in order of preference: `user`, `certificate`, `header:NAME`, `jwt:CLAIM`; the first two
    /// unless given, for whether a logged token was a good one the log does not say.
    pub identity: Option<Vec<String>>,
    /// Header that names the caller's address, where everybody comes through trusted proxies: of a list the last one that
    /// is none of them.
    pub address_header: Option<String>,
    /// Addresses of these proxies, `10.0.0.0/8`; private addresses unless given.
    pub trusted_proxies: Option<Vec<String>>,
    /// Names of the request headers that HAProxy captures, in the order of its configuration.
    pub captured_headers: Option<Vec<String>>,
    /// Category of requests that no route matches; `Management` unless given.
    pub category: Option<String>,
    #[serde(rename = "route")]
    pub routes: Vec<RouteShape>,
}

/// `POST /v1/invoices/{id}/pay` is `PayInvoice`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteShape {
    /// `GET`, several as `GET,HEAD`; any unless given.
    pub method: Option<String>,
    /// `{name}` is one segment, a last `{name...}` all that follow.
    pub path: String,
    /// eventName; made of method and path unless given.
    pub name: Option<String>,
    pub category: Option<String>,
    /// eventType; `AwsApiCall` unless given.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub read_only: Option<bool>,
}

impl Texts {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts.as_slice(),
        }
        .iter()
        .map(String::as_str)
    }
}

impl AccessShape {
    /// What is wrong with it, as far as its texts alone show.
    pub fn trouble(&self) -> Option<String> {
        let is_way = |way: &str| match way.split_once(':') {
            None => matches!(way, "user" | "certificate" | "jwt"),
            Some(("header" | "jwt", name)) => !name.trim().is_empty(),
            Some(_) => false,
        };
        if let Some(way) = self.identity.iter().flatten().find(|way| !is_way(way)) {
            return Some(format!("access.identity: `{way}` is none of user, certificate, header:NAME and jwt:CLAIM"));
        }
        if let Some(category) = self.category.as_deref().filter(|category| !matches!(*category, "Management" | "Data")) {
            return Some(format!("access.category is Management or Data, not `{category}`"));
        }
        let range = self.trusted_proxies.iter().flatten().find(|range| super::address::network(range).is_none())?;
        Some(format!("access.trusted_proxies: `{range}` is no address or range such as 10.0.0.0/8"))
    }

    /// This one with what it does not say taken from another; its routes go first.
    #[must_use]
    pub fn over(self, other: &Self) -> Self {
        let routes = self.routes.into_iter().chain(other.routes.iter().cloned()).collect();
        Self {
            service: self.service.or_else(|| other.service.clone()),
            server: self.server.or_else(|| other.server.clone()),
            identity: self.identity.or_else(|| other.identity.clone()),
            address_header: self.address_header.or_else(|| other.address_header.clone()),
            captured_headers: self.captured_headers.or_else(|| other.captured_headers.clone()),
            trusted_proxies: self.trusted_proxies.or_else(|| other.trusted_proxies.clone()),
            category: self.category.or_else(|| other.category.clone()),
            routes,
        }
    }
}
