//! Every rule with inputs that break it: the code, which the model lists for the operation, and the text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod call;
mod model;

use call::{ARN, OPERATIONS, away, call, created, home, others_org, own_org, selecting, trail, with};
use edgetrail_cloudtrail::{Place, TrailDefinition};
use model::model;
use serde_json::{Value, json};

/// What all operations of the protocol may answer beside the modelled errors.
const COMMON: [&str; 2] = ["SerializationException", "ValidationException"];

/// Asserts that the call is refused with the code, that the code is the operation's, and that the message begins so.
#[track_caller]
fn refused(operation: &str, input: Value, code: &str, message: &str) {
    refused_of(&trail(), &home(), operation, input, code, message);
}

#[track_caller]
fn refused_of(trail: &TrailDefinition, at: &Place<'_>, operation: &str, input: Value, code: &str, message: &str) {
    let refusal = call(operation, input.clone(), trail, at).expect_err(&format!("{operation} {input}"));
    assert_eq!(refusal.code, code, "{operation} {input}: {}", refusal.message);
    assert!(refusal.message.starts_with(message), "{operation} {input}: {}", refusal.message);
    assert!(refusal.message.chars().count() < 1000 && !refusal.message.contains(char::is_control), "{}", refusal.message);
    let listed = model().operations[operation].errors.iter().any(|error| error == code);
    assert!(listed || COMMON.contains(&code), "the model has no {code} for {operation}");
}

#[track_caller]
fn taken(operation: &str, input: Value) -> Value {
    call(operation, input.clone(), &trail(), &home()).unwrap_or_else(|refusal| panic!("{operation} {input}: {refusal:?}"))
}

fn creating(members: Value) -> Value {
    with(json!({"Name": "another", "S3BucketName": "logs"}), members)
}

fn updating(members: Value) -> Value {
    with(json!({"Name": "audit"}), members)
}

/// The operations that name a trail, with the member that does.
const NAMING: [(&str, &str); 10] = [
    ("CreateTrail", "Name"),
    ("UpdateTrail", "Name"),
    ("DeleteTrail", "Name"),
    ("GetTrail", "Name"),
    ("GetTrailStatus", "Name"),
    ("StartLogging", "Name"),
    ("StopLogging", "Name"),
    ("GetEventSelectors", "TrailName"),
    ("PutEventSelectors", "TrailName"),
    ("PutInsightSelectors", "TrailName"),
];

/// What each operation needs besides the name.
fn naming(operation: &str, member: &str, name: &Value) -> Value {
    let rest = match operation {
        "CreateTrail" => json!({"S3BucketName": "logs"}),
        "PutEventSelectors" => json!({"EventSelectors": [{}]}),
        "PutInsightSelectors" => json!({"InsightSelectors": []}),
        _ => json!({}),
    };
    with(rest, json!({ member: name }))
}

#[test]
fn bad_names_are_refused_everywhere_in_cloudtrails_words() {
    let short = "Trail name too short. Minimum allowed length: 3 characters. Specified name length:";
    let characters = "Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, periods (.), hyphens (-), and underscores (_).";
    let adjacent = "Trail name can't have adjacent periods, hyphens or underscores:";
    let long = "a".repeat(129);
    for (name, message) in [
        ("", "Trail name cannot be blank!"),
        ("a", &format!("{short} 1 characters.")),
        ("ab", &format!("{short} 2 characters.")),
        (&long, "Trail name too long. Maximum allowed length: 128 characters. Specified name length: 129 characters."),
        ("-abc", "Trail name must starts with a letter or number."),
        (".abc", "Trail name must starts with a letter or number."),
        ("éabc", "Trail name must starts with a letter or number."),
        ("abc_", "Trail name must ends with a letter or number."),
        ("abc\n", "Trail name must ends with a letter or number."),
        ("a b c", characters),
        ("trail/abc", characters),
        ("aéc", characters),
        ("a\u{0}c", characters),
        ("a..b", &format!("{adjacent} a..b")),
        ("my-_namespace", adjacent),
        ("my--namespace", adjacent),
        ("192.168.5.4", "Trail name can't be an IP address: 192.168.5.4"),
    ] {
        for (operation, member) in NAMING {
            refused(operation, naming(operation, member, &json!(name)), "InvalidTrailNameException", message);
        }
        refused("GetInsightSelectors", json!({"TrailName": name}), "InvalidTrailNameException", message);
        refused("DescribeTrails", json!({"trailNameList": ["audit", name]}), "InvalidTrailNameException", message);
    }
    for (operation, member) in NAMING.into_iter().filter(|(operation, _)| *operation != "PutInsightSelectors") {
        refused(operation, naming(operation, member, &Value::Null), "InvalidTrailNameException", "Trail name cannot be blank!");
    }
    for name in ["abc", "a.b_c-d", "1a2", "1.2.3", "256.1.1.1", &"a".repeat(128)] {
        taken("CreateTrail", creating(json!({"Name": name})));
    }
}

#[test]
fn bad_arns_are_refused_where_arns_are_taken() {
    for arn in [
        "arn:",
        "arn:aws",
        "arn:aws:s3:::bucket",
        "arn:aws:cloudtrail:dc-tokyo-1:111122223333:audit",
        "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/",
        "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/ab",
        "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/a..b",
        "arn:aws:cloudtrail:dc-tokyo-1:111122223333:channel/audit",
        "arn:aws:cloudtrail:dc-tokyo-1:1:trail/audit",
        "arn:aws:cloudtrail:dc-tokyo-1:1111222233334:trail/audit",
        "arn:aws:cloudtrail::111122223333:trail/audit",
        "arn:aws:cloudtrail:DC:111122223333:trail/audit",
        "arn::cloudtrail:dc-tokyo-1:111122223333:trail/audit",
        "arn:AWS:cloudtrail:dc-tokyo-1:111122223333:trail/audit",
        "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/audit/x",
    ] {
        let message = format!("`{arn}` is not of the form arn:PARTITION:cloudtrail:REGION:ACCOUNT:trail/NAME");
        for (operation, member) in NAMING.into_iter().skip(1) {
            refused(operation, naming(operation, member, &json!(arn)), "CloudTrailARNInvalidException", &message);
        }
        refused("DescribeTrails", json!({"trailNameList": [arn]}), "CloudTrailARNInvalidException", &message);
        refused("CreateTrail", creating(json!({"Name": arn})), "InvalidTrailNameException", "Trail name");
    }
    refused("CreateTrail", creating(json!({"Name": ARN})), "InvalidTrailNameException", "Trail name or ARN can only contain");
}

#[test]
fn trails_that_are_not_there_and_those_of_others_are_told_in_one_way() {
    let others = ARN.replace("111122223333", "222233334444");
    let elsewhere = ARN.replace("dc-tokyo-1", "dc-osaka-1");
    for name in ["nobodys", others.as_str(), elsewhere.as_str(), &ARN.replace("audit", "nobodys"), &ARN.replace("aws", "aws-cn")]
    {
        for (operation, member) in NAMING.into_iter().skip(1) {
            let message = format!("Unknown trail: {name} for the user: 111122223333");
            refused(operation, naming(operation, member, &json!(name)), "TrailNotFoundException", &message);
        }
        assert_eq!(taken("DescribeTrails", json!({"trailNameList": [name]})), json!({"trailList": []}));
    }
    let exists = "Trail audit already exists for customer: 111122223333";
    refused("CreateTrail", creating(json!({"Name": "audit"})), "TrailAlreadyExistsException", exists);
}

#[test]
fn trails_are_changed_at_home_only() {
    let everywhere = created(json!({"IsMultiRegionTrail": true}));
    for operation in ["UpdateTrail", "DeleteTrail", "StartLogging", "StopLogging", "PutEventSelectors", "PutInsightSelectors"] {
        let member = if operation.starts_with("Put") { "TrailName" } else { "Name" };
        let message = format!("Trail {ARN} must be called from its home region: dc-tokyo-1");
        let input = naming(operation, member, &json!(ARN));
        refused_of(&everywhere, &away(), operation, input, "InvalidHomeRegionException", &message);
    }
    for operation in ["AddTags", "RemoveTags"] {
        let input = json!({"ResourceId": ARN, "TagsList": [{"Key": "a"}]});
        refused_of(&everywhere, &away(), operation, input, "ConflictException", "call the trail's home region dc-tokyo-1");
    }
    assert!(call("GetTrail", json!({"Name": ARN}), &everywhere, &away()).is_ok());
}

#[test]
fn members_of_a_wrong_type_are_no_input() {
    for input in [json!(null), json!([]), json!("x"), json!(7)] {
        for operation in OPERATIONS.into_iter().filter(|operation| *operation != "ListTrails") {
            refused(operation, input.clone(), "SerializationException", "the input is not valid: ");
        }
    }
    for (operation, input) in [
        ("CreateTrail", creating(json!({"Name": 7}))),
        ("CreateTrail", creating(json!({"S3BucketName": ["logs"]}))),
        ("CreateTrail", creating(json!({"IsMultiRegionTrail": "true"}))),
        ("CreateTrail", creating(json!({"TagsList": {}}))),
        ("CreateTrail", creating(json!({"TagsList": [["a", "b"]]}))),
        ("CreateTrail", creating(json!({"TagsList": [{"Key": 1}]}))),
        ("UpdateTrail", updating(json!({"EnableLogFileValidation": 1}))),
        ("UpdateTrail", updating(json!({"KmsKeyId": {}}))),
        ("GetTrail", json!({"Name": ["audit"]})),
        ("DescribeTrails", json!({"trailNameList": "audit"})),
        ("DescribeTrails", json!({"includeShadowTrails": "yes"})),
        ("PutEventSelectors", json!({"TrailName": "audit", "EventSelectors": {}})),
        ("PutEventSelectors", json!({"TrailName": "audit", "EventSelectors": [["All"]]})),
        ("PutEventSelectors", json!({"TrailName": "audit", "EventSelectors": [{"IncludeManagementEvents": "no"}]})),
        ("PutEventSelectors", json!({"TrailName": "audit", "EventSelectors": [{"DataResources": [["a", []]]}]})),
        ("PutEventSelectors", json!({"TrailName": "audit", "AdvancedEventSelectors": [{"FieldSelectors": [{"Equals": "x"}]}]})),
        ("PutInsightSelectors", json!({"TrailName": "audit", "InsightSelectors": ["ApiCallRateInsight"]})),
        ("PutInsightSelectors", json!({"TrailName": "audit", "InsightSelectors": [{"EventCategories": "Data"}]})),
        ("AddTags", json!({"ResourceId": ARN, "TagsList": ["a"]})),
        ("ListTags", json!({"ResourceIdList": ARN})),
    ] {
        refused(operation, input, "SerializationException", "the input is not valid: ");
    }
    // What the model does not know passes, but within selectors.
    taken("CreateTrail", creating(json!({"Colour": "blue", "TagsList": [{"Key": "a", "Colour": "blue"}]})));
}

#[test]
fn bad_buckets_are_refused() {
    for (bucket, rule) in [
        ("ab", "have 3 to 63 characters"),
        (&"a".repeat(64), "have 3 to 63 characters"),
        ("Logs", "hold only lower-case letters"),
        ("my_logs", "hold only lower-case letters"),
        ("logs/x", "hold only lower-case letters"),
        ("lögs", "hold only lower-case letters"),
        ("-logs", "begin and end with a letter or number"),
        ("logs.", "begin and end with a letter or number"),
        ("lo..gs", "have no two dots in a row"),
        ("192.168.5.4", "not be an IP address"),
        ("xn--logs", "not begin with what S3 keeps for itself"),
        ("sthree-logs", "not begin with what S3 keeps for itself"),
        ("logs-s3alias", "not end with what S3 keeps for itself"),
        ("logs--ol-s3", "not end with what S3 keeps for itself"),
        ("logs--x-s3", "not end with what S3 keeps for itself"),
    ] {
        let message = format!("`{bucket}` is not the name of a bucket: it must {rule}");
        refused("CreateTrail", creating(json!({"S3BucketName": bucket})), "InvalidS3BucketNameException", &message);
        refused("UpdateTrail", updating(json!({"S3BucketName": bucket})), "InvalidS3BucketNameException", &message);
    }
    let blank = "Bucket name cannot be blank!";
    for operation in ["CreateTrail", "UpdateTrail"] {
        let input = json!({"Name": if operation == "CreateTrail" { "another" } else { "audit" }, "S3BucketName": ""});
        refused(operation, input, "InvalidS3BucketNameException", blank);
    }
    refused("CreateTrail", json!({"Name": "another"}), "InvalidS3BucketNameException", blank);
    refused("CreateTrail", creating(json!({"S3BucketName": null})), "InvalidS3BucketNameException", blank);
    for bucket in ["abc", "my.logs-1", "0logs", &"a".repeat(63)] {
        assert_eq!(taken("CreateTrail", creating(json!({"S3BucketName": bucket})))["S3BucketName"], bucket);
    }
}

#[test]
fn bad_prefixes_are_refused() {
    for (prefix, rule) in [
        (&*"a".repeat(201), "have at most 200 characters"),
        ("/logs", "neither begin nor end with a slash"),
        ("logs/", "neither begin nor end with a slash"),
        ("/", "neither begin nor end with a slash"),
        ("a//b", "have no empty component"),
        ("a/./b", "have no empty component"),
        ("..", "have no empty component"),
        ("a/../../etc", "have no empty component"),
        ("a\nb", "hold no control characters"),
        ("a\u{7f}", "hold no control characters"),
        ("AWSLogs", "have no component `AWSLogs`"),
        ("a/AWSLogs/b", "have no component `AWSLogs`"),
    ] {
        let shown: String = prefix.replace(['\n', '\u{7f}'], "?").chars().take(200).collect();
        let message = format!("`{shown}");
        refused("CreateTrail", creating(json!({"S3KeyPrefix": prefix})), "InvalidS3PrefixException", &message);
        refused("UpdateTrail", updating(json!({"S3KeyPrefix": prefix})), "InvalidS3PrefixException", &message);
        let refusal = call("UpdateTrail", updating(json!({"S3KeyPrefix": prefix})), &trail(), &home()).unwrap_err();
        assert!(refusal.message.contains(rule), "{}", refusal.message);
    }
    for prefix in ["a", "a/b c/ü", "...", "awslogs", &"é".repeat(200)] {
        assert_eq!(taken("CreateTrail", creating(json!({"S3KeyPrefix": prefix})))["S3KeyPrefix"], prefix);
    }
}

#[test]
fn bad_topics_are_refused() {
    for topic in [
        "a b",
        "a.fifo",
        "tópico",
        "a/b",
        &"a".repeat(257),
        "arn:aws:sns:dc-tokyo-1:111122223333:",
        "arn:aws:sns:dc-tokyo-1:111122223333:a b",
        "arn:aws:sns:dc-tokyo-1:1:topic",
        "arn:aws:sns::111122223333:topic",
        "arn:aws:sqs:dc-tokyo-1:111122223333:topic",
        "arn:aws:sns:dc-tokyo-1:111122223333",
    ] {
        let shown: String = topic.chars().take(200).collect();
        let message = format!("`{shown}");
        refused("CreateTrail", creating(json!({"SnsTopicName": topic})), "InvalidSnsTopicNameException", &message);
        refused("UpdateTrail", updating(json!({"SnsTopicName": topic})), "InvalidSnsTopicNameException", &message);
    }
    let whole = "arn:aws:sns:dc-osaka-1:222233334444:files";
    for (topic, arn) in [("files", "arn:aws:sns:dc-tokyo-1:111122223333:files"), (whole, whole)] {
        let answer = taken("CreateTrail", creating(json!({"SnsTopicName": topic})));
        assert_eq!((&answer["SnsTopicName"], &answer["SnsTopicARN"]), (&json!(topic), &json!(arn)));
    }
}

#[test]
fn bad_keys_are_refused() {
    for key in [
        "x",
        "alias/",
        "alias/a b",
        "alias",
        "12345678-1234-1234-1234-12345678901",
        "12345678-1234-1234-1234-1234567890123",
        "1234567812341234123412345678901x",
        "12345678-1234-1234-1234-12345678901g",
        "mrk-1234",
        "mrk-1234567890123456789012345678901g",
        "arn:aws:kms:dc-tokyo-1:111122223333:key/x",
        "arn:aws:kms:dc-tokyo-1:111122223333:alias/",
        "arn:aws:kms:dc-tokyo-1:1:key/12345678-1234-1234-1234-123456789012",
        "arn:aws:s3:dc-tokyo-1:111122223333:key/12345678-1234-1234-1234-123456789012",
        &format!("alias/{}", "a".repeat(251)),
    ] {
        let shown: String = key.chars().take(200).collect();
        let message = format!("`{shown}");
        refused("CreateTrail", creating(json!({"KmsKeyId": key})), "InvalidKmsKeyIdException", &message);
        refused("UpdateTrail", updating(json!({"KmsKeyId": key})), "InvalidKmsKeyIdException", &message);
    }
    for key in [
        "12345678-1234-1234-1234-123456789012",
        "mrk-12345678901234567890123456789012",
        "alias/MyAliasName",
        "arn:aws:kms:us-east-2:123456789012:alias/MyAliasName",
        "arn:aws:kms:us-east-2:123456789012:key/12345678-1234-1234-1234-123456789012",
        "arn:aws:kms:us-east-2:123456789012:key/mrk-12345678901234567890123456789012",
    ] {
        assert_eq!(taken("CreateTrail", creating(json!({"KmsKeyId": key})))["KmsKeyId"], key);
    }
}

#[test]
fn bad_log_groups_are_refused() {
    let group = "arn:aws:logs:dc-tokyo-1:111122223333:log-group:Trail/audit#1:*";
    let role = "arn:aws:iam::111122223333:role/service-role/CloudTrail_Role";
    let both = |group: &str, role: &str| creating(json!({"CloudWatchLogsLogGroupArn": group, "CloudWatchLogsRoleArn": role}));
    let pair = "CloudWatchLogsLogGroupArn and CloudWatchLogsRoleArn go together";
    for input in [both(group, ""), both("", role), creating(json!({"CloudWatchLogsRoleArn": role}))] {
        refused("CreateTrail", input, "InvalidParameterCombinationException", pair);
    }
    refused("UpdateTrail", updating(json!({"CloudWatchLogsLogGroupArn": group})), "InvalidParameterCombinationException", pair);
    let logged = created(with(both(group, role), json!({"Name": "audit"})));
    for members in [json!({"CloudWatchLogsLogGroupArn": ""}), json!({"CloudWatchLogsRoleArn": ""})] {
        refused_of(&logged, &home(), "UpdateTrail", updating(members), "InvalidParameterCombinationException", pair);
    }
    for bad in [
        "audit",
        "arn:aws:logs:dc-tokyo-1:111122223333:log-group:audit",
        "arn:aws:logs:dc-tokyo-1:111122223333:log-group::*",
        "arn:aws:logs:dc-tokyo-1:111122223333:log-group:a b:*",
        "arn:aws:logs:dc-tokyo-1:111122223333:log-group:a:b:*",
        "arn:aws:logs::111122223333:log-group:audit:*",
        "arn:aws:logs:dc-tokyo-1:1:log-group:audit:*",
        "arn:aws:iam:dc-tokyo-1:111122223333:log-group:audit:*",
        &format!("arn:aws:logs:dc-tokyo-1:111122223333:log-group:{}:*", "a".repeat(513)),
    ] {
        let shown: String = bad.chars().take(200).collect();
        refused("CreateTrail", both(bad, role), "InvalidCloudWatchLogsLogGroupArnException", &format!("`{shown}"));
    }
    for bad in [
        "CloudTrail_Role",
        "arn:aws:iam::111122223333:user/alice",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam::111122223333:role/a b",
        "arn:aws:iam:dc-tokyo-1:111122223333:role/a",
        "arn:aws:iam::1:role/a",
        "arn:aws:sts::111122223333:role/a",
    ] {
        refused("CreateTrail", both(group, bad), "InvalidCloudWatchLogsRoleArnException", &format!("`{bad}` is not of the form"));
    }
    assert_eq!(logged.log_group.unwrap().name, "Trail/audit#1");
}

#[test]
fn regions_and_global_events_must_agree_in_the_result() {
    let message = "Multi-Region trail must include global service events.";
    let code = "InvalidParameterCombinationException";
    let both = json!({"IsMultiRegionTrail": true, "IncludeGlobalServiceEvents": false});
    refused("CreateTrail", creating(both.clone()), code, message);
    refused("UpdateTrail", updating(both), code, message);
    let without = created(json!({"IncludeGlobalServiceEvents": false}));
    refused_of(&without, &home(), "UpdateTrail", updating(json!({"IsMultiRegionTrail": true})), code, message);
    let everywhere = created(json!({"IsMultiRegionTrail": true}));
    refused_of(&everywhere, &home(), "UpdateTrail", updating(json!({"IncludeGlobalServiceEvents": false})), code, message);
    let both = json!({"IsMultiRegionTrail": false, "IncludeGlobalServiceEvents": false});
    assert!(call("UpdateTrail", updating(both), &everywhere, &home()).is_ok());
}

#[test]
fn an_organization_trail_is_the_management_accounts() {
    let wanted = json!({"IsOrganizationTrail": true});
    let (own, others) = (own_org(), others_org());
    let (management, member) = (Place { org: Some(&own), ..home() }, Place { org: Some(&others), ..home() });
    for (operation, input) in [("CreateTrail", creating(wanted.clone())), ("UpdateTrail", updating(wanted.clone()))] {
        refused(operation, input.clone(), "OrganizationsNotInUseException", "there is no organization");
        let message = "the account 111122223333 is not the organization's management account";
        refused_of(&trail(), &member, operation, input.clone(), "NotOrganizationMasterAccountException", message);
        assert_eq!(call(operation, input, &trail(), &management).unwrap()["IsOrganizationTrail"], true);
    }
    let of_org =
        edgetrail_cloudtrail::update(&trail(), edgetrail_cloudtrail::UpdateTrail::parse(updating(wanted)).unwrap(), &management)
            .unwrap();
    for operation in ["UpdateTrail", "DeleteTrail", "StartLogging", "StopLogging", "PutEventSelectors", "PutInsightSelectors"] {
        let name = if operation.starts_with("Put") { "TrailName" } else { "Name" };
        let input = naming(operation, name, &json!("audit"));
        refused_of(&of_org, &member, operation, input, "NotOrganizationMasterAccountException", "the account 111122223333");
    }
    for operation in ["AddTags", "RemoveTags"] {
        let input = json!({"ResourceId": ARN, "TagsList": [{"Key": "a"}]});
        refused_of(&of_org, &member, operation, input, "NotOrganizationMasterAccountException", "the account 111122223333");
    }
}

#[test]
fn bad_selectors_are_refused() {
    let management = json!({"Field": "eventCategory", "Equals": ["Management"]});
    let advanced = |conditions: Value| json!({"TrailName": "audit", "AdvancedEventSelectors": [{"FieldSelectors": conditions}]});
    let basic = |selector: Value| json!({"TrailName": "audit", "EventSelectors": [selector]});
    let neither = "Specify one of EventSelectors or AdvancedEventSelectors";
    for (input, message) in [
        (json!({"TrailName": "audit"}), neither),
        (json!({"TrailName": "audit", "EventSelectors": []}), neither),
        (json!({"TrailName": "audit", "EventSelectors": [], "AdvancedEventSelectors": []}), neither),
        (
            with(basic(json!({})), advanced(json!([management]))),
            "Specify either EventSelectors or AdvancedEventSelectors, not both",
        ),
        (basic(json!({"ReadWriteType": "read-only"})), "`read-only` is no ReadWriteType: give All, ReadOnly or WriteOnly"),
        (basic(json!({"ReadWriteType": ""})), "`` is no ReadWriteType"),
        (basic(json!({"ReadWriteTypes": "All"})), "`ReadWriteTypes` is no member of an event selector"),
        (basic(json!({"DataResources": [{"Type": "AWS::S3::Object", "Value": []}]})), "`Value` is no member of a data resource"),
        (basic(json!({"DataResources": [{"Type": "Host::File", "Values": ["arn:x"]}]})), "`Host::File` is no type"),
        (basic(json!({"DataResources": [{"Type": "AWS::S3::Object", "Values": ["logs"]}]})), "`logs` is no value"),
        (basic(json!({"ExcludeManagementEventSources": ["sudo.linux"]})), "the management events of `sudo.linux`"),
        (basic(json!({"IncludeManagementEvents": false})), "an event selector selects nothing"),
        (json!({"TrailName": "audit", "EventSelectors": [{}, {}, {}, {}, {}, {}]}), "6 event selectors are given"),
        (advanced(json!([])), "the selector `` needs eventCategory"),
        (json!({"TrailName": "audit", "AdvancedEventSelectors": [{"Name": "x"}]}), "the selector `x` needs eventCategory"),
        (advanced(json!([management, {"Field": "sourceIPAddress", "Equals": ["x"]}])), "`sourceIPAddress` is no field"),
        (advanced(json!([management, {"Equals": ["x"]}])), "`` is no field to select by"),
        (advanced(json!([management, {"Field": "eventName", "Equal": ["x"]}])), "`Equal` is no member of a field selector"),
        (advanced(json!([management, {"Field": "eventName", "Equals": [""]}])), "the selector `` gives `eventName` a value"),
        (advanced(json!([management, {"Field": "eventName"}])), "the selector `` gives `eventName` no operator"),
        (advanced(json!([management, {"Field": "readOnly", "NotEquals": ["true"]}])), "the selector `` gives `readOnly`"),
        (advanced(json!([management, management])), "the selector `` names `eventCategory` twice"),
        (advanced(json!([{"Field": "eventCategory", "Equals": ["Insight"]}])), "the selector `` needs eventCategory"),
        (
            json!({"TrailName": "audit", "AdvancedEventSelectors": [{"Names": "x", "FieldSelectors": [management]}]}),
            "`Names` is no member of an advanced event selector",
        ),
    ] {
        refused("PutEventSelectors", input, "InvalidEventSelectorsException", message);
    }
}

#[test]
fn bad_insight_selectors_are_refused() {
    let code = "InvalidInsightSelectorsException";
    let of = |selectors: Value| json!({"TrailName": "audit", "InsightSelectors": selectors});
    let one = |kind: &str, categories: Value| of(json!([{"InsightType": kind, "EventCategories": categories}]));
    for (input, message) in [
        (json!({"TrailName": "audit"}), "give InsightSelectors"),
        (of(json!([{"InsightType": "CallRate"}])), "`CallRate` is no InsightType"),
        (of(json!([{}])), "a selector has no InsightType"),
        (
            of(json!([{"InsightType": "ApiCallRateInsight"}, {"InsightType": "ApiCallRateInsight"}])),
            "ApiCallRateInsight is given twice",
        ),
        (one("ApiCallRateInsight", json!([])), "ApiCallRateInsight has no event category"),
        (one("ApiCallRateInsight", json!(["NetworkActivity"])), "`NetworkActivity` is no event category"),
        (one("ApiCallRateInsight", json!(["Data"])), "the trail logs no data events, which ApiCallRateInsight needs"),
        (one("ApiErrorRateInsight", json!(["Management", "Data"])), "the trail logs no data events"),
    ] {
        refused("PutInsightSelectors", input, code, message);
    }
    let reading = selecting(&trail(), json!({"EventSelectors": [{"ReadWriteType": "ReadOnly"}]}));
    let message = "the trail logs no write management events, which ApiCallRateInsight needs";
    refused_of(&reading, &home(), "PutInsightSelectors", of(json!([{"InsightType": "ApiCallRateInsight"}])), code, message);
    let errors = of(json!([{"InsightType": "ApiErrorRateInsight"}]));
    assert!(call("PutInsightSelectors", errors.clone(), &reading, &home()).is_ok());
    let data = json!([{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]);
    let data = selecting(&trail(), json!({"EventSelectors": [{"IncludeManagementEvents": false, "DataResources": data}]}));
    let message = "the trail logs no management events, which ApiErrorRateInsight needs";
    refused_of(&data, &home(), "PutInsightSelectors", errors, code, message);

    for operation in ["PutInsightSelectors", "GetInsightSelectors"] {
        let input = |members: Value| with(json!({"InsightSelectors": []}), members);
        for store in ["EventDataStore", "InsightsDestination"] {
            let both = input(json!({"TrailName": "audit", store: "store-1"}));
            refused(operation, both, "InvalidParameterCombinationException", "TrailName can't be given together with");
            refused(
                operation,
                input(json!({store: "store-1"})),
                "UnsupportedOperationException",
                "there are no event data stores",
            );
        }
        refused(operation, input(json!({})), "InvalidParameterException", "give TrailName");
    }
    let message = format!("Trail {ARN} does not have Insights enabled");
    refused("GetInsightSelectors", json!({"TrailName": "audit"}), "InsightNotEnabledException", &message);
}

#[test]
fn bad_tags_are_refused() {
    let tags = |count: usize| -> Value { (0..count).map(|i| json!({"Key": format!("k{i}")})).collect() };
    for (list, message) in [
        (json!(null), "give TagsList, with 1 to 200 tags"),
        (json!([]), "0 tags are given: give 1 to 200"),
        (tags(201), "201 tags are given: give 1 to 200"),
        (json!([{}]), "the key `` must have 1 to 128 characters"),
        (json!([{"Key": ""}]), "the key `` must have 1 to 128 characters"),
        (json!([{"Key": "k".repeat(129)}]), "the key `kkk"),
        (json!([{"Key": "k", "Value": "v".repeat(257)}]), "the value of `k` must have at most 256 characters"),
        (json!([{"Key": "k;"}]), "key and value of `k;` may hold"),
        (json!([{"Key": "k", "Value": "a\tb"}]), "key and value of `k` may hold"),
        (json!([{"Key": "k", "Value": "<script>"}]), "key and value of `k` may hold"),
        (json!([{"Key": "aws:k"}]), "the key `aws:k` must not begin with aws:"),
        (json!([{"Key": "AWS:k"}]), "the key `AWS:k` must not begin with aws:"),
        (json!([{"Key": "a"}, {"Key": "b"}, {"Key": "a", "Value": "2"}]), "the key `a` is given twice"),
    ] {
        for operation in ["AddTags", "RemoveTags"] {
            refused(operation, json!({"ResourceId": ARN, "TagsList": list}), "InvalidTagParameterException", message);
        }
        if list.as_array().is_some_and(|list| (1..=50).contains(&list.len())) {
            refused("CreateTrail", creating(json!({"TagsList": list})), "InvalidTagParameterException", message);
        }
    }
    let full = created(json!({"TagsList": tags(50)}));
    let add = |key: &str| json!({"ResourceId": ARN, "TagsList": [{"Key": key, "Value": "new"}]});
    let message = "the trail would have 51 tags: at most 50 are allowed";
    refused_of(&full, &home(), "AddTags", add("another"), "TagsLimitExceededException", message);
    refused("CreateTrail", creating(json!({"TagsList": tags(51)})), "TagsLimitExceededException", message);
    refused("AddTags", json!({"ResourceId": ARN, "TagsList": tags(51)}), "TagsLimitExceededException", message);
    assert!(call("AddTags", add("k7"), &full, &home()).is_ok(), "a new value needs no room");
    for good in [json!({"Key": "k".repeat(128), "Value": "v".repeat(256)}), json!({"Key": "Größe 1_.:/=+-@", "Value": ""})] {
        taken("AddTags", json!({"ResourceId": ARN, "TagsList": [good]}));
    }
}

#[test]
fn what_is_no_trail_has_no_tags() {
    let of = |kind: &str| format!("arn:aws:cloudtrail:dc-tokyo-1:111122223333:{kind}");
    let id = "EXAMPLE-f852-4e8f-8bd1-bcf6cEXAMPLE";
    for (id, code) in [
        (String::new(), "CloudTrailARNInvalidException"),
        ("audit".to_owned(), "CloudTrailARNInvalidException"),
        ("arn:aws:cloudtrail".to_owned(), "CloudTrailARNInvalidException"),
        (of("trail/a..b"), "CloudTrailARNInvalidException"),
        (of("trail/"), "CloudTrailARNInvalidException"),
        (of("eventdatastore/"), "EventDataStoreARNInvalidException"),
        (of("eventdatastore/a b"), "EventDataStoreARNInvalidException"),
        (of("channel"), "ChannelARNInvalidException"),
        (of("channel/a/b"), "ChannelARNInvalidException"),
        (of("dashboard/"), "CloudTrailARNInvalidException"),
        (of(&format!("eventdatastore/{id}")), "EventDataStoreNotFoundException"),
        (of(&format!("dashboard/{id}")), "ResourceNotFoundException"),
        (of("table/audit"), "ResourceTypeNotSupportedException"),
        ("arn:aws:s3:::logs".to_owned(), "ResourceTypeNotSupportedException"),
        (of("trail/nobodys"), "ResourceNotFoundException"),
        (ARN.replace("111122223333", "222233334444"), "ResourceNotFoundException"),
    ] {
        for operation in ["AddTags", "RemoveTags"] {
            refused(operation, json!({"ResourceId": id, "TagsList": [{"Key": "a"}]}), code, "");
        }
        refused("ListTags", json!({"ResourceIdList": [ARN, id]}), code, "");
    }
    let channel = of(&format!("channel/{id}"));
    refused("AddTags", json!({"ResourceId": channel, "TagsList": [{"Key": "a"}]}), "ChannelNotFoundException", "the channel");
    refused("ListTags", json!({"ResourceIdList": [channel]}), "ResourceNotFoundException", "the channel");
    refused("AddTags", json!({"TagsList": [{"Key": "a"}]}), "CloudTrailARNInvalidException", "`` is not");
}

#[test]
fn tags_are_listed_of_1_to_20_trails_of_the_region() {
    let constraint = "' at 'resourceIdList' failed to satisfy constraint: Member must have length between 1 and 20";
    for (input, shown) in [(json!({}), 0), (json!({"ResourceIdList": []}), 0), (json!({"ResourceIdList": vec![ARN; 21]}), 21)] {
        let message = format!("1 validation error detected: Value '{shown} ARNs{constraint}");
        refused("ListTags", input, "ValidationException", &message);
    }
    refused("ListTags", json!({"ResourceIdList": [ARN], "NextToken": "x"}), "InvalidTokenException", "`x` is not a token");
    let elsewhere = ARN.replace("dc-tokyo-1", "dc-osaka-1");
    refused("ListTags", json!({"ResourceIdList": [elsewhere]}), "ResourceNotFoundException", "the resource");
    let listed = taken("ListTags", json!({"ResourceIdList": vec![ARN; 20]}));
    assert_eq!(listed["ResourceTagList"].as_array().unwrap().len(), 20);
}

#[test]
fn refusals_of_state_are_their_operations() {
    use edgetrail_cloudtrail::{BucketName, Refusal};
    let (arn, bucket) = (trail().arn, BucketName::parse("logs").unwrap());
    let (account, region) = (arn.account, arn.region.clone());
    for (operations, refusal, message) in [
        (
            &["CreateTrail"][..],
            Refusal::too_many_trails(1000, &account, &region),
            "User: 111122223333 already has 1000 trails in dc-tokyo-1.",
        ),
        (
            &["DeleteTrail"],
            Refusal::described_in_configuration(&arn.name),
            "the trail audit is described in the configuration: remove [trail] there",
        ),
        (&["CreateTrail", "UpdateTrail"], Refusal::no_bucket(&bucket), "S3 bucket logs does not exist!"),
        (
            &["CreateTrail", "UpdateTrail"],
            Refusal::bucket_policy(&bucket),
            "Incorrect S3 bucket policy is detected for bucket: logs",
        ),
        (&["CreateTrail", "UpdateTrail"], Refusal::topic_policy(), "SNS Topic does not exist or the topic policy is incorrect!"),
        (
            &["CreateTrail", "UpdateTrail"],
            Refusal::directory_has_no_kms(&bucket),
            "KmsKeyId can't be used with the bucket logs: it is a directory, which has no KMS; encrypt the file system instead",
        ),
        (
            &["CreateTrail", "UpdateTrail", "DeleteTrail", "StartLogging", "StopLogging", "PutEventSelectors", "AddTags"],
            Refusal::busy(),
            "another call changes a trail of this account: try again",
        ),
    ] {
        assert_eq!(refusal.message, message);
        for operation in operations {
            assert!(model().operations[*operation].errors.iter().any(|error| error == refusal.code), "{operation} {refusal:?}");
        }
    }
}
