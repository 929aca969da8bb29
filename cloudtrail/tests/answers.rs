//! What the operations answer, member for member; that answers are of the model's shapes, and the model is botocore's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod call;
mod model;

use std::path::Path;
use std::process::Command;

use call::{ARN, OPERATIONS, call, created, home, own_org, selecting, trail, updated, with};
use edgetrail_cloudtrail::{
    CreateTrail, Place, PutInsights, Request, TrailDefinition, create, listed, put_insights, tags_listed,
};
use model::{TEXT, model};
use serde_json::{Value, json};

const GROUP: &str = "arn:aws:logs:dc-tokyo-1:111122223333:log-group:audit:*";
const ROLE: &str = "arn:aws:iam::111122223333:role/CloudTrail_Role";
const KEY: &str = "arn:aws:kms:dc-tokyo-1:111122223333:key/12345678-1234-1234-1234-123456789012";

/// A trail with every member set.
fn full() -> TrailDefinition {
    let org = own_org();
    let at = Place { org: Some(&org), ..home() };
    let input = json!({
        "Name": "audit", "S3BucketName": "logs", "S3KeyPrefix": "a/b", "SnsTopicName": "files", "KmsKeyId": KEY,
        "IsMultiRegionTrail": true, "IncludeGlobalServiceEvents": true, "EnableLogFileValidation": true,
        "CloudWatchLogsLogGroupArn": GROUP, "CloudWatchLogsRoleArn": ROLE, "IsOrganizationTrail": true,
        "RecursiveLogging": false, "TagsList": [{"Key": "b", "Value": "2"}, {"Key": "a"}],
    });
    let trail = create(CreateTrail::parse(input).unwrap(), &at).unwrap();
    let input = json!({"TrailName": "audit", "InsightSelectors": [{"InsightType": "ApiErrorRateInsight"}]});
    put_insights(&trail, PutInsights::parse(input).unwrap(), &at).unwrap()
}

fn answer(operation: &str, input: Value, trail: &TrailDefinition) -> Value {
    let org = own_org();
    let answer = call(operation, input, trail, &Place { org: Some(&org), ..home() }).unwrap();
    model().check(&model().operations[operation].output, &answer);
    answer
}

#[test]
fn a_new_trail_has_cloudtrails_defaults_and_texts_only_where_set() {
    let confirmed = json!({
        "Name": "audit",
        "S3BucketName": "logs",
        "IncludeGlobalServiceEvents": true,
        "IsMultiRegionTrail": false,
        "TrailARN": ARN,
        "LogFileValidationEnabled": false,
        "IsOrganizationTrail": false,
        "RecursiveLogging": true,
    });
    assert_eq!(trail().confirmed(), confirmed);
    let input = json!({
        "Name": "audit", "S3BucketName": "logs", "S3KeyPrefix": "", "SnsTopicName": "", "KmsKeyId": "",
        "CloudWatchLogsLogGroupArn": "", "CloudWatchLogsRoleArn": "", "TagsList": [], "IsMultiRegionTrail": null,
    });
    assert_eq!(created(input), trail(), "an empty text is an absent one");
    let described = json!({"HomeRegion": "dc-tokyo-1", "HasCustomEventSelectors": false, "HasInsightSelectors": false});
    assert_eq!(answer("GetTrail", json!({"Name": ARN}), &trail()), json!({"Trail": with(confirmed.clone(), described)}));
    assert_eq!(answer("UpdateTrail", json!({"Name": "audit"}), &trail()), confirmed);
}

#[test]
fn every_member_is_shown_as_it_was_given() {
    let confirmed = json!({
        "Name": "audit",
        "S3BucketName": "logs",
        "S3KeyPrefix": "a/b",
        "SnsTopicName": "files",
        "SnsTopicARN": "arn:aws:sns:dc-tokyo-1:111122223333:files",
        "IncludeGlobalServiceEvents": true,
        "IsMultiRegionTrail": true,
        "TrailARN": ARN,
        "LogFileValidationEnabled": true,
        "CloudWatchLogsLogGroupArn": GROUP,
        "CloudWatchLogsRoleArn": ROLE,
        "KmsKeyId": KEY,
        "IsOrganizationTrail": true,
        "RecursiveLogging": false,
    });
    assert_eq!(answer("UpdateTrail", json!({"Name": "audit"}), &full()), confirmed);
    let custom = selecting_in_org(&full(), json!({"EventSelectors": [{}]}));
    let described = json!({"HomeRegion": "dc-tokyo-1", "HasCustomEventSelectors": true, "HasInsightSelectors": true});
    let described = with(confirmed, described);
    assert_eq!(answer("GetTrail", json!({"Name": "audit"}), &custom), json!({"Trail": described}));
    assert_eq!(answer("DescribeTrails", json!({}), &custom), json!({"trailList": [described]}));
}

fn selecting_in_org(old: &TrailDefinition, selectors: Value) -> TrailDefinition {
    let org = own_org();
    let request = edgetrail_cloudtrail::PutSelectors::parse(with(json!({"TrailName": "audit"}), selectors)).unwrap();
    edgetrail_cloudtrail::put_selectors(old, request, &Place { org: Some(&org), ..home() }).unwrap()
}

#[test]
fn trails_and_tags_are_listed() {
    let info = json!({"TrailARN": ARN, "Name": "audit", "HomeRegion": "dc-tokyo-1"});
    assert_eq!(answer("ListTrails", json!({}), &trail()), json!({"Trails": [info]}));
    assert_eq!(listed([&trail()], Some("t")), json!({"Trails": [info], "NextToken": "t"}));
    assert_eq!(listed([], None), json!({"Trails": []}));

    let tags = json!([{"Key": "a"}, {"Key": "b", "Value": "2"}]);
    let listed = answer("ListTags", json!({"ResourceIdList": [ARN]}), &full());
    assert_eq!(listed, json!({"ResourceTagList": [{"ResourceId": ARN, "TagsList": tags}]}));
    let none = json!({"ResourceTagList": [{"ResourceId": ARN, "TagsList": []}]});
    assert_eq!(tags_listed([&trail()]), none, "clients take the first entry unasked");
}

#[test]
fn selectors_are_told_with_their_defaults() {
    let default = json!([{"ReadWriteType": "All", "IncludeManagementEvents": true, "DataResources": [],
        "ExcludeManagementEventSources": []}]);
    let told = answer("GetEventSelectors", json!({"TrailName": "audit"}), &trail());
    assert_eq!(told, json!({"TrailARN": ARN, "EventSelectors": default}));

    let given = json!([{"ReadWriteType": "WriteOnly", "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]}]);
    let told = answer("PutEventSelectors", json!({"TrailName": "audit", "EventSelectors": given}), &trail());
    let filled = json!([{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": true, "ExcludeManagementEventSources": [],
        "DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]}]);
    assert_eq!(told, json!({"TrailARN": ARN, "EventSelectors": filled}));

    let given = json!([{"Name": "files", "FieldSelectors": [{"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["Host::File"]}, {"Field": "resources.ARN", "NotStartsWith": ["arn:x"]}]}]);
    let advanced = json!({"TrailName": "audit", "AdvancedEventSelectors": given, "EventSelectors": []});
    let told = answer("PutEventSelectors", advanced, &trail());
    assert_eq!(told, json!({"TrailARN": ARN, "AdvancedEventSelectors": given}));

    let basic = selecting(&trail(), json!({"EventSelectors": [{}]}));
    let advanced = selecting(&basic, json!({"AdvancedEventSelectors": given}));
    assert!(advanced.custom_selectors && advanced.selectors_listed().get("EventSelectors").is_none());
}

#[test]
fn insights_are_told_and_turned_off() {
    let given = json!([{"InsightType": "ApiErrorRateInsight"},
        {"InsightType": "ApiCallRateInsight", "EventCategories": ["Management", "Management"]}]);
    let filled = json!([{"InsightType": "ApiErrorRateInsight", "EventCategories": ["Management"]},
        {"InsightType": "ApiCallRateInsight", "EventCategories": ["Management"]}]);
    let told = answer("PutInsightSelectors", json!({"TrailName": "audit", "InsightSelectors": given}), &trail());
    assert_eq!(told, json!({"TrailARN": ARN, "InsightSelectors": filled}));
    let told = answer("GetInsightSelectors", json!({"TrailName": "audit"}), &full());
    let set = json!([{"InsightType": "ApiErrorRateInsight", "EventCategories": ["Management"]}]);
    assert_eq!(told, json!({"TrailARN": ARN, "InsightSelectors": set}));
    let told = answer("PutInsightSelectors", json!({"TrailName": "audit", "InsightSelectors": []}), &full());
    assert_eq!(told, json!({"TrailARN": ARN, "InsightSelectors": []}));
}

#[test]
fn an_empty_text_clears_and_an_absent_one_keeps() {
    let org = own_org();
    let at = Place { org: Some(&org), ..home() };
    let cleared = json!({"Name": "audit", "S3KeyPrefix": "", "SnsTopicName": "", "KmsKeyId": "", "IsOrganizationTrail": false,
        "CloudWatchLogsLogGroupArn": "", "CloudWatchLogsRoleArn": ""});
    let answer = call("UpdateTrail", cleared, &full(), &at).unwrap();
    let left: Vec<&String> = answer.as_object().unwrap().keys().collect();
    let kept = ["IncludeGlobalServiceEvents", "IsMultiRegionTrail", "IsOrganizationTrail", "LogFileValidationEnabled", "Name"];
    assert_eq!(left, [&kept[..], &["RecursiveLogging", "S3BucketName", "TrailARN"]].concat());
    assert_eq!(answer["IsOrganizationTrail"], false);
    let moved =
        updated(&trail(), json!({"SnsTopicName": "files", "CloudWatchLogsLogGroupArn": GROUP, "CloudWatchLogsRoleArn": ROLE}));
    let other = updated(&moved, json!({"CloudWatchLogsRoleArn": ROLE.replace("CloudTrail", "Other")}));
    assert_eq!(other.log_group.as_ref().unwrap().group_arn, GROUP, "the group stays with another role");
    assert_eq!(other.topic, moved.topic);
}

#[test]
fn tags_are_merged_and_removed_by_key() {
    let with_tags = |operation: &str, old: &TrailDefinition, tags: Value| {
        let request = Request::parse(operation, json!({"ResourceId": ARN, "TagsList": tags})).unwrap().unwrap();
        match request {
            Request::AddTags(change) => edgetrail_cloudtrail::add_tags(old, change, &home()).unwrap(),
            Request::RemoveTags(change) => edgetrail_cloudtrail::remove_tags(old, change, &home()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let tagged = with_tags("AddTags", &trail(), json!([{"Key": "a", "Value": "1"}, {"Key": "b"}]));
    let tagged = with_tags("AddTags", &tagged, json!([{"Key": "a"}, {"Key": "c", "Value": "3"}]));
    assert_eq!(tagged.tags.listed(), json!([{"Key": "a"}, {"Key": "b"}, {"Key": "c", "Value": "3"}]));
    let left = with_tags("RemoveTags", &tagged, json!([{"Key": "c", "Value": "other"}, {"Key": "nobodys"}]));
    assert_eq!(left.tags.listed(), json!([{"Key": "a"}, {"Key": "b"}]));
    assert_eq!(with_tags("RemoveTags", &left, json!([{"Key": "a"}, {"Key": "b"}])), trail());
}

#[test]
fn names_that_are_asked_for_twice_are_one() {
    let request = edgetrail_cloudtrail::DescribeTrails::parse(json!({"trailNameList": ["audit", ARN, "audit", ARN]})).unwrap();
    assert_eq!((request.trails.len(), request.include_shadows), (2, true));
    let request = edgetrail_cloudtrail::DescribeTrails::parse(json!({"includeShadowTrails": false})).unwrap();
    assert_eq!((request.trails.len(), request.include_shadows), (0, false));
}

#[test]
fn the_operations_on_trails_are_the_models() {
    assert!(model().operations.keys().map(String::as_str).eq(OPERATIONS));
    for operation in OPERATIONS {
        let changes = !["Get", "List", "Describe"].iter().any(|reads| operation.starts_with(reads));
        assert_eq!(Request::parse(operation, json!({})).is_some(), changes, "{operation}");
    }
}

#[test]
fn the_model_is_botocores() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join(".venv/bin/python3");
    if std::env::var_os("EDGETRAIL_SKIP_AWSCLI").is_some() || !python.exists() {
        eprintln!("SKIPPED: cloudtrail/tests/model.toml is not compared with botocore's model (run `make setup`)");
        return;
    }
    let script = root.join("tests/clients/cloudtrail_model.py");
    let output = Command::new(python).arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), TEXT, "make it anew with tests/clients/cloudtrail_model.py");
}
