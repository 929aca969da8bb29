//! Tags, and the operations on them: AddTags, RemoveTags, ListTags.

use std::collections::BTreeMap;

use edgetrail_proto::identity::Region;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::arn::{ResourceArn, TrailArn};
use crate::change::in_reach;
use crate::definition::{Place, TrailDefinition};
use crate::refusal::{Refusal, read, shown};

/// Most tags of a trail. Source: CloudTrail's quota.
const TAGS_MAX: usize = 50;

/// Most tags of one call. Source: the model's `TagsList`.
const TAGS_OF_CALL_MAX: usize = 200;

/// Longest key and value, in characters. Source: the model's `TagKey` and `TagValue`.
const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;

/// Most resources of one call. Source: ListTags, `ResourceIdList`.
const RESOURCES_MAX: usize = 20;

/// At most 50, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, Option<String>>);

/// AddTags or RemoveTags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagChange {
    pub trail: TrailArn,
    /// `None` where the member is absent, which is refused.
    tags: Option<Vec<Tag>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTags {
    /// In the caller's order; 1 to 20.
    pub trails: Vec<TrailArn>,
}

/// A tag as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Tag {
    key: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeInput {
    resource_id: Option<String>,
    tags_list: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListInput {
    resource_id_list: Option<Vec<String>>,
    next_token: Option<String>,
}

impl TagChange {
    pub fn parse(input: Value) -> Result<Self, Refusal> {
        let input: ChangeInput = read(input)?;
        let trail = match ResourceArn::parse(input.resource_id.as_deref().unwrap_or_default())? {
            ResourceArn::Trail(arn) => arn,
            ResourceArn::Channel(arn) => return Err(none_such("ChannelNotFoundException", "channel", &arn)),
            other => return Err(no_lake(&other)),
        };
        Ok(Self { trail, tags: input.tags_list.map(Tag::read_all).transpose()? })
    }

    fn given(self) -> Result<Tags, Refusal> {
        match self.tags {
            Some(tags) if (1..=TAGS_OF_CALL_MAX).contains(&tags.len()) => Tags::of(tags),
            Some(tags) => Err(refused(format!("{} tags are given: give 1 to {TAGS_OF_CALL_MAX}", tags.len()))),
            None => Err(refused(format!("give TagsList, with 1 to {TAGS_OF_CALL_MAX} tags"))),
        }
    }
}

impl ListTags {
    pub fn parse(input: Value, at: &Region) -> Result<Self, Refusal> {
        let input: ListInput = read(input)?;
        if let Some(token) = input.next_token {
            let message = format!("`{}` is not a token of ListTags: it answers in one page", shown(&token));
            return Err(Refusal::new("InvalidTokenException", message));
        }
        let ids = input.resource_id_list.unwrap_or_default();
        if !(1..=RESOURCES_MAX).contains(&ids.len()) {
            let constraint = format!("Member must have length between 1 and {RESOURCES_MAX}");
            return Err(Refusal::validation(&format!("{} ARNs", ids.len()), "resourceIdList", &constraint));
        }
        let trail = |id: &String| match ResourceArn::parse(id)? {
            ResourceArn::Trail(arn) if arn.region == *at => Ok(arn),
            ResourceArn::Trail(arn) => Err(Refusal::unknown_resource(&arn)),
            // The operation lists no error of a channel's own.
            ResourceArn::Channel(arn) => Err(none_such("ResourceNotFoundException", "channel", &arn)),
            other => Err(no_lake(&other)),
        };
        Ok(Self { trails: ids.iter().map(trail).collect::<Result<_, _>>()? })
    }
}

fn no_lake(resource: &ResourceArn) -> Refusal {
    match resource {
        ResourceArn::EventDataStore(arn) => none_such("EventDataStoreNotFoundException", "event data store", arn),
        ResourceArn::Channel(arn) | ResourceArn::Dashboard(arn) => none_such("ResourceNotFoundException", "resource", arn),
        ResourceArn::Trail(arn) => Refusal::unknown_resource(arn),
    }
}

fn none_such(code: &'static str, kind: &str, arn: &str) -> Refusal {
    Refusal::new(code, format!("the {kind} {} does not exist", shown(arn)))
}

/// Tags of the same key get the new value.
pub fn add_tags(old: &TrailDefinition, request: TagChange, at: &Place<'_>) -> Result<TrailDefinition, Refusal> {
    in_reach(old, at)?;
    let mut tags = old.tags.clone();
    tags.0.extend(request.given()?.0);
    tags.bounded().map(|tags| TrailDefinition { tags, ..old.clone() })
}

/// A tag that is not there is as one that was removed; values do not matter.
pub fn remove_tags(old: &TrailDefinition, request: TagChange, at: &Place<'_>) -> Result<TrailDefinition, Refusal> {
    in_reach(old, at)?;
    let removed = request.given()?;
    let mut tags = old.tags.clone();
    tags.0.retain(|key, _| !removed.0.contains_key(key));
    Ok(TrailDefinition { tags, ..old.clone() })
}

impl Tag {
    pub(crate) fn read_all(tags: Vec<Value>) -> Result<Vec<Self>, Refusal> {
        tags.into_iter().map(read).collect()
    }
}

impl Tags {
    /// Those of a new trail.
    pub(crate) fn of_creation(tags: Vec<Tag>) -> Result<Self, Refusal> {
        if tags.len() > TAGS_MAX {
            return Err(too_many(tags.len()));
        }
        Self::of(tags)
    }

    fn of(tags: Vec<Tag>) -> Result<Self, Refusal> {
        let mut all = BTreeMap::new();
        for Tag { key, value } in tags {
            let key = key.unwrap_or_default();
            let shown = shown(&key);
            if !(1..=KEY_CHARACTERS_MAX).contains(&key.chars().count()) {
                return Err(refused(format!("the key `{shown}` must have 1 to {KEY_CHARACTERS_MAX} characters")));
            }
            if value.as_deref().unwrap_or_default().chars().count() > VALUE_CHARACTERS_MAX {
                return Err(refused(format!("the value of `{shown}` must have at most {VALUE_CHARACTERS_MAX} characters")));
            }
            if !key.chars().chain(value.as_deref().unwrap_or_default().chars()).all(is_allowed) {
                return Err(refused(format!("key and value of `{shown}` may hold letters, numbers, spaces and _ . : / = + - @")));
            }
            if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
                return Err(refused(format!("the key `{shown}` must not begin with aws:")));
            }
            if all.insert(key, value).is_some() {
                return Err(refused(format!("the key `{shown}` is given twice")));
            }
        }
        Ok(Self(all))
    }

    fn bounded(self) -> Result<Self, Refusal> {
        if self.0.len() > TAGS_MAX { Err(too_many(self.0.len())) } else { Ok(self) }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// CloudTrail's `TagsList`, by key. A tag without a value shows none.
    pub fn listed(&self) -> Value {
        let tag = |(key, value): (&String, &Option<String>)| {
            let mut tag = Map::from_iter([("Key".to_owned(), Value::from(key.as_str()))]);
            tag.extend(value.as_deref().map(|value| ("Value".to_owned(), value.into())));
            Value::Object(tag)
        };
        self.0.iter().map(tag).collect()
    }
}

/// Source: CloudTrail user guide, tag restrictions: letters and numbers of any script.
fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c)
}

fn too_many(count: usize) -> Refusal {
    Refusal::new("TagsLimitExceededException", format!("the trail would have {count} tags: at most {TAGS_MAX} are allowed"))
}

fn refused(message: String) -> Refusal {
    Refusal::new("InvalidTagParameterException", message)
}
