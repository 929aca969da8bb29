//! What is indexed of a record: parsed once at ingest, derived, rebuildable from the record's bytes.
//!
//! One pass, no tree of values. Lenient where CloudTrail's own records vary (a member of another type counts as
//! absent); strict where the record would lie under no account, region or time, or says a thing twice.

mod shape;

use serde::Deserialize as _;
use uuid::Uuid;

pub use crate::record::{EventCategory as Category, EventType};
use crate::record::{Malformed, check, parse_time};
use shape::{Shape, Text};

/// What look-up, selection, rules and insights know of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    /// `None` where the record's is no UUID.
    pub event_id: Option<Uuid>,
    /// eventTime, Unix seconds.
    pub time: u64,
    pub category: Category,
    pub read_only: Option<bool>,
    /// recipientAccountId.
    pub account: String,
    /// awsRegion.
    pub region: String,
    /// eventSource.
    pub source: String,
    /// eventName.
    pub name: String,
    /// The human: the login user behind an assumed role of a host, the session's name for one of a cloud, `root` for
    /// Root alone; `None` where nobody is named.
    pub user: Option<String>,
    /// userIdentity.arn.
    pub user_arn: Option<String>,
    /// userIdentity.invokedBy: the service that acted for somebody, or by itself.
    pub invoked_by: Option<String>,
    pub access_key: Option<String>,
    /// errorCode.
    pub error: Option<String>,
    pub event_type: EventType,
    /// Type and ARN (or ARN prefix) of each resource; either may be empty.
    pub resources: Vec<(String, String)>,
    pub vpc_endpoint: Option<String>,
    pub session_from_console: bool,
}

/// Why a record has no facets: it is quarantined under this reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FacetsError {
    #[error("the record has {bytes} bytes, more than {}", crate::limits::RECORD_BYTES_FOREIGN_MAX)]
    TooLarge { bytes: usize },
    #[error("the record nests deeper than {} levels", crate::limits::JSON_DEPTH_MAX)]
    TooDeep,
    #[error("the record is not UTF-8")]
    NotUtf8,
    #[error("the record is not one JSON object: {0}")]
    NotJson(String),
    #[error("the record has no usable `{0}`")]
    Missing(&'static str),
}

/// The eventSource of the records in which an agent says that events are missing.
pub const GAP_SOURCE: &str = "agent.edgetrail";
/// The eventName of those records.
pub const GAP_NAME: &str = "ReportGap";

impl Facets {
    /// Reads the facets of a record's bytes. Never panics, whatever they are.
    pub fn parse(record: &[u8]) -> Result<Self, FacetsError> {
        let text = check(record)?;
        // serde would take a struct's fields from an array, too.
        if !text.trim_start().starts_with('{') {
            return Err(FacetsError::NotJson("it does not begin with `{`".to_owned()));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let shape = Shape::deserialize(&mut deserializer).map_err(not_json)?;
        deserializer.end().map_err(not_json)?;
        shape.into_facets()
    }

    /// Whether the record reports missing events: every trail takes it, whatever it selects.
    pub fn is_gap(&self) -> bool {
        self.source == GAP_SOURCE && self.name == GAP_NAME
    }
}

// The error's text and place, not the error: facets and their errors are kept and compared.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn not_json(error: serde_json::Error) -> FacetsError {
    FacetsError::NotJson(error.to_string())
}

impl Shape<'_> {
    fn into_facets(self) -> Result<Facets, FacetsError> {
        let time = self.event_time.text().and_then(parse_time).ok_or(FacetsError::Missing("eventTime"))? / 1_000_000_000;
        let account = self.recipient_account_id.into_owned().or_else(|| self.user_identity.account_id.owned());
        let insight = &self.insight_details;
        let activity = &self.event_data;
        let user = self.user_identity.human().or_else(|| activity.user_identity.principal());
        Ok(Facets {
            event_id: self.event_id.text().and_then(|text| Uuid::try_parse(text).ok()),
            time,
            category: match self.event_category.text() {
                Some(text) => text.into(),
                // Before 1.07 there was no eventCategory.
                None if self.management_event.0 == Some(false) => Category::Data,
                None => Category::Management,
            },
            read_only: self.read_only.0,
            account: account.ok_or(FacetsError::Missing("recipientAccountId"))?,
            region: self.aws_region.into_owned().ok_or(FacetsError::Missing("awsRegion"))?,
            source: Text::first([&self.event_source, &insight.event_source, &activity.event_source]),
            name: Text::first([&self.event_name, &insight.event_name, &activity.event_name]),
            user,
            user_arn: self.user_identity.arn.owned(),
            invoked_by: self.user_identity.invoked_by.owned(),
            access_key: self.user_identity.access_key_id.owned().filter(|key| !key.is_empty()),
            error: self.error_code.into_owned().or_else(|| activity.error_code.owned()),
            event_type: self.event_type.text().map(EventType::from).unwrap_or_default(),
            resources: self.resources.0.into_iter().map(|resource| resource.kind_and_name()).collect(),
            vpc_endpoint: self.vpc_endpoint_id.into_owned(),
            session_from_console: self.session_credential_from_console.0 == Some(true),
        })
    }
}

impl From<Malformed> for FacetsError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooLarge { bytes } => Self::TooLarge { bytes },
            Malformed::TooDeep => Self::TooDeep,
            Malformed::NotUtf8 => Self::NotUtf8,
        }
    }
}

#[cfg(test)]
mod tests;
