//! A call from its input to its answer, as a collector with one trail would make it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use edgetrail_cloudtrail::{
    CreateTrail, DescribeTrails, GetInsightSelectors, ListTags, OrgFacts, Place, PutInsights, PutSelectors, Refusal, TagChange,
    TrailDefinition, TrailRef, UpdateTrail, add_tags, changeable, create, listed, put_insights, put_selectors, remove_tags,
    tags_listed, trail_named, trail_named_in_selectors, update,
};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const OTHER_ACCOUNT: &str = "222233334444";
pub(crate) const REGION: &str = "dc-tokyo-1";
pub(crate) const ARN: &str = "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/audit";

pub(crate) const OPERATIONS: [&str; 16] = [
    "AddTags",
    "CreateTrail",
    "DeleteTrail",
    "DescribeTrails",
    "GetEventSelectors",
    "GetInsightSelectors",
    "GetTrail",
    "GetTrailStatus",
    "ListTags",
    "ListTrails",
    "PutEventSelectors",
    "PutInsightSelectors",
    "RemoveTags",
    "StartLogging",
    "StopLogging",
    "UpdateTrail",
];

/// An organization that the account manages, and one that another does.
pub(crate) fn own_org() -> OrgFacts {
    OrgFacts { id: "o-abcdefghij".to_owned(), management: ACCOUNT.parse().unwrap() }
}

pub(crate) fn others_org() -> OrgFacts {
    OrgFacts { management: OTHER_ACCOUNT.parse().unwrap(), ..own_org() }
}

pub(crate) fn home() -> Place<'static> {
    Place {
        account: ACCOUNT.parse().unwrap(),
        region: REGION.parse().unwrap(),
        partition: "aws",
        org: None,
        now_ns: 1_777_000_000_000_000_001,
    }
}

pub(crate) fn away() -> Place<'static> {
    Place { region: "dc-osaka-1".parse().unwrap(), ..home() }
}

/// The trail `audit`, as CreateTrail makes it of the least that must be said.
pub(crate) fn trail() -> TrailDefinition {
    created(json!({}))
}

/// The same with more members.
pub(crate) fn created(members: Value) -> TrailDefinition {
    create(CreateTrail::parse(with(json!({"Name": "audit", "S3BucketName": "logs"}), members)).unwrap(), &home()).unwrap()
}

pub(crate) fn updated(old: &TrailDefinition, members: Value) -> TrailDefinition {
    update(old, UpdateTrail::parse(with(json!({"Name": "audit"}), members)).unwrap(), &home()).unwrap()
}

pub(crate) fn selecting(old: &TrailDefinition, selectors: Value) -> TrailDefinition {
    put_selectors(old, PutSelectors::parse(with(json!({"TrailName": "audit"}), selectors)).unwrap(), &home()).unwrap()
}

pub(crate) fn with(mut input: Value, members: Value) -> Value {
    if let (Value::Object(input), Value::Object(members)) = (&mut input, members) {
        input.extend(members);
    }
    input
}

/// What `operation` answers in the presence of one trail.
pub(crate) fn call(operation: &str, input: Value, trail: &TrailDefinition, at: &Place<'_>) -> Result<Value, Refusal> {
    let found = |name: &TrailRef| {
        let named = name.names(&trail.arn, &at.account, &at.region);
        let seen = trail.multi_region || trail.arn.region == at.region || matches!(name, TrailRef::Arn(_));
        if named && seen { Ok(()) } else { Err(Refusal::unknown_trail(name, &at.account)) }
    };
    let tagged =
        |change: &TagChange| if change.trail == trail.arn { Ok(()) } else { Err(Refusal::unknown_resource(&change.trail)) };
    match operation {
        "CreateTrail" => {
            let request = CreateTrail::parse(input)?;
            if request.name == trail.arn.name {
                return Err(Refusal::trail_exists(&request.name, &at.account));
            }
            create(request, at).map(|new| new.confirmed())
        }
        "UpdateTrail" => {
            let request = UpdateTrail::parse(input)?;
            found(&request.trail)?;
            update(trail, request, at).map(|new| new.confirmed())
        }
        "DeleteTrail" | "StartLogging" | "StopLogging" => {
            found(&trail_named(input)?)?;
            changeable(trail, at).map(|()| json!({}))
        }
        "GetTrail" | "GetTrailStatus" => {
            found(&trail_named(input)?)?;
            Ok(if operation == "GetTrail" { json!({ "Trail": trail.described() }) } else { json!({"IsLogging": false}) })
        }
        "DescribeTrails" => {
            let request = DescribeTrails::parse(input)?;
            let shown = request.trails.is_empty() || request.trails.iter().any(|name| found(name).is_ok());
            Ok(json!({ "trailList": if shown { vec![trail.described()] } else { vec![] } }))
        }
        "ListTrails" => Ok(listed([trail], None)),
        "GetEventSelectors" => {
            found(&trail_named_in_selectors(input)?)?;
            Ok(trail.selectors_listed())
        }
        "PutEventSelectors" => {
            let request = PutSelectors::parse(input)?;
            found(&request.trail)?;
            put_selectors(trail, request, at).map(|new| new.selectors_listed())
        }
        "GetInsightSelectors" => {
            found(&GetInsightSelectors::parse(input)?.trail)?;
            trail.insights_got()
        }
        "PutInsightSelectors" => {
            let request = PutInsights::parse(input)?;
            found(&request.trail)?;
            put_insights(trail, request, at).map(|new| new.insights_put())
        }
        "AddTags" | "RemoveTags" => {
            let request = TagChange::parse(input)?;
            tagged(&request)?;
            let change = if operation == "AddTags" { add_tags } else { remove_tags };
            change(trail, request, at).map(|_| json!({}))
        }
        "ListTags" => {
            let request = ListTags::parse(input, &at.region)?;
            match request.trails.iter().find(|arn| **arn != trail.arn) {
                Some(other) => Err(Refusal::unknown_resource(other)),
                None => Ok(tags_listed(request.trails.iter().map(|_| trail))),
            }
        }
        other => panic!("{other} is no operation on trails"),
    }
}
