//! How a trail is shown: the answers of CreateTrail, UpdateTrail, GetTrail, DescribeTrails, ListTrails and ListTags.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::arn::TrailRef;
use crate::coverage::Coverage;
use crate::definition::TrailDefinition;
use crate::refusal::{Refusal, read};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeTrails {
    /// Those that are asked for, each once; empty is all.
    pub trails: Vec<TrailRef>,
    /// Whether trails at home elsewhere are shown.
    pub include_shadows: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    trail_name_list: Option<Vec<String>>,
    include_shadow_trails: Option<bool>,
}

impl DescribeTrails {
    pub fn parse(input: Value) -> Result<Self, Refusal> {
        let input: Input = read(input)?;
        let mut trails = Vec::new();
        for name in input.trail_name_list.unwrap_or_default() {
            let trail = TrailRef::parse(&name)?;
            if !trails.contains(&trail) {
                trails.push(trail);
            }
        }
        Ok(Self { trails, include_shadows: input.include_shadow_trails.unwrap_or(true) })
    }
}

impl TrailDefinition {
    /// CloudTrail's `Trail`. A text that is not set is absent.
    pub fn described(&self) -> Value {
        let mut members = self.settings();
        members.insert("HomeRegion".to_owned(), self.arn.region.as_str().into());
        members.insert("HasCustomEventSelectors".to_owned(), self.custom_selectors.into());
        members.insert("HasInsightSelectors".to_owned(), (!self.insights.is_empty()).into());
        Value::Object(members)
    }

    /// The answer of CreateTrail and UpdateTrail.
    pub fn confirmed(&self) -> Value {
        Value::Object(self.settings())
    }

    /// CloudTrail's `TrailInfo`.
    pub fn info(&self) -> Value {
        json!({ "TrailARN": self.arn, "Name": self.arn.name, "HomeRegion": self.arn.region })
    }

    fn settings(&self) -> Map<String, Value> {
        let flags = [
            ("IncludeGlobalServiceEvents", self.include_global),
            ("IsMultiRegionTrail", self.multi_region),
            ("LogFileValidationEnabled", self.validation),
            ("IsOrganizationTrail", matches!(self.coverage, Coverage::Organization { .. })),
            ("RecursiveLogging", self.recursive),
        ];
        let texts = [
            ("Name", Some(self.arn.name.as_str())),
            ("S3BucketName", Some(self.bucket.as_str())),
            ("S3KeyPrefix", self.prefix.as_ref().map(|prefix| prefix.as_str())),
            ("SnsTopicName", self.topic.as_ref().map(|topic| topic.name.as_str())),
            ("SnsTopicARN", self.topic.as_ref().map(|topic| topic.arn.as_str())),
            ("CloudWatchLogsLogGroupArn", self.log_group.as_ref().map(|group| group.group_arn.as_str())),
            ("CloudWatchLogsRoleArn", self.log_group.as_ref().map(|group| group.role_arn.as_str())),
            ("KmsKeyId", self.kms_key.as_deref()),
        ];
        let mut members: Map<String, Value> = flags.map(|(name, flag)| (name.to_owned(), flag.into())).into_iter().collect();
        members.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
        members.insert("TrailARN".to_owned(), self.arn.to_string().into());
        members
    }
}

/// One page of ListTrails; `next` is absent on the last.
pub fn listed<'a>(trails: impl IntoIterator<Item = &'a TrailDefinition>, next: Option<&str>) -> Value {
    let trails: Vec<Value> = trails.into_iter().map(TrailDefinition::info).collect();
    let mut answer = Map::from_iter([("Trails".to_owned(), trails.into())]);
    answer.extend(next.map(|token| ("NextToken".to_owned(), token.into())));
    Value::Object(answer)
}

/// The answer of ListTags: an entry for each trail, also where it has no tags. Clients take the first unasked.
pub fn tags_listed<'a>(trails: impl IntoIterator<Item = &'a TrailDefinition>) -> Value {
    let entry = |trail: &TrailDefinition| json!({ "ResourceId": trail.arn, "TagsList": trail.tags.listed() });
    json!({ "ResourceTagList": trails.into_iter().map(entry).collect::<Vec<_>>() })
}
