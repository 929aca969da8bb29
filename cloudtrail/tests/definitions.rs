//! A definition is one value under one hash; what changes of it cut and ask; which records it takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod call;

use std::time::Duration;

use call::{ACCOUNT, ARN, OTHER_ACCOUNT, created, home, own_org, selecting, trail, updated, with};
use edgetrail_cloudtrail::{
    BucketName, Cadence, Check, Coverage, Cut, FileRetention, KmsKey, Place, Prefix, PutInsights, TagChange, TrailDefinition,
    UpdateTrail, add_tags, cut, outside_checks, put_insights, update,
};
use edgetrail_proto::facets::{Category, Facets};
use proptest::prelude::*;
use serde_json::{Value, json};

const GROUP: &str = "arn:aws:logs:dc-tokyo-1:111122223333:log-group:audit:*";
const ROLE: &str = "arn:aws:iam::111122223333:role/CloudTrail_Role";
const KEY: &str = "arn:aws:kms:dc-tokyo-1:111122223333:key/12345678-1234-1234-1234-123456789012";

/// Members of CreateTrail in every combination, each with two values that are allowed beside all others.
fn members() -> impl Strategy<Value = Value> {
    let choices = [
        json!({"S3KeyPrefix": "a/b"}),
        json!({"SnsTopicName": "files"}),
        json!({"KmsKeyId": "alias/logs"}),
        json!({"IsMultiRegionTrail": true}),
        json!({"EnableLogFileValidation": true}),
        json!({"CloudWatchLogsLogGroupArn": GROUP, "CloudWatchLogsRoleArn": ROLE}),
        json!({"RecursiveLogging": false}),
        json!({"TagsList": [{"Key": "a", "Value": "1"}, {"Key": "b"}]}),
        json!({"S3BucketName": "other-logs"}),
    ];
    proptest::sample::subsequence(choices.to_vec(), 0..=choices.len()).prop_map(|chosen| chosen.into_iter().fold(json!({}), with))
}

fn definitions() -> impl Strategy<Value = TrailDefinition> {
    (members(), any::<bool>(), any::<bool>(), 0_u64..u64::MAX).prop_map(|(members, selects, insights, created_ns)| {
        let mut trail = created(members);
        if selects {
            let conditions = json!([{"Field": "eventCategory", "Equals": ["Management"]}]);
            trail = selecting(&trail, json!({"AdvancedEventSelectors": [{"Name": "n", "FieldSelectors": conditions}]}));
        }
        if insights {
            trail = insightful(&trail);
        }
        TrailDefinition { created_ns, ..trail }
    })
}

fn insightful(old: &TrailDefinition) -> TrailDefinition {
    let input = json!({"TrailName": "audit", "InsightSelectors": [{"InsightType": "ApiCallRateInsight"}]});
    put_insights(old, PutInsights::parse(input).unwrap(), &home()).unwrap()
}

proptest! {
    #[test]
    fn an_update_that_says_nothing_changes_nothing(old in definitions()) {
        let new = updated(&old, json!({}));
        prop_assert_eq!(cut(&old, &new), Cut::None);
        prop_assert_eq!(outside_checks(Some(&old), &new), vec![]);
        prop_assert_eq!(new, old);
    }

    #[test]
    fn an_update_with_what_is_there_changes_nothing(members in members()) {
        let old = created(members.clone());
        prop_assert_eq!(updated(&old, members), old);
    }

    #[test]
    fn an_update_makes_the_trail_that_would_have_been_created(members in members()) {
        let made = created(members.clone());
        prop_assert_eq!(updated(&TrailDefinition { tags: made.tags.clone(), ..trail() }, members), made);
    }

    #[test]
    fn a_definition_is_its_json_and_its_hash(one in definitions(), other in definitions()) {
        let read: TrailDefinition = serde_json::from_str(&one.json()).unwrap();
        prop_assert_eq!(read.json(), one.json());
        prop_assert_eq!(read.hash(), one.hash());
        prop_assert_eq!(&read, &one);
        prop_assert_eq!(one.hash() == other.hash(), one == other);
    }

    #[test]
    fn no_input_panics(operation in "[A-Za-z]{8,16}", text in ".{0,80}", list in prop::collection::vec(".{0,40}", 0..4)) {
        let trail = trail();
        for operation in call::OPERATIONS.into_iter().chain([operation.as_str()]).filter(|name| call::OPERATIONS.contains(name)) {
            for name in ["audit", ARN, text.as_str()] {
                let input = json!({
                    "Name": name, "TrailName": name, "ResourceId": name, "S3BucketName": text, "S3KeyPrefix": text,
                    "SnsTopicName": text, "KmsKeyId": text, "CloudWatchLogsLogGroupArn": text, "CloudWatchLogsRoleArn": text,
                    "TagsList": list.iter().map(|key| json!({"Key": key, "Value": text})).collect::<Vec<_>>(),
                    "ResourceIdList": list, "trailNameList": list,
                    "EventSelectors": [{"DataResources": [{"Type": text, "Values": list}]}],
                    "InsightSelectors": [{"InsightType": text, "EventCategories": list}],
                });
                let answer = call::call(operation, input, &trail, &home());
                prop_assert!(answer.is_ok() || answer.is_err_and(|refusal| refusal.message.len() < 4000));
            }
        }
    }
}

#[test]
fn the_hash_stays_what_it_was() {
    // Stored beside versions: a change here orphans what collectors have stored.
    assert_eq!(trail().json(), JSON);
    assert_eq!(hex::encode(trail().hash()), HASH);
}

const JSON: &str = concat!(
    r#"{"arn":"arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/audit","created_ns":1777000000000000001,"#,
    r#""bucket":"logs","prefix":null,"kms_key":null,"coverage":"Account","multi_region":false,"include_global":true,"#,
    r#""recursive":true,"validation":false,"topic":null,"log_group":null,"#,
    r#""selectors":{"EventSelectors":[{"ReadWriteType":"All","IncludeManagementEvents":true,"DataResources":[],"#,
    r#""ExcludeManagementEventSources":[]}]},"custom_selectors":false,"insights":[],"tags":{},"#,
    r#""cadence":{"log_interval":{"secs":300,"nanos":0},"log_bytes":15728640,"digest_interval":{"secs":3600,"#,
    r#""nanos":0}},"retention":null}"#,
);
const HASH: &str = "9d90fdbb0856758014c967dc34ef5543e03c4775b50e79e3e89a57c92188b180";

#[test]
fn each_change_cuts_what_it_must_and_no_more() {
    let base = trail();
    let with = |members: Value| updated(&trail(), members);
    let edited = |edit: fn(&mut TrailDefinition)| {
        let mut new = trail();
        edit(&mut new);
        new
    };
    let tagged = TagChange::parse(json!({"ResourceId": ARN, "TagsList": [{"Key": "a"}]})).unwrap();
    for (what, new, expected) in [
        ("nothing", trail(), Cut::None),
        ("tags", add_tags(&base, tagged, &home()).unwrap(), Cut::None),
        ("insights", insightful(&base), Cut::None),
        ("retention", edited(|new| new.retention = Some(FileRetention { age: None, bytes: Some(1) })), Cut::None),
        ("the same prefix", with(json!({"S3KeyPrefix": ""})), Cut::None),
        ("selectors", selecting(&base, json!({"EventSelectors": [{"ReadWriteType": "ReadOnly"}]})), Cut::Files),
        ("the default selectors, set", selecting(&base, json!({"EventSelectors": [{}]})), Cut::Files),
        ("global events", with(json!({"IncludeGlobalServiceEvents": false})), Cut::Files),
        ("recursive logging", with(json!({"RecursiveLogging": false})), Cut::Files),
        ("a topic", with(json!({"SnsTopicName": "files"})), Cut::Files),
        ("a log group", with(json!({"CloudWatchLogsLogGroupArn": GROUP, "CloudWatchLogsRoleArn": ROLE})), Cut::Files),
        ("log files' age", edited(|new| new.cadence.log_interval = Duration::from_secs(1)), Cut::Files),
        ("log files' size", edited(|new| new.cadence.log_bytes = 1), Cut::Files),
        ("the digests' cadence", edited(|new| new.cadence.digest_interval = Duration::from_secs(60)), Cut::Files),
        ("the bucket", with(json!({"S3BucketName": "other-logs"})), Cut::Window),
        ("the prefix", with(json!({"S3KeyPrefix": "a"})), Cut::Window),
        ("the key", with(json!({"KmsKeyId": KEY})), Cut::Window),
        ("regions", with(json!({"IsMultiRegionTrail": true})), Cut::Window),
        ("validation", with(json!({"EnableLogFileValidation": true})), Cut::Window),
        ("an organization", in_org(json!({"IsOrganizationTrail": true})), Cut::Window),
        ("every account", edited(|new| new.coverage = Coverage::Everything), Cut::Window),
        ("another life under the name", edited(|new| new.created_ns += 1), Cut::Window),
        ("a topic and the bucket", with(json!({"SnsTopicName": "files", "S3BucketName": "other-logs"})), Cut::Window),
    ] {
        assert_eq!(cut(&base, &new), expected, "{what}");
        assert_eq!(cut(&new, &base), expected, "{what}, taken back");
    }
    assert!(Cut::None < Cut::Files && Cut::Files < Cut::Window, "several changes cut as the greatest");
}

fn in_org(members: Value) -> TrailDefinition {
    let org = own_org();
    let request = UpdateTrail::parse(with(json!({"Name": "audit"}), members)).unwrap();
    update(&trail(), request, &Place { org: Some(&org), ..home() }).unwrap()
}

#[test]
fn only_what_changed_is_asked_for_outside() {
    let group = json!({"CloudWatchLogsLogGroupArn": GROUP, "CloudWatchLogsRoleArn": ROLE});
    let full = created(with(json!({"SnsTopicName": "files", "KmsKeyId": "alias/logs", "S3KeyPrefix": "a"}), group));
    let bucket = |bucket: &str, prefix: Option<&str>| Check::Bucket {
        bucket: BucketName::parse(bucket).unwrap(),
        prefix: prefix.and_then(|prefix| Prefix::parse(prefix).unwrap()),
    };
    let key =
        |key: &str, bucket: &str| Check::Kms { key: KmsKey::parse(key).unwrap(), bucket: BucketName::parse(bucket).unwrap() };
    let log_group = Check::LogGroup(full.log_group.clone().unwrap());
    let topic = Check::Topic(full.topic.clone().unwrap());
    let all = vec![log_group.clone(), key("alias/logs", "logs"), bucket("logs", Some("a")), topic.clone()];
    assert_eq!(outside_checks(None, &full), all);
    assert_eq!(outside_checks(None, &trail()), vec![bucket("logs", None)]);
    for (old, members, checks) in [
        (&full, json!({"S3BucketName": "logs"}), vec![]),
        (&full, json!({"S3BucketName": "other-logs"}), vec![key("alias/logs", "other-logs"), bucket("other-logs", Some("a"))]),
        (&full, json!({"S3KeyPrefix": "b"}), vec![bucket("logs", Some("b"))]),
        (&full, json!({"KmsKeyId": KEY}), vec![key(KEY, "logs")]),
        (&full, json!({"KmsKeyId": "", "SnsTopicName": ""}), vec![]),
        (&full, json!({"IsMultiRegionTrail": true, "EnableLogFileValidation": true}), vec![]),
        (&trail(), json!({"SnsTopicName": "files"}), vec![topic]),
        (&trail(), json!({"CloudWatchLogsLogGroupArn": GROUP, "CloudWatchLogsRoleArn": ROLE}), vec![log_group]),
    ] {
        assert_eq!(outside_checks(Some(old), &updated(old, members.clone())), checks, "{members}");
    }
    let of_org = in_org(json!({"IsOrganizationTrail": true}));
    assert_eq!(outside_checks(Some(&trail()), &of_org), vec![bucket("logs", None)], "objects lie in another folder");
}

#[test]
fn a_trail_takes_the_records_of_its_accounts_and_regions() {
    let record = |account: &str, region: &str| Facets {
        account: account.to_owned(),
        region: region.to_owned(),
        source: "sudo.linux".to_owned(),
        ..Facets::default()
    };
    let everywhere = created(json!({"IsMultiRegionTrail": true}));
    let of_org = TrailDefinition { coverage: Coverage::Organization { id: "o-abcdefghij".to_owned() }, ..everywhere.clone() };
    let of_all = TrailDefinition { coverage: Coverage::Everything, ..everywhere.clone() };
    let org = |account: &str| account == OTHER_ACCOUNT;
    for (trail, account, region, taken) in [
        (&trail(), ACCOUNT, "dc-tokyo-1", true),
        (&trail(), ACCOUNT, "dc-osaka-1", false),
        (&trail(), OTHER_ACCOUNT, "dc-tokyo-1", false),
        (&everywhere, ACCOUNT, "dc-osaka-1", true),
        (&everywhere, OTHER_ACCOUNT, "dc-osaka-1", false),
        (&of_org, OTHER_ACCOUNT, "dc-osaka-1", true),
        (&of_org, "333344445555", "dc-osaka-1", false),
        (&of_all, "333344445555", "dc-osaka-1", true),
    ] {
        assert_eq!(trail.selects(&record(account, region), &org), taken, "{:?} {account} {region}", trail.coverage);
        let gap = Facets { source: "agent.edgetrail".into(), name: "ReportGap".into(), ..record(account, region) };
        let none = selecting(trail, json!({"EventSelectors": [{"ReadWriteType": "ReadOnly"}]}));
        let gap = Facets { read_only: Some(false), ..gap };
        assert_eq!(none.selects(&gap, &org), taken, "a gap, whatever is selected, but within reach");
    }
}

#[test]
fn global_events_and_those_of_delivery_can_be_left_out() {
    let at = |source: &str, region: &str| Facets {
        account: ACCOUNT.to_owned(),
        region: region.to_owned(),
        source: source.to_owned(),
        ..Facets::default()
    };
    let without = TrailDefinition { include_global: false, multi_region: true, ..trail() };
    for (source, region, category, taken) in [
        ("iam.amazonaws.com", "us-east-1", Category::Management, false),
        ("sts.amazonaws.com", "us-east-1", Category::Management, false),
        ("sts.amazonaws.com", "eu-west-1", Category::Management, true),
        ("ec2.amazonaws.com", "us-east-1", Category::Management, true),
        ("sudo.linux", "dc-tokyo-1", Category::Management, true),
    ] {
        let facets = Facets { category, ..at(source, region) };
        assert_eq!(without.selects(&facets, &|_| false), taken, "{source} {region}");
        assert!(TrailDefinition { include_global: true, ..without.clone() }.selects(&facets, &|_| false));
    }
    let quiet = TrailDefinition { recursive: false, ..trail() };
    let by = |service: &str| Facets { invoked_by: Some(service.to_owned()), ..at("s3.amazonaws.com", "dc-tokyo-1") };
    for (service, taken) in [("cloudtrail.amazonaws.com", false), ("cron.linux", true)] {
        assert_eq!(quiet.selects(&by(service), &|_| false), taken, "{service}");
        assert!(trail().selects(&by(service), &|_| false));
    }
}

#[test]
fn the_configured_trail_takes_all_but_insights_until_selectors_are_set() {
    let seed = TrailDefinition { coverage: Coverage::Everything, ..trail() };
    let of = |category| Facets { category, region: "dc-tokyo-1".to_owned(), ..Facets::default() };
    let set = selecting(&seed, json!({"EventSelectors": [{}]}));
    for (category, before, after) in [
        (Category::Management, true, true),
        (Category::Data, true, false),
        (Category::NetworkActivity, true, false),
        (Category::Other("ActivityAuditLog".to_owned()), true, false),
        (Category::Insight, false, false),
    ] {
        let taken = |trail: &TrailDefinition| trail.selects(&of(category.clone()), &|_| false);
        assert_eq!((taken(&seed), taken(&set)), (before, after), "{category}");
    }
    assert!(!trail().selects(&Facets { account: ACCOUNT.to_owned(), ..of(Category::Data) }, &|_| false));
}

#[test]
fn paths_hold_the_prefix_and_the_organization() {
    let paths = in_org(json!({"IsOrganizationTrail": true, "S3KeyPrefix": "a/b"})).paths();
    assert_eq!((paths.prefix.as_deref(), paths.org.as_deref()), (Some("a/b"), Some("o-abcdefghij")));
    assert_eq!(trail().paths(), edgetrail_proto::keys::TrailPaths::default());
}

#[test]
fn an_update_keeps_the_configured_trails_coverage() {
    let seed = TrailDefinition { coverage: Coverage::Everything, ..trail() };
    assert_eq!(updated(&seed, json!({"IsOrganizationTrail": false})), seed);
    assert_eq!(seed.described()["IsOrganizationTrail"], false);
    assert_eq!(seed.cadence, Cadence::default());
}

#[test]
fn what_is_stored_and_broken_is_no_definition() {
    let text = trail().json();
    for (from, to) in [
        ("\"logs\"", "\"Logs\""),
        (ARN, "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/a"),
        ("\"prefix\":null", "\"prefix\":\"\""),
        ("\"log_group\":null", "\"log_group\":{\"group_arn\":\"x\",\"role_arn\":\"y\"}"),
        ("\"coverage\":\"Account\"", "\"coverage\":\"Accounts\""),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(serde_json::from_str::<TrailDefinition>(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}
