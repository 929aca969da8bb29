//! CreateTrail.

use edgetrail_proto::selector::Selectors;
use serde::Deserialize;
use serde_json::Value;

use crate::arn::TrailArn;
use crate::bucket::BucketName;
use crate::coverage::Coverage;
use crate::definition::{Cadence, Place, TrailDefinition};
use crate::kms_key::KmsKey;
use crate::log_group::LogGroup;
use crate::name::TrailName;
use crate::prefix::Prefix;
use crate::refusal::{Refusal, read};
use crate::tags::{Tag, Tags};
use crate::topic::Topic;

/// A request whose members have the right types and whose name is good. [`create`] judges the rest, after whoever keeps
/// the trails has seen that the name is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTrail {
    pub name: TrailName,
    settings: Settings,
    tags: Vec<Tag>,
}

/// The members that CreateTrail and UpdateTrail share, as they are sent. `None` is an absent one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Settings {
    #[serde(rename = "S3BucketName")]
    pub(crate) bucket: Option<String>,
    #[serde(rename = "S3KeyPrefix")]
    pub(crate) prefix: Option<String>,
    #[serde(rename = "SnsTopicName")]
    pub(crate) topic: Option<String>,
    pub(crate) include_global_service_events: Option<bool>,
    pub(crate) is_multi_region_trail: Option<bool>,
    pub(crate) enable_log_file_validation: Option<bool>,
    pub(crate) cloud_watch_logs_log_group_arn: Option<String>,
    pub(crate) cloud_watch_logs_role_arn: Option<String>,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) is_organization_trail: Option<bool>,
    pub(crate) recursive_logging: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: Option<String>,
    tags_list: Option<Vec<Value>>,
}

impl CreateTrail {
    pub fn parse(input: Value) -> Result<Self, Refusal> {
        let settings = read(input.clone())?;
        let input: Input = read(input)?;
        let tags = Tag::read_all(input.tags_list.unwrap_or_default())?;
        // An ARN is not a name here: nothing has one yet.
        Ok(Self { name: TrailName::parse(input.name.as_deref().unwrap_or_default())?, settings, tags })
    }
}

/// The trail as CloudTrail's defaults complete it. It does not log before StartLogging.
pub fn create(request: CreateTrail, at: &Place<'_>) -> Result<TrailDefinition, Refusal> {
    let CreateTrail { name, settings, tags } = request;
    let Place { account, ref region, partition, .. } = *at;
    let text = |member: &Option<String>| member.clone().unwrap_or_default();
    let bucket = BucketName::parse(&text(&settings.bucket))?;
    let prefix = Prefix::parse(&text(&settings.prefix))?;
    let topic = given(&text(&settings.topic), |text| Topic::parse(text, partition, region, &account))?;
    let multi_region = settings.is_multi_region_trail.unwrap_or(false);
    let include_global = settings.include_global_service_events.unwrap_or(true);
    regions_agree(multi_region, include_global)?;
    let log_group = LogGroup::parse(&text(&settings.cloud_watch_logs_log_group_arn), &text(&settings.cloud_watch_logs_role_arn))?;
    let kms_key = given(&text(&settings.kms_key_id), KmsKey::parse)?;
    let coverage = Coverage::Account.with_organization(settings.is_organization_trail.unwrap_or(false), at)?;
    Ok(TrailDefinition {
        arn: TrailArn { partition: partition.to_owned(), region: region.clone(), account, name },
        created_ns: at.now_ns,
        bucket,
        prefix,
        kms_key: kms_key.map(|key| key.as_str().to_owned()),
        coverage,
        multi_region,
        include_global,
        recursive: settings.recursive_logging.unwrap_or(true),
        validation: settings.enable_log_file_validation.unwrap_or(false),
        topic,
        log_group,
        selectors: Selectors::default(),
        custom_selectors: false,
        insights: Vec::new(),
        tags: Tags::of_creation(tags)?,
        cadence: Cadence::default(),
        retention: None,
    })
}

/// An empty text is none.
pub(crate) fn given<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

pub(crate) fn regions_agree(multi_region: bool, include_global: bool) -> Result<(), Refusal> {
    if multi_region && !include_global {
        let message = "Multi-Region trail must include global service events.";
        return Err(Refusal::new("InvalidParameterCombinationException", message));
    }
    Ok(())
}
