//! The 60 operations of CloudTrail's service model 2013-11-01, once: name, whether it reads, whether it is built here.
//!
//! An operation that is not built answers `UnsupportedOperationException`, which the model lists for each of them; a
//! name that is not in the model answers `UnknownOperationException`. Nothing answers 404 or hangs. A test compares the
//! table with botocore's own copy of the model.

use super::fault::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub name: &'static str,
    pub read_only: bool,
    /// Which members of its input name what it is on.
    pub on: On,
    pub built: Option<Built>,
}

/// What an operation is on, as policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// No single resource: `*`.
    Account,
    /// The trail that this member names, by name or ARN.
    Trail(&'static str),
    /// The resource that this member names by its ARN, or each of those in a list.
    Resource(&'static str),
}

/// What this collector answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    AddTags,
    DescribeTrails,
    GetEventSelectors,
    GetInsightSelectors,
    GetTrail,
    GetTrailStatus,
    ListPublicKeys,
    ListTags,
    ListTrails,
    LookupEvents,
    RemoveTags,
    StartLogging,
    StopLogging,
}

impl Operation {
    /// By the part of `X-Amz-Target` behind its last dot: clients differ in the prefix.
    pub(crate) fn of_target(target: &str) -> Result<&'static Self, Fault> {
        let name = target.rsplit('.').next().unwrap_or_default();
        OPERATIONS.iter().find(|operation| operation.name == name).ok_or_else(|| {
            let shown: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
            Fault::client("UnknownOperationException", format!("CloudTrail has no operation `{shown}`"))
        })
    }

    pub(crate) fn unsupported(&self) -> Fault {
        Fault::client("UnsupportedOperationException", format!("{} is not supported by this collector", self.name))
    }
}

const fn reads(name: &'static str) -> Operation {
    Operation { name, read_only: true, on: On::Account, built: None }
}

const fn writes(name: &'static str) -> Operation {
    Operation { name, read_only: false, on: On::Account, built: None }
}

impl Operation {
    const fn on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    const fn built(mut self, built: Built) -> Self {
        self.built = Some(built);
        self
    }
}

pub(crate) const OPERATIONS: [Operation; 60] = [
    writes("AddTags").on(On::Resource("ResourceId")).built(Built::AddTags),
    writes("CancelQuery"),
    writes("CreateChannel"),
    writes("CreateDashboard"),
    writes("CreateEventDataStore"),
    writes("CreateTrail").on(On::Trail("Name")),
    writes("DeleteChannel").on(On::Resource("Channel")),
    writes("DeleteDashboard").on(On::Resource("DashboardId")),
    writes("DeleteEventDataStore").on(On::Resource("EventDataStore")),
    writes("DeleteResourcePolicy").on(On::Resource("ResourceArn")),
    writes("DeleteTrail").on(On::Trail("Name")),
    writes("DeregisterOrganizationDelegatedAdmin"),
    reads("DescribeQuery"),
    reads("DescribeTrails").built(Built::DescribeTrails),
    writes("DisableFederation").on(On::Resource("EventDataStore")),
    writes("EnableFederation").on(On::Resource("EventDataStore")),
    writes("GenerateQuery"),
    reads("GetChannel").on(On::Resource("Channel")),
    reads("GetDashboard").on(On::Resource("DashboardId")),
    reads("GetEventConfiguration"),
    reads("GetEventDataStore").on(On::Resource("EventDataStore")),
    reads("GetEventSelectors").on(On::Trail("TrailName")).built(Built::GetEventSelectors),
    reads("GetImport"),
    reads("GetInsightSelectors").on(On::Trail("TrailName")).built(Built::GetInsightSelectors),
    reads("GetQueryResults"),
    reads("GetResourcePolicy").on(On::Resource("ResourceArn")),
    reads("GetTrail").on(On::Trail("Name")).built(Built::GetTrail),
    reads("GetTrailStatus").on(On::Trail("Name")).built(Built::GetTrailStatus),
    reads("ListChannels"),
    reads("ListDashboards"),
    reads("ListEventDataStores"),
    reads("ListImportFailures"),
    reads("ListImports"),
    reads("ListInsightsData").on(On::Resource("InsightSource")),
    reads("ListInsightsMetricData"),
    reads("ListPublicKeys").built(Built::ListPublicKeys),
    reads("ListQueries"),
    reads("ListTags").on(On::Resource("ResourceIdList")).built(Built::ListTags),
    reads("ListTrails").built(Built::ListTrails),
    reads("LookupEvents").built(Built::LookupEvents),
    writes("PutEventConfiguration"),
    writes("PutEventSelectors").on(On::Trail("TrailName")),
    writes("PutInsightSelectors").on(On::Trail("TrailName")),
    writes("PutResourcePolicy").on(On::Resource("ResourceArn")),
    writes("RegisterOrganizationDelegatedAdmin"),
    writes("RemoveTags").on(On::Resource("ResourceId")).built(Built::RemoveTags),
    writes("RestoreEventDataStore").on(On::Resource("EventDataStore")),
    reads("SearchSampleQueries"),
    writes("StartDashboardRefresh").on(On::Resource("DashboardId")),
    writes("StartEventDataStoreIngestion").on(On::Resource("EventDataStore")),
    writes("StartImport"),
    writes("StartLogging").on(On::Trail("Name")).built(Built::StartLogging),
    writes("StartQuery"),
    writes("StopEventDataStoreIngestion").on(On::Resource("EventDataStore")),
    writes("StopImport"),
    writes("StopLogging").on(On::Trail("Name")).built(Built::StopLogging),
    writes("UpdateChannel").on(On::Resource("Channel")),
    writes("UpdateDashboard").on(On::Resource("DashboardId")),
    writes("UpdateEventDataStore").on(On::Resource("EventDataStore")),
    writes("UpdateTrail").on(On::Trail("Name")),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and error lists as botocore's copy of the service model has them.
    const MODEL: &str = r#"
import gzip, json, os, botocore
path = os.path.join(os.path.dirname(botocore.__file__), "data/cloudtrail/2013-11-01/service-2.json.gz")
for name, operation in json.load(gzip.open(path))["operations"].items():
    print(name, *[error["shape"] for error in operation.get("errors", [])])
"#;

    /// The page's table, a line an operation.
    fn page() -> String {
        let line = |operation: &Operation| {
            let on = match operation.on {
                On::Account => "`*`".to_owned(),
                On::Trail(member) => format!("the trail in `{member}`"),
                On::Resource(member) => format!("what `{member}` names"),
            };
            let kind = if operation.read_only { "reads" } else { "writes" };
            let answer = if operation.built.is_some() { "**answered**" } else { "`UnsupportedOperationException`" };
            format!("| {} | {kind} | {on} | {answer} |\n", operation.name)
        };
        OPERATIONS.iter().map(line).collect()
    }

    /// `boto3_works_on_it_unchanged` calls each of them.
    #[test]
    fn the_page_tells_of_every_operation() {
        let page_text = include_str!("../../../docs/api.md");
        let (begin, end) = ("<!-- generated from here -->\n", "<!-- to here -->");
        let table = page_text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table);
        let table = table.unwrap_or_default().splitn(3, '\n').nth(2).unwrap_or_default();
        assert_eq!(table, page(), "docs/api.md: put this table there:\n{}", page());
    }

    #[test]
    fn the_table_is_the_service_model() {
        if std::env::var_os("EDGETRAIL_SKIP_AWSCLI").is_some() {
            eprintln!("SKIPPED by EDGETRAIL_SKIP_AWSCLI: the operation table is not compared with botocore's model");
            return;
        }
        let output = std::process::Command::new("python3").args(["-c", MODEL]).output().expect("python3 with botocore");
        let model = String::from_utf8(output.stdout).unwrap();
        let mut names = Vec::new();
        for line in model.lines() {
            let (name, errors) = line.split_once(' ').unwrap();
            assert!(errors.contains("UnsupportedOperationException"), "{name}: another modelled error must be chosen");
            names.push(name);
        }
        names.sort_unstable();
        assert_eq!(names, OPERATIONS.map(|operation| operation.name));
    }

    #[test]
    fn any_prefix_names_the_operation() {
        for target in
            ["com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.GetTrail", "CloudTrail_20131101.GetTrail", "GetTrail"]
        {
            assert_eq!(Operation::of_target(target).unwrap().built, Some(Built::GetTrail));
        }
        for target in ["", ".", "CloudTrail_20131101.", "CloudTrail_20131101.Getrail", "GetTrail.x"] {
            assert_eq!(Operation::of_target(target).unwrap_err().code, "UnknownOperationException");
        }
    }
}
