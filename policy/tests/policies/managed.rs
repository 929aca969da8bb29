//! Each managed policy against each operation of CloudTrail, for the own account and a foreign one.

use edgetrail_policy::{Context, Managed, Request, decide};

const OWN: &str = "111122223333";
const FOREIGN: &str = "444455556666";

/// The collector's table of operations: names and whether they read.
fn operations() -> Vec<(String, bool)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../collector/src/api/operations.rs");
    let table = std::fs::read_to_string(path).expect("the collector's table of operations");
    let mut operations = Vec::new();
    for line in table.lines().map(str::trim) {
        for (call, reads) in [("reads(\"", true), ("writes(\"", false)] {
            if let Some((name, _)) = line.strip_prefix(call).and_then(|rest| rest.split_once('"')) {
                operations.push((name.to_owned(), reads));
            }
        }
    }
    assert_eq!(operations.len(), 60, "CloudTrail's model has 60 operations");
    operations
}

fn context(resource_account: &str) -> Context {
    let mut context = Context::default();
    context.set("aws:PrincipalAccount", [OWN]);
    context.set("aws:ResourceAccount", [resource_account]);
    context
}

fn may(managed: Managed, action: &str, resource: &str, context: &Context) -> bool {
    decide([managed.policy()], None, &Request { action, resource, context }).is_allowed()
}

/// Everything that could be asked: CloudTrail's operations and those of the services beside it.
fn actions() -> Vec<String> {
    let beside = [
        "s3:GetObject",
        "s3:ListBucket",
        "s3:GetBucketLocation",
        "s3:ListAllMyBuckets",
        "s3:PutObject",
        "s3:DeleteObject",
        "sts:GetCallerIdentity",
        "sts:AssumeRole",
        "organizations:DescribeOrganization",
        "organizations:DescribeAccount",
        "organizations:ListAccounts",
        "organizations:CreateAccount",
        "organizations:RegisterDelegatedAdministrator",
    ];
    operations().into_iter().map(|(name, _)| format!("cloudtrail:{name}")).chain(beside.map(str::to_owned)).collect()
}

#[test]
fn no_managed_policy_allows_anything_in_a_foreign_account() {
    for managed in Managed::ALL {
        for action in actions() {
            for resource in [
                "*",
                "arn:aws:cloudtrail:r:444455556666:trail/x",
                "arn:aws:cloudtrail:r:111122223333:trail/x",
                "arn:aws:s3:::logs/x",
            ] {
                assert!(!may(managed, &action, resource, &context(FOREIGN)), "{managed:?} {action} {resource}");
            }
        }
    }
}

#[test]
fn no_managed_policy_allows_anything_where_an_account_is_not_known() {
    let (mut neither, mut both_empty) = (Context::default(), Context::default());
    neither.set("aws:username", ["alice"]);
    both_empty.set("aws:PrincipalAccount", [""]);
    both_empty.set("aws:ResourceAccount", [""]);
    let (mut no_resource, mut no_principal) = (Context::default(), Context::default());
    no_resource.set("aws:PrincipalAccount", [OWN]);
    no_principal.set("aws:ResourceAccount", [OWN]);
    let mut several = context(OWN);
    several.set("aws:PrincipalAccount", [OWN, FOREIGN]);
    for managed in Managed::ALL {
        for action in actions() {
            for context in [&neither, &both_empty, &no_resource, &no_principal, &several] {
                assert!(!may(managed, &action, "*", context), "{managed:?} {action} {context:?}");
            }
        }
    }
}

/// Each operation of the model is in this table or refused to all but administrators: a new one is noticed here.
#[test]
fn each_managed_policy_allows_in_the_own_account_what_it_is_for() {
    let viewer = [
        "DescribeTrails",
        "GetChannel",
        "GetDashboard",
        "GetEventConfiguration",
        "GetEventDataStore",
        "GetEventSelectors",
        "GetImport",
        "GetInsightSelectors",
        "GetResourcePolicy",
        "GetTrail",
        "GetTrailStatus",
        "ListChannels",
        "ListDashboards",
        "ListEventDataStores",
        "ListImportFailures",
        "ListImports",
        "ListTags",
        "ListTrails",
    ];
    let investigator = [
        "CancelQuery",
        "DescribeQuery",
        "GenerateQuery",
        "GetQueryResults",
        "ListInsightsData",
        "ListInsightsMetricData",
        "ListQueries",
        "LookupEvents",
        "SearchSampleQueries",
        "StartQuery",
    ];
    for (name, reads) in operations() {
        let least = if viewer.contains(&name.as_str()) {
            Managed::Viewer
        } else if investigator.contains(&name.as_str()) {
            Managed::Investigator
        } else if name == "ListPublicKeys" {
            Managed::Auditor
        } else {
            Managed::Administrator
        };
        assert!(!reads || least != Managed::Administrator, "{name} reads, and only administrators may");
        for managed in Managed::ALL {
            let allowed = may(managed, &format!("cloudtrail:{name}"), "*", &context(OWN));
            assert_eq!(allowed, managed >= least, "{managed:?} {name}");
        }
    }
}

#[test]
fn log_files_are_for_auditors_and_nobody_but_administrators_writes() {
    for (action, least) in [
        ("sts:GetCallerIdentity", Managed::Viewer),
        ("organizations:DescribeOrganization", Managed::Viewer),
        ("s3:GetObject", Managed::Auditor),
        ("s3:ListBucket", Managed::Auditor),
        ("s3:GetBucketLocation", Managed::Auditor),
        ("organizations:ListAccounts", Managed::Auditor),
        ("s3:PutObject", Managed::Administrator),
        ("s3:DeleteObject", Managed::Administrator),
        ("sts:AssumeRole", Managed::Administrator),
        ("organizations:CreateAccount", Managed::Administrator),
    ] {
        for managed in Managed::ALL {
            assert_eq!(may(managed, action, "arn:aws:s3:::logs/x", &context(OWN)), managed >= least, "{managed:?} {action}");
        }
    }
}
