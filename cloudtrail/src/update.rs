//! UpdateTrail: what is given changes, what is absent stays, an empty text clears.

use serde::Deserialize;
use serde_json::Value;

use crate::arn::TrailRef;
use crate::bucket::BucketName;
use crate::change::changeable;
use crate::create::{Settings, given, regions_agree};
use crate::definition::{Place, TrailDefinition};
use crate::kms_key::KmsKey;
use crate::log_group::LogGroup;
use crate::prefix::Prefix;
use crate::refusal::{Refusal, read};
use crate::topic::Topic;

/// A request whose members have the right types and whose name is good; [`update`] judges the rest against the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateTrail {
    pub trail: TrailRef,
    settings: Settings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: Option<String>,
}

impl UpdateTrail {
    pub fn parse(input: Value) -> Result<Self, Refusal> {
        let settings = read(input.clone())?;
        let input: Input = read(input)?;
        Ok(Self { trail: TrailRef::of_member(input.name.as_deref())?, settings })
    }
}

/// Rules on combinations judge the result, not the request.
pub fn update(old: &TrailDefinition, request: UpdateTrail, at: &Place<'_>) -> Result<TrailDefinition, Refusal> {
    changeable(old, at)?;
    let settings = request.settings;
    let mut new = old.clone();
    if let Some(bucket) = settings.bucket {
        new.bucket = BucketName::parse(&bucket)?;
    }
    if let Some(prefix) = settings.prefix {
        new.prefix = Prefix::parse(&prefix)?;
    }
    if let Some(topic) = settings.topic {
        let home = &old.arn;
        new.topic = given(&topic, |topic| Topic::parse(topic, &home.partition, &home.region, &home.account))?;
    }
    new.multi_region = settings.is_multi_region_trail.unwrap_or(old.multi_region);
    new.include_global = settings.include_global_service_events.unwrap_or(old.include_global);
    regions_agree(new.multi_region, new.include_global)?;
    if settings.cloud_watch_logs_log_group_arn.is_some() || settings.cloud_watch_logs_role_arn.is_some() {
        let kept = |arn: fn(&LogGroup) -> &String| old.log_group.as_ref().map(arn).cloned().unwrap_or_default();
        let group = settings.cloud_watch_logs_log_group_arn.unwrap_or_else(|| kept(|group| &group.group_arn));
        let role = settings.cloud_watch_logs_role_arn.unwrap_or_else(|| kept(|group| &group.role_arn));
        new.log_group = LogGroup::parse(&group, &role)?;
    }
    if let Some(key) = settings.kms_key_id {
        new.kms_key = given(&key, KmsKey::parse)?.map(|key| key.as_str().to_owned());
    }
    if let Some(wanted) = settings.is_organization_trail {
        new.coverage = old.coverage.with_organization(wanted, at)?;
    }
    new.validation = settings.enable_log_file_validation.unwrap_or(old.validation);
    new.recursive = settings.recursive_logging.unwrap_or(old.recursive);
    Ok(new)
}
