//! DescribeTrails, GetTrail, ListTrails, GetTrailStatus, GetEventSelectors, GetInsightSelectors.
//!
//! A trail belongs to an account and a home region. In every other region a multi-region trail shows as its shadow: listed
//! and found by ARN, not by name.

use edgetrail_cloudtrail::{
    DescribeTrails, GetInsightSelectors, Refusal, TrailDefinition, TrailRef, listed, trail_named, trail_named_in_selectors,
};
use edgetrail_proto::record::format_time;
use serde_json::{Map, Value, json};

use super::failed;
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::fault::Fault;

pub(super) fn describe(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let asked = DescribeTrails::parse(input)?;
    let mut trails = visible(api, caller)?;
    trails.retain(|trail| {
        let named = asked.trails.is_empty() || asked.trails.iter().any(|name| is_named(trail, name, caller));
        named && (asked.include_shadows || is_home(trail, caller))
    });
    Ok(json!({ "trailList": trails.iter().map(TrailDefinition::described).collect::<Vec<_>>() }))
}

pub(super) fn get(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let trail = find(api, caller, &trail_named(input)?)?;
    Ok(json!({ "Trail": trail.described() }))
}

pub(super) fn selectors(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    Ok(find(api, caller, &trail_named_in_selectors(input)?)?.selectors_listed())
}

pub(super) fn insights(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    Ok(find(api, caller, &GetInsightSelectors::parse(input)?.trail)?.insights_got()?)
}

/// The trails of the account, whatever their region. There are few: one page, no token.
pub(super) fn list(api: &Api, caller: &Caller, _input: Value) -> Result<Value, Fault> {
    let trails = of_account(api, caller)?;
    Ok(listed(&trails, None))
}

pub(super) fn status(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let trail = find(api, caller, &trail_named(input)?)?;
    let status = api.parts().trails.status(&trail.arn.to_string()).unwrap_or_default();
    let mut output = Map::new();
    let mut set = |name: &str, value: Option<Value>| output.extend(value.map(|value| (name.to_owned(), value)));
    set("IsLogging", Some(status.is_logging.into()));
    for (name, time) in [
        ("LatestDeliveryTime", status.latest_delivery_time),
        ("StartLoggingTime", status.start_logging_time),
        ("StopLoggingTime", status.stop_logging_time),
        ("LatestDigestDeliveryTime", status.latest_digest_delivery_time),
    ] {
        set(name, time.map(epoch_seconds));
    }
    for (name, error) in [
        ("LatestDeliveryError", &status.latest_delivery_error),
        ("LatestDigestDeliveryError", &status.latest_digest_delivery_error),
    ] {
        set(name, error.as_deref().map(Value::from));
    }
    // Members from before 2015 that old tools still read: text, empty when unset.
    for (name, time) in [
        ("LatestDeliveryAttemptTime", status.latest_delivery_attempt),
        ("LatestDeliveryAttemptSucceeded", status.latest_delivery_time),
        ("LatestNotificationAttemptTime", None),
        ("LatestNotificationAttemptSucceeded", None),
        ("TimeLoggingStarted", status.start_logging_time),
        ("TimeLoggingStopped", status.stop_logging_time),
    ] {
        set(name, Some(time.map(format_time).unwrap_or_default().into()));
    }
    Ok(Value::Object(output))
}

/// The trail that is named, as far as the region that is called shows it; not found is a fault.
pub(super) fn find(api: &Api, caller: &Caller, name: &TrailRef) -> Result<TrailDefinition, Fault> {
    let found = visible(api, caller)?.into_iter().find(|trail| is_named(trail, name, caller));
    found.ok_or_else(|| Refusal::unknown_trail(name, &caller.account).into())
}

pub(super) fn is_home(trail: &TrailDefinition, caller: &Caller) -> bool {
    *trail.home() == caller.region
}

fn is_named(trail: &TrailDefinition, name: &TrailRef, caller: &Caller) -> bool {
    name.names(&trail.arn, &caller.account, &caller.region)
}

fn visible(api: &Api, caller: &Caller) -> Result<Vec<TrailDefinition>, Fault> {
    let mut trails = of_account(api, caller)?;
    trails.retain(|trail| trail.multi_region || is_home(trail, caller));
    Ok(trails)
}

/// One whose settings are damaged is told in the log, and hides no other.
pub(super) fn of_account(api: &Api, caller: &Caller) -> Result<Vec<TrailDefinition>, Fault> {
    let trails = api.parts().control.trails().map_err(|error| failed("the trails cannot be read", &error))?;
    let theirs = trails.iter().filter(|trail| trail.account == caller.account.as_str());
    let definitions = theirs.filter_map(|trail| {
        let damaged =
            |error| tracing::error!(trail = trail.arn, error = &error as &dyn std::error::Error, "a trail is not shown");
        trail.definition().map_err(damaged).ok()
    });
    Ok(definitions.collect())
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in an f64 for 285,000 years")]
fn epoch_seconds(time_ns: u64) -> Value {
    ((time_ns / 1_000_000) as f64 / 1000.0).into()
}
