//! What kind of event a record tells of: eventType and eventCategory.

use std::fmt;

use serde::{Deserialize, Serialize};

/// eventType: who acted, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum EventType {
    #[default]
    AwsApiCall,
    AwsServiceEvent,
    AwsConsoleAction,
    AwsConsoleSignIn,
    AwsCloudTrailInsight,
    AwsVpceEvents,
    /// A type that this version does not know.
    Other(String),
}

/// eventCategory: which selections a record answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum EventCategory {
    /// What administers the host or service.
    #[default]
    Management,
    /// Each command, file or object access.
    Data,
    NetworkActivity,
    Insight,
    /// A category that this version does not know, such as Lake's `ActivityAuditLog`.
    Other(String),
}

/// The text of each variant, once, both ways.
macro_rules! named {
    ($name:ident: $($variant:ident),+) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $(stringify!($variant) => Self::$variant,)+
                    _ => Self::Other(text.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named!(EventType: AwsApiCall, AwsServiceEvent, AwsConsoleAction, AwsConsoleSignIn, AwsCloudTrailInsight, AwsVpceEvents);
named!(EventCategory: Management, Data, NetworkActivity, Insight);
