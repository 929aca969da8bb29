//! AddTags, RemoveTags, ListTags. Tags change nothing of what is delivered, so they take effect at once.

use edgetrail_cloudtrail::{ListTags, Place, Refusal, TagChange, TrailDefinition, tags_listed};
use serde_json::{Value, json};

use super::failed;
use super::trails::of_account;
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::dispatch::now_seconds;
use crate::api::fault::Fault;

/// What one of the two operations makes of a trail.
type Change = fn(&TrailDefinition, TagChange, &Place<'_>) -> Result<TrailDefinition, Refusal>;

pub(super) fn change(api: &Api, caller: &Caller, input: Value, change: Change) -> Result<Value, Fault> {
    let asked = TagChange::parse(input)?;
    let unknown = Refusal::unknown_resource(&asked.trail);
    if asked.trail.account != caller.account {
        return Err(unknown.into());
    }
    let place = Place {
        account: caller.account,
        region: caller.region.clone(),
        partition: &caller.partition,
        org: None,
        now_ns: now_seconds().saturating_mul(1_000_000_000),
    };
    let arn = asked.trail.to_string();
    let unreadable = |error: &(dyn std::error::Error + 'static)| failed("the trail's tags cannot be changed", error);
    let changed = api.parts().control.retag(&arn, |trail| {
        let definition = trail.definition().map_err(|error| unreadable(&error))?;
        Ok::<_, Fault>(change(&definition, asked, &place)?.tags)
    });
    // From here on the tags are what was asked.
    changed.map_err(|error| unreadable(&error))?.ok_or(unknown)??;
    Ok(json!({}))
}

pub(super) fn list(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let asked = ListTags::parse(input, &caller.region)?;
    let trails = of_account(api, caller)?;
    let found = asked.trails.iter().map(|arn| {
        let trail = trails.iter().find(|trail| trail.arn == *arn);
        trail.ok_or_else(|| Refusal::unknown_resource(arn))
    });
    Ok(tags_listed(found.collect::<Result<Vec<_>, _>>()?))
}
