//! CloudTrail's record, eventVersion 1.11.
//!
//! A record is written once, compact, keys in CloudTrail's order; those bytes are hashed and never written again.
//! Reading is lossless: what a field can't say is kept word for word and written back ([`Unknown`]).

mod actor;

mod fit;

mod gap;

mod kind;

mod members;

mod text;

mod time;

pub use actor::{Resource, SessionAttributes, SessionContext, SessionIssuer, UserIdentity};
pub use gap::GapCause;
pub use kind::{EventCategory, EventType};
pub use members::Unknown;
pub(crate) use text::{Malformed, check};
pub use time::{format_time, parse_time};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::limits::RECORD_BYTES_FOREIGN_MAX;
use members::{MemberVisitor, Members, Object};

/// The eventVersion of the records made here.
pub const EVENT_VERSION: &str = "1.11";

/// One event. Field names are CloudTrail's in snake case; types are CloudTrail's.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub event_version: String,
    pub user_identity: UserIdentity,
    /// `YYYY-MM-DDTHH:MM:SSZ`: when the act was completed. See [`format_time`].
    pub event_time: String,
    /// `PROGRAM.PLATFORM`, such as `sudo.linux`.
    pub event_source: String,
    /// PascalCase verb and noun, such as `RunCommand`.
    pub event_name: String,
    pub aws_region: String,
    /// The remote address of the login session; else the host's name.
    pub source_ip_address: String,
    pub user_agent: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    /// Written as `null` when `None`.
    pub request_parameters: Option<Value>,
    /// Written as `null` when `None`.
    pub response_elements: Option<Value>,
    pub additional_event_data: Option<Map<String, Value>>,
    pub request_id: Option<String>,
    pub event_id: Uuid,
    pub read_only: Option<bool>,
    pub resources: Option<Vec<Resource>>,
    pub event_type: EventType,
    pub api_version: Option<String>,
    pub management_event: Option<bool>,
    pub recipient_account_id: String,
    pub service_event_details: Option<Value>,
    /// One act reported to several accounts has one of these and several eventIDs.
    pub shared_event_id: Option<Uuid>,
    pub vpc_endpoint_id: Option<String>,
    pub vpc_endpoint_account_id: Option<String>,
    pub event_category: EventCategory,
    pub addendum: Option<Value>,
    pub edge_device_details: Option<Value>,
    pub tls_details: Option<Value>,
    /// The string `true`, or absent.
    pub session_credential_from_console: Option<String>,
    pub event_context: Option<Value>,
    /// What the record held beyond these fields.
    pub unknown: Unknown,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record has {bytes} bytes, more than {RECORD_BYTES_FOREIGN_MAX}")]
    TooLarge { bytes: usize },
    #[error("the record nests deeper than {} levels", crate::limits::JSON_DEPTH_MAX)]
    TooDeep,
    #[error("the record is not UTF-8")]
    NotUtf8,
    #[error("the record is not one JSON object")]
    NotJson(#[source] serde_json::Error),
}

/// A record of one command with the kernel's own words of it takes 2 to 4 KiB.
const TYPICAL_BYTES: usize = 4096;

impl Record {
    /// Compact JSON, keys in CloudTrail's order, unknown members after the known ones.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(TYPICAL_BYTES);
        // Proof: writing to memory does not fail, every key is a string and no Value holds anything but JSON.
        #[expect(clippy::expect_used, reason = "see the proof above")]
        serde_json::to_writer(&mut json, self).expect("a record is JSON");
        json
    }

    /// Reads any record of CloudTrail's shape; nothing that it says is lost. Members of another type than CloudTrail
    /// gives them are kept as they stand.
    pub fn from_json(json: &[u8]) -> Result<Self, RecordError> {
        let text = check(json)?;
        let compact = text::compact(text);
        let members: Members<'_> = serde_json::from_str(&compact).map_err(RecordError::NotJson)?;
        Ok(Self::of(members))
    }

    fn of(members: Members<'_>) -> Self {
        let object = |name: &str| members.read::<Value>(name).filter(|value| !value.is_null());
        let mut record = Self {
            event_version: members.read("eventVersion").unwrap_or_default(),
            user_identity: members.read("userIdentity").unwrap_or_default(),
            event_time: members.read("eventTime").unwrap_or_default(),
            event_source: members.read("eventSource").unwrap_or_default(),
            event_name: members.read("eventName").unwrap_or_default(),
            aws_region: members.read("awsRegion").unwrap_or_default(),
            source_ip_address: members.read("sourceIPAddress").unwrap_or_default(),
            user_agent: members.read("userAgent"),
            error_code: members.read("errorCode"),
            error_message: members.read("errorMessage"),
            request_parameters: object("requestParameters"),
            response_elements: object("responseElements"),
            additional_event_data: members.read("additionalEventData"),
            request_id: members.read("requestID"),
            event_id: members.read("eventID").unwrap_or_default(),
            read_only: members.read("readOnly"),
            resources: members.read("resources"),
            event_type: members.read("eventType").unwrap_or_default(),
            api_version: members.read("apiVersion"),
            management_event: members.read("managementEvent"),
            recipient_account_id: members.read("recipientAccountId").unwrap_or_default(),
            service_event_details: object("serviceEventDetails"),
            shared_event_id: members.read("sharedEventID"),
            vpc_endpoint_id: members.read("vpcEndpointId"),
            vpc_endpoint_account_id: members.read("vpcEndpointAccountId"),
            event_category: members.read("eventCategory").unwrap_or_default(),
            addendum: object("addendum"),
            edge_device_details: object("edgeDeviceDetails"),
            tls_details: object("tlsDetails"),
            session_credential_from_console: members.read("sessionCredentialFromConsole"),
            event_context: object("eventContext"),
            unknown: Unknown::default(),
        };
        record.unknown = members.beyond(&record);
        record
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            event_version: EVENT_VERSION.to_owned(),
            user_identity: UserIdentity::default(),
            event_time: String::new(),
            event_source: String::new(),
            event_name: String::new(),
            aws_region: String::new(),
            source_ip_address: String::new(),
            user_agent: None,
            error_code: None,
            error_message: None,
            request_parameters: None,
            response_elements: None,
            additional_event_data: None,
            request_id: None,
            event_id: Uuid::nil(),
            read_only: None,
            resources: None,
            event_type: EventType::default(),
            api_version: None,
            management_event: None,
            recipient_account_id: String::new(),
            service_event_details: None,
            shared_event_id: None,
            vpc_endpoint_id: None,
            vpc_endpoint_account_id: None,
            event_category: EventCategory::default(),
            addendum: None,
            edge_device_details: None,
            tls_details: None,
            session_credential_from_console: None,
            event_context: None,
            unknown: Unknown::default(),
        }
    }
}

impl Object for Record {
    fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    fn each_member<V: MemberVisitor>(&self, visitor: &mut V) -> Result<(), V::Error> {
        visitor.member("eventVersion", Some(&self.event_version))?;
        visitor.member("userIdentity", Some(&self.user_identity))?;
        visitor.member("eventTime", Some(&self.event_time))?;
        visitor.member("eventSource", Some(&self.event_source))?;
        visitor.member("eventName", Some(&self.event_name))?;
        visitor.member("awsRegion", Some(&self.aws_region))?;
        visitor.member("sourceIPAddress", Some(&self.source_ip_address))?;
        visitor.member("userAgent", self.user_agent.as_ref())?;
        visitor.member("errorCode", self.error_code.as_ref())?;
        visitor.member("errorMessage", self.error_message.as_ref())?;
        visitor.member("requestParameters", Some(&self.request_parameters))?;
        visitor.member("responseElements", Some(&self.response_elements))?;
        visitor.member("additionalEventData", self.additional_event_data.as_ref())?;
        visitor.member("requestID", self.request_id.as_ref())?;
        visitor.member("eventID", Some(&self.event_id))?;
        visitor.member("readOnly", self.read_only.as_ref())?;
        visitor.member("resources", self.resources.as_ref())?;
        visitor.member("eventType", Some(self.event_type.as_str()))?;
        visitor.member("apiVersion", self.api_version.as_ref())?;
        visitor.member("managementEvent", self.management_event.as_ref())?;
        visitor.member("recipientAccountId", Some(&self.recipient_account_id))?;
        visitor.member("serviceEventDetails", self.service_event_details.as_ref())?;
        visitor.member("sharedEventID", self.shared_event_id.as_ref())?;
        visitor.member("vpcEndpointId", self.vpc_endpoint_id.as_ref())?;
        visitor.member("vpcEndpointAccountId", self.vpc_endpoint_account_id.as_ref())?;
        visitor.member("eventCategory", Some(self.event_category.as_str()))?;
        visitor.member("addendum", self.addendum.as_ref())?;
        visitor.member("edgeDeviceDetails", self.edge_device_details.as_ref())?;
        visitor.member("tlsDetails", self.tls_details.as_ref())?;
        visitor.member("sessionCredentialFromConsole", self.session_credential_from_console.as_ref())?;
        visitor.member("eventContext", self.event_context.as_ref())
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        members::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    /// Only of JSON text; [`Record::from_json`] checks sizes and depth besides.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Members::deserialize(deserializer).map(Self::of)
    }
}

#[cfg(test)]
mod tests;
