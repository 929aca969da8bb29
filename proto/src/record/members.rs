//! An object's members: those that have a field of their own, and all that such fields can't say.
//!
//! Reading never loses: a member without a field, and the text of one whose field would write it otherwise (a number
//! such as `1.50`, a `null` where nothing is written, a string where a boolean belongs), are kept word for word in
//! [`Unknown`]. A kept text gives way as soon as its field is changed.

use std::collections::HashSet;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

/// What an object held beyond its fields.
#[derive(Clone, Debug, Default)]
pub struct Unknown {
    /// Members without a field, in the order in which they stood.
    members: Vec<(String, Box<RawValue>)>,
    /// Texts that the fields would not repeat.
    exact: Vec<Exact>,
}

/// How one member stood, where its field writes it otherwise.
#[derive(Clone, Debug)]
struct Exact {
    name: &'static str,
    /// What the field wrote when it was read; `None` where it wrote nothing.
    field: Option<String>,
    /// What stood there; `None` where nothing did.
    text: Option<Box<RawValue>>,
}

/// An object that has fields and an [`Unknown`].
pub(super) trait Object {
    fn unknown(&self) -> &Unknown;

    /// Shows every member that has a field, in CloudTrail's order; `None` writes nothing.
    fn each_member<V: MemberVisitor>(&self, visitor: &mut V) -> Result<(), V::Error>;
}

pub(super) trait MemberVisitor {
    type Error;

    fn member<T: Serialize + ?Sized>(&mut self, name: &'static str, value: Option<&T>) -> Result<(), Self::Error>;
}

/// An object's members as they stand in the text.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl Unknown {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.exact.is_empty()
    }

    /// The JSON text of a member that has no field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, text)| text.get())
    }

    /// Members that have no field: name and JSON text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|(name, text)| (name.as_str(), text.get()))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn exact(&self, name: &str) -> Option<&Exact> {
        self.exact.iter().find(|exact| exact.name == name)
    }
}

/// Two are equal when they say the same text.
impl PartialEq for Unknown {
    fn eq(&self, other: &Self) -> bool {
        let texts = |it: &Exact| (it.name, it.field.clone(), it.text.as_ref().map(|text| text.get().to_owned()));
        self.iter().eq(other.iter()) && self.exact.iter().map(texts).eq(other.exact.iter().map(texts))
    }
}

impl<'a> Members<'a> {
    /// A member's value as its field holds it; `None` where it is absent, null or of another type.
    pub(super) fn read<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        let (_, text) = self.0.iter().find(|(member, _)| member == name)?;
        serde_json::from_str(text.get()).ok()
    }

    /// What `object`, read of these members, does not say by itself.
    pub(super) fn beyond<T: Object>(self, object: &T) -> Unknown {
        let mut rest = Rest { members: self.0, exact: Vec::new() };
        match object.each_member(&mut rest) {
            Ok(()) => {}
            Err(never) => match never {},
        }
        let members = rest.members.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
        Unknown { members, exact: rest.exact }
    }
}

/// Takes out of the members what the fields say.
struct Rest<'a> {
    members: Vec<(String, &'a RawValue)>,
    exact: Vec<Exact>,
}

impl MemberVisitor for Rest<'_> {
    type Error = std::convert::Infallible;

    fn member<T: Serialize + ?Sized>(&mut self, name: &'static str, value: Option<&T>) -> Result<(), Self::Error> {
        let text = self.members.iter().position(|(member, _)| member == name).map(|at| self.members.remove(at).1);
        let field = value.and_then(|value| serde_json::to_string(value).ok());
        if field.as_deref() != text.map(RawValue::get) {
            self.exact.push(Exact { name, field, text: text.map(RawValue::to_owned) });
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                let mut seen = HashSet::new();
                while let Some((name, text)) = map.next_entry::<String, &RawValue>()? {
                    // Readers differ on which of two counts: an object that says two things is refused.
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("member `{name}` stands twice")));
                    }
                    members.push((name, text));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Writes an object: its fields, each by its exact text where that still holds, then its unknown members.
pub(super) fn serialize<T: Object, S: Serializer>(object: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let unknown = object.unknown();
    let mut writer = Writer { map: serializer.serialize_map(None)?, unknown };
    object.each_member(&mut writer)?;
    for (name, text) in &unknown.members {
        writer.map.serialize_entry(name, text)?;
    }
    writer.map.end()
}

struct Writer<'a, M> {
    map: M,
    unknown: &'a Unknown,
}

impl<M: SerializeMap> MemberVisitor for Writer<'_, M> {
    type Error = M::Error;

    fn member<T: Serialize + ?Sized>(&mut self, name: &'static str, value: Option<&T>) -> Result<(), M::Error> {
        if let Some(exact) = self.unknown.exact(name) {
            let field = value.and_then(|value| serde_json::to_string(value).ok());
            if field == exact.field {
                return exact.text.as_ref().map_or(Ok(()), |text| self.map.serialize_entry(name, text));
            }
        }
        value.map_or(Ok(()), |value| self.map.serialize_entry(name, value))
    }
}
