//! LookupEvents: the account's management events of the region called, of the last 90 days, newest first.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::failed;
use super::parameters::{read, required, seconds_down, seconds_up};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::dispatch::now_seconds;
use crate::api::fault::Fault;
use crate::history::{Attribute, Found, HistoryError, Query};

/// Source: CloudTrail's service model, `MaxResults`.
const RESULTS: std::ops::RangeInclusive<i64> = 1..=50;
/// Characters of an attribute's value, where `_`, space, comma and newline count double. Source: the service model.
const VALUE_CHARACTERS_MAX: usize = 2000;
/// Attributes in one look-up, all ANDed: each key twice is more than anybody asks.
const ATTRIBUTES_MAX: usize = 16;
/// Source: CloudTrail's event history, 90 days.
const HISTORY_SECONDS: u64 = 90 * 24 * 3600;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    #[serde(default)]
    lookup_attributes: Vec<LookupAttribute>,
    start_time: Option<f64>,
    end_time: Option<f64>,
    event_category: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LookupAttribute {
    attribute_key: Option<String>,
    attribute_value: Option<String>,
}

pub(super) async fn lookup(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let input: Input = read(input)?;
    let insights = match input.event_category.as_deref() {
        None => false,
        Some("insight") => true,
        Some(_) => {
            return Err(Fault::client("InvalidEventCategoryException", "the only category that can be asked for is `insight`"));
        }
    };
    let query = query(caller, input)?;
    if insights {
        return Ok(json!({ "Events": [] }));
    }
    match api.parts().history.lookup(query).await {
        Ok(page) => {
            let mut output = Map::new();
            output.insert("Events".to_owned(), page.events.into_iter().map(event).collect());
            output.extend(page.next.map(|token| ("NextToken".to_owned(), token.into())));
            Ok(Value::Object(output))
        }
        Err(HistoryError::Token(error)) => Err(Fault::client("InvalidNextTokenException", error.to_string())),
        Err(error) => Err(failed("history cannot be searched", &error)),
    }
}

fn query(caller: &Caller, input: Input) -> Result<Query, Fault> {
    if input.lookup_attributes.len() > ATTRIBUTES_MAX {
        return Err(invalid_attributes(format!("a look-up has at most {ATTRIBUTES_MAX} attributes")));
    }
    let attributes = input.lookup_attributes.into_iter().map(attribute).collect::<Result<Vec<_>, _>>()?;
    let (from, to) = (input.start_time.map(seconds_up), input.end_time.map(seconds_down));
    if input.start_time.zip(input.end_time).is_some_and(|(start, end)| start > end) {
        return Err(Fault::client("InvalidTimeRangeException", "StartTime is behind EndTime"));
    }
    let max = input.max_results.unwrap_or(*RESULTS.end());
    let max = usize::try_from(max).ok().filter(|_| RESULTS.contains(&max));
    let max = max.ok_or_else(|| Fault::client("InvalidMaxResultsException", "MaxResults is 1 to 50"))?;
    let oldest = now_seconds().saturating_sub(HISTORY_SECONDS);
    let mut query = Query::new(caller.account.as_str(), caller.region.as_str(), attributes);
    (query.from, query.to, query.oldest, query.max, query.token) = (from, to, oldest, max, input.next_token);
    Ok(query)
}

fn attribute(input: LookupAttribute) -> Result<(Attribute, String), Fault> {
    let key = required(input.attribute_key, "AttributeKey")?;
    let value = required(input.attribute_value, "AttributeValue")?;
    let attribute = Attribute::from_name(&key).ok_or_else(|| {
        let names = Attribute::ALL.map(Attribute::name).join(", ");
        invalid_attributes(format!("AttributeKey is one of {names}"))
    })?;
    let double = |character: char| matches!(character, '_' | ' ' | ',' | '\n');
    let length: usize = value.chars().map(|character| if double(character) { 2 } else { 1 }).sum();
    if length == 0 || length > VALUE_CHARACTERS_MAX {
        return Err(invalid_attributes(format!("AttributeValue has 1 to {VALUE_CHARACTERS_MAX} characters")));
    }
    Ok((attribute, value))
}

fn invalid_attributes(why: String) -> Fault {
    Fault::client("InvalidLookupAttributesException", why)
}

/// CloudTrail's `Event`: a member that is not known is absent, `ReadOnly` is text, the record a JSON string.
fn event(found: Found) -> Value {
    let resources = found.resources.into_iter().map(|(kind, name)| {
        let members = [("ResourceType", kind), ("ResourceName", name)].into_iter().filter(|(_, text)| !text.is_empty());
        members.map(|(member, text)| (member.to_owned(), Value::from(text))).collect::<Value>()
    });
    let mut output = json!({
        "EventName": found.name,
        "EventTime": found.time,
        "EventSource": found.source,
        "Resources": resources.collect::<Vec<_>>(),
        "CloudTrailEvent": String::from_utf8_lossy(&found.record),
    });
    if let Value::Object(members) = &mut output {
        let optional = [
            ("EventId", found.event_id.map(|id| id.to_string())),
            ("ReadOnly", found.read_only.map(|read_only| read_only.to_string())),
            ("AccessKeyId", found.access_key),
            ("Username", found.user),
        ];
        members.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))));
    }
    output
}
