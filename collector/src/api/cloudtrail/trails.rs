//! DescribeTrails, GetTrail, ListTrails, GetTrailStatus.
//!
//! A trail belongs to an account and a home region. In every other region a multi-region trail shows as its shadow: listed
//! and found by ARN, not by name.

use edgetrail_proto::record::format_time;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::failed;
use super::parameters::{TrailName, read, required};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::fault::Fault;
use crate::control::TrailConfig;

#[derive(Deserialize)]
struct DescribeInput {
    #[serde(rename = "trailNameList", default)]
    names: Vec<String>,
    #[serde(rename = "includeShadowTrails", default = "yes")]
    include_shadows: bool,
}

#[derive(Deserialize)]
struct NameInput {
    #[serde(rename = "Name")]
    name: Option<String>,
}

fn yes() -> bool {
    true
}

pub(super) fn describe(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let input: DescribeInput = read(input)?;
    let names = input.names.iter().map(|name| TrailName::parse(name)).collect::<Result<Vec<_>, _>>()?;
    let mut trails = visible(api, caller)?;
    trails.retain(|trail| {
        let named = names.is_empty() || names.iter().any(|name| is_named(trail, name, caller));
        named && (input.include_shadows || is_home(trail, caller))
    });
    Ok(json!({ "trailList": trails.iter().map(described).collect::<Vec<_>>() }))
}

pub(super) fn get(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let trail = named(api, caller, input)?;
    Ok(json!({ "Trail": described(&trail) }))
}

/// The trails of the account, whatever their region. There are few: one page, no token.
pub(super) fn list(api: &Api, caller: &Caller, _input: Value) -> Result<Value, Fault> {
    let trails = of_account(api, caller)?;
    let listed = trails.iter().map(|trail| json!({ "TrailARN": trail.arn, "Name": trail.name, "HomeRegion": trail.home_region }));
    Ok(json!({ "Trails": listed.collect::<Vec<_>>() }))
}

pub(super) fn status(api: &Api, caller: &Caller, input: Value) -> Result<Value, Fault> {
    let trail = named(api, caller, input)?;
    let status = api.parts().trails.status(&trail.arn).unwrap_or_default();
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

/// The trail that the member `Name` names; not found is a fault.
pub(super) fn named(api: &Api, caller: &Caller, input: Value) -> Result<TrailConfig, Fault> {
    let input: NameInput = read(input)?;
    let name = TrailName::parse(&required(input.name, "Name")?)?;
    find(api, caller, &name)
}

fn find(api: &Api, caller: &Caller, name: &TrailName) -> Result<TrailConfig, Fault> {
    let found = visible(api, caller)?.into_iter().find(|trail| is_named(trail, name, caller));
    found.ok_or_else(|| {
        let message = format!("unknown trail {} for account {} in region {}", name.text(), caller.account, caller.region);
        Fault::client("TrailNotFoundException", message)
    })
}

pub(super) fn is_home(trail: &TrailConfig, caller: &Caller) -> bool {
    trail.home_region == caller.region.as_str()
}

fn visible(api: &Api, caller: &Caller) -> Result<Vec<TrailConfig>, Fault> {
    let mut trails = of_account(api, caller)?;
    trails.retain(|trail| trail.multi_region || is_home(trail, caller));
    Ok(trails)
}

fn of_account(api: &Api, caller: &Caller) -> Result<Vec<TrailConfig>, Fault> {
    let mut trails = api.parts().control.trails().map_err(|error| failed("the trails cannot be read", &error))?;
    trails.retain(|trail| trail.account == caller.account.as_str());
    Ok(trails)
}

fn is_named(trail: &TrailConfig, name: &TrailName, caller: &Caller) -> bool {
    match name {
        TrailName::Arn(arn) => trail.arn == *arn,
        TrailName::Name(name) => trail.name == *name && is_home(trail, caller),
    }
}

/// CloudTrail's `Trail`. A string that is not set is absent.
fn described(trail: &TrailConfig) -> Value {
    let mut output = json!({
        "Name": trail.name,
        "S3BucketName": trail.bucket,
        "IncludeGlobalServiceEvents": true,
        "IsMultiRegionTrail": trail.multi_region,
        "HomeRegion": trail.home_region,
        "TrailARN": trail.arn,
        "LogFileValidationEnabled": trail.validation,
        "HasCustomEventSelectors": false,
        "HasInsightSelectors": false,
        "IsOrganizationTrail": false,
    });
    if let Value::Object(members) = &mut output {
        for (name, value) in [("S3KeyPrefix", &trail.prefix), ("KmsKeyId", &trail.kms_key)] {
            members.extend(value.as_deref().map(|value| (name.to_owned(), value.into())));
        }
    }
    output
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in an f64 for 285,000 years")]
fn epoch_seconds(time_ns: u64) -> Value {
    ((time_ns / 1_000_000) as f64 / 1000.0).into()
}
