//! The members of a record that facets are read from, borrowed from its text.
//!
//! Every type here takes any JSON value: what is not of the expected type counts as absent.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A record. A known member that stands twice is an error.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Shape<'a> {
    #[serde(borrow)]
    pub(super) event_time: Text<'a>,
    pub(super) event_source: Text<'a>,
    pub(super) event_name: Text<'a>,
    pub(super) aws_region: Text<'a>,
    pub(super) recipient_account_id: Text<'a>,
    #[serde(rename = "eventID")]
    pub(super) event_id: Text<'a>,
    pub(super) event_type: Text<'a>,
    pub(super) event_category: Text<'a>,
    pub(super) error_code: Text<'a>,
    pub(super) vpc_endpoint_id: Text<'a>,
    pub(super) read_only: Flag,
    pub(super) management_event: Flag,
    pub(super) session_credential_from_console: Flag,
    pub(super) user_identity: Object<Actor<'a>>,
    pub(super) resources: List<Object<Resource<'a>>>,
    pub(super) insight_details: Object<Insight<'a>>,
    pub(super) event_data: Object<Activity<'a>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Actor<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    principal_id: Text<'a>,
    pub(super) arn: Text<'a>,
    pub(super) account_id: Text<'a>,
    pub(super) access_key_id: Text<'a>,
    pub(super) invoked_by: Text<'a>,
    user_name: Text<'a>,
    session_context: Object<Session<'a>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Session<'a> {
    #[serde(borrow)]
    session_issuer: Object<Issuer<'a>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Issuer<'a> {
    #[serde(borrow)]
    user_name: Text<'a>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Resource<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(rename = "ARN")]
    arn: Text<'a>,
    #[serde(rename = "ARNPrefix")]
    arn_prefix: Text<'a>,
}

/// insightDetails: where an Insights event names what it is about.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Insight<'a> {
    #[serde(borrow)]
    pub(super) event_source: Text<'a>,
    pub(super) event_name: Text<'a>,
}

/// eventData: what an integration's audit event says of itself.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Activity<'a> {
    #[serde(borrow)]
    pub(super) event_source: Text<'a>,
    pub(super) event_name: Text<'a>,
    pub(super) error_code: Text<'a>,
    pub(super) user_identity: Object<Actor<'a>>,
}

/// A string; anything else is none.
#[derive(Default)]
pub(super) struct Text<'a>(Option<Cow<'a, str>>);

/// A boolean, or the string of one; anything else is none.
#[derive(Default)]
pub(super) struct Flag(pub(super) Option<bool>);

/// An object; anything else is an empty one.
#[derive(Default)]
pub(super) struct Object<T>(T);

/// An array; anything else is an empty one.
pub(super) struct List<T>(pub(super) Vec<T>);

impl Actor<'_> {
    /// Look-up's Username.
    pub(super) fn human(&self) -> Option<String> {
        match self.kind.text() {
            Some("Root") => Some("root".to_owned()),
            Some("AssumedRole") if self.is_of_host() => {
                self.session_context.session_issuer.user_name.owned().or_else(|| self.session_name())
            }
            Some("AssumedRole" | "FederatedUser") => self.session_name(),
            _ => self.user_name.owned().filter(|name| !name.is_empty()),
        }
    }

    /// Who an audit event of an integration names: people are known there by nothing else.
    pub(super) fn principal(&self) -> Option<String> {
        self.principal_id.owned().filter(|id| !id.is_empty())
    }

    /// `arn:PARTITION:host:…`
    fn is_of_host(&self) -> bool {
        self.arn.text().is_some_and(|arn| arn.split(':').nth(2) == Some("host"))
    }

    /// The last part of `…assumed-role/ROLE/SESSION` or of `AROA…:SESSION`.
    fn session_name(&self) -> Option<String> {
        let of_arn = || self.arn.text().and_then(|arn| arn.rsplit_once('/')).map(|(_, name)| name);
        let of_principal = || self.principal_id.text().and_then(|id| id.split_once(':')).map(|(_, name)| name);
        of_arn().or_else(of_principal).filter(|name| !name.is_empty()).map(str::to_owned)
    }
}

impl Resource<'_> {
    pub(super) fn kind_and_name(&self) -> (String, String) {
        (self.kind.owned().unwrap_or_default(), Text::first([&self.arn, &self.arn_prefix]))
    }
}

impl<'a> Text<'a> {
    pub(super) fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub(super) fn owned(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    pub(super) fn into_owned(self) -> Option<String> {
        self.0.map(Cow::into_owned)
    }

    /// The first that is there, else nothing.
    pub(super) fn first<const N: usize>(texts: [&Self; N]) -> String {
        texts.into_iter().find_map(Self::owned).unwrap_or_default()
    }
}

impl<T> std::ops::Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The visits that every lenient type takes for "absent".
macro_rules! absent {
    ($($visit:ident($value:ty)),+) => {
        $(fn $visit<E>(self, _: $value) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })+

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any value")
        }
    };
}

/// An object is passed over.
macro_rules! no_map {
    () => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

/// An array is passed over.
macro_rules! no_seq {
    () => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }

            absent!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));
            no_map!();
            no_seq!();
        }

        deserializer.deserialize_any(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;

        impl<'de> Visitor<'de> for FlagVisitor {
            type Value = Flag;

            fn visit_bool<E>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(Some(value)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Flag, E> {
                Ok(Flag(text.parse().ok()))
            }

            absent!(visit_i64(i64), visit_u64(u64), visit_f64(f64));
            no_map!();
            no_seq!();
        }

        deserializer.deserialize_any(FlagVisitor)
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }

            absent!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));
            no_seq!();
        }

        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<List<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(List)
            }

            absent!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));
            no_map!();
        }

        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}
