//! PutEventSelectors and the answer of GetEventSelectors.
//!
//! An unknown member within a selector is refused, which the protocol would pass over elsewhere: a misspelt condition
//! would take more than it was meant to.

use std::collections::BTreeMap;

use edgetrail_proto::selector::{AdvancedSelector, BasicSelector, DataResource, Field, FieldSelector, ReadWriteType, Selectors};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::arn::TrailRef;
use crate::change::changeable;
use crate::definition::{Place, TrailDefinition};
use crate::refusal::{Refusal, read, shown};

/// A request whose members have the right types and whose name is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutSelectors {
    pub trail: TrailRef,
    basic: Vec<Basic>,
    advanced: Vec<Advanced>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    trail_name: Option<String>,
    event_selectors: Option<Vec<Value>>,
    advanced_event_selectors: Option<Vec<Value>>,
}

/// Members that the model does not have.
type Unknown = BTreeMap<String, Value>;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Basic {
    read_write_type: Option<String>,
    include_management_events: Option<bool>,
    data_resources: Option<Vec<Resource>>,
    exclude_management_event_sources: Option<Vec<String>>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resource {
    r#type: Option<String>,
    values: Option<Vec<String>>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Advanced {
    name: Option<String>,
    field_selectors: Option<Vec<Condition>>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Condition {
    field: Option<String>,
    equals: Option<Vec<String>>,
    starts_with: Option<Vec<String>>,
    ends_with: Option<Vec<String>>,
    not_equals: Option<Vec<String>>,
    not_starts_with: Option<Vec<String>>,
    not_ends_with: Option<Vec<String>>,
    #[serde(flatten)]
    unknown: Unknown,
}

impl PutSelectors {
    pub fn parse(input: Value) -> Result<Self, Refusal> {
        let input: Input = read(input)?;
        let basic = input.event_selectors.unwrap_or_default().into_iter().map(read).collect::<Result<_, _>>()?;
        let advanced = input.advanced_event_selectors.unwrap_or_default().into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { trail: TrailRef::of_member(input.trail_name.as_deref())?, basic, advanced })
    }

    fn selectors(self) -> Result<Selectors, Refusal> {
        let selectors = match (self.basic.is_empty(), self.advanced.is_empty()) {
            (false, false) => {
                return Err(refused("Specify either EventSelectors or AdvancedEventSelectors, not both".to_owned()));
            }
            (true, true) => return Err(refused("Specify one of EventSelectors or AdvancedEventSelectors".to_owned())),
            (false, true) => Selectors::Basic(self.basic.into_iter().map(Basic::selector).collect::<Result<_, _>>()?),
            (true, false) => Selectors::Advanced(self.advanced.into_iter().map(Advanced::selector).collect::<Result<_, _>>()?),
        };
        selectors.validate().map_err(|error| refused(error.to_string()))?;
        Ok(selectors)
    }
}

/// One kind takes the place of the other.
pub fn put_selectors(old: &TrailDefinition, request: PutSelectors, at: &Place<'_>) -> Result<TrailDefinition, Refusal> {
    changeable(old, at)?;
    Ok(TrailDefinition { selectors: request.selectors()?, custom_selectors: true, ..old.clone() })
}

impl TrailDefinition {
    /// The answer of PutEventSelectors and GetEventSelectors: the kind that is set, defaults filled in.
    pub fn selectors_listed(&self) -> Value {
        let (member, selectors) = match &self.selectors {
            Selectors::Basic(selectors) => ("EventSelectors", json!(selectors)),
            Selectors::Advanced(selectors) => ("AdvancedEventSelectors", json!(selectors)),
        };
        let arn = Value::from(self.arn.to_string());
        Value::Object(Map::from_iter([("TrailARN".to_owned(), arn), (member.to_owned(), selectors)]))
    }
}

impl Basic {
    fn selector(self) -> Result<BasicSelector, Refusal> {
        none_unknown(&self.unknown, "an event selector")?;
        let read_write_type = match self.read_write_type.as_deref() {
            None | Some("All") => ReadWriteType::All,
            Some("ReadOnly") => ReadWriteType::ReadOnly,
            Some("WriteOnly") => ReadWriteType::WriteOnly,
            Some(other) => {
                return Err(refused(format!("`{}` is no ReadWriteType: give All, ReadOnly or WriteOnly", shown(other))));
            }
        };
        let resources = self.data_resources.unwrap_or_default().into_iter();
        Ok(BasicSelector {
            read_write_type,
            include_management_events: self.include_management_events.unwrap_or(true),
            data_resources: resources.map(Resource::resource).collect::<Result<_, _>>()?,
            exclude_management_event_sources: self.exclude_management_event_sources.unwrap_or_default(),
        })
    }
}

impl Resource {
    fn resource(self) -> Result<DataResource, Refusal> {
        none_unknown(&self.unknown, "a data resource")?;
        Ok(DataResource { kind: self.r#type.unwrap_or_default(), values: self.values.unwrap_or_default() })
    }
}

impl Advanced {
    fn selector(self) -> Result<AdvancedSelector, Refusal> {
        none_unknown(&self.unknown, "an advanced event selector")?;
        let conditions = self.field_selectors.unwrap_or_default().into_iter();
        Ok(AdvancedSelector { name: self.name, field_selectors: conditions.map(Condition::selector).collect::<Result<_, _>>()? })
    }
}

impl Condition {
    fn selector(self) -> Result<FieldSelector, Refusal> {
        none_unknown(&self.unknown, "a field selector")?;
        let field = self.field.unwrap_or_default();
        let known = Field::ALL.into_iter().find(|known| known.as_str() == field);
        let field = known.ok_or_else(|| {
            let all: Vec<&str> = Field::ALL.iter().map(|field| field.as_str()).collect();
            refused(format!("`{}` is no field to select by: give one of {}", shown(&field), all.join(", ")))
        })?;
        Ok(FieldSelector {
            field,
            equals: self.equals.unwrap_or_default(),
            starts_with: self.starts_with.unwrap_or_default(),
            ends_with: self.ends_with.unwrap_or_default(),
            not_equals: self.not_equals.unwrap_or_default(),
            not_starts_with: self.not_starts_with.unwrap_or_default(),
            not_ends_with: self.not_ends_with.unwrap_or_default(),
        })
    }
}

fn none_unknown(unknown: &Unknown, of: &str) -> Result<(), Refusal> {
    match unknown.keys().next() {
        Some(member) => Err(refused(format!("`{}` is no member of {of}", shown(member)))),
        None => Ok(()),
    }
}

fn refused(message: String) -> Refusal {
    Refusal::new("InvalidEventSelectorsException", message)
}
