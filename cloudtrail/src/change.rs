//! What a change of a trail means: who may make it, where files and digests are cut for it, what to ask outside first.

use crate::bucket::BucketName;
use crate::coverage::{Coverage, managed};
use crate::definition::{Place, TrailDefinition};
use crate::kms_key::KmsKey;
use crate::log_group::LogGroup;
use crate::prefix::Prefix;
use crate::refusal::Refusal;
use crate::topic::Topic;

/// What ends at the change, so that one version of the trail covers a file and one place a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cut {
    /// Nothing: what is delivered stays as it is.
    None,
    /// The open log files: other records are taken, or others are told of them.
    Files,
    /// The digest's window, and with it the files: objects lie elsewhere, under another key, or for other accounts or
    /// regions, or digests begin or end.
    Window,
}

/// What must be asked before the change is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// That the group is there and the role may write to it.
    LogGroup(LogGroup),
    /// That the key is there and may be used. Its ARN then takes the place of the name in the definition.
    Kms { key: KmsKey, bucket: BucketName },
    /// That the bucket is there, is the account's, and takes objects under the prefix.
    Bucket { bucket: BucketName, prefix: Option<Prefix> },
    /// That the topic is there and may be published to.
    Topic(Topic),
}

/// Whether the caller may change the trail from where it calls. For a trail that was found; every change but of tags.
pub fn changeable(trail: &TrailDefinition, at: &Place<'_>) -> Result<(), Refusal> {
    if let Some(message) = away_from_home(trail, at) {
        return Err(Refusal::new("InvalidHomeRegionException", message));
    }
    of_management(trail, at)
}

/// The same for tags: their operations list no error of the home region.
pub(crate) fn in_reach(trail: &TrailDefinition, at: &Place<'_>) -> Result<(), Refusal> {
    if at.region != trail.arn.region {
        let message = format!("call the trail's home region {}", trail.arn.region);
        return Err(Refusal::new("ConflictException", message));
    }
    of_management(trail, at)
}

fn away_from_home(trail: &TrailDefinition, at: &Place<'_>) -> Option<String> {
    let home = &trail.arn.region;
    (at.region != *home).then(|| format!("Trail {} must be called from its home region: {home}", trail.arn))
}

/// An organization's trail is changed by the organization alone. One whose organization is gone is its account's.
fn of_management(trail: &TrailDefinition, at: &Place<'_>) -> Result<(), Refusal> {
    match (&trail.coverage, at.org) {
        (Coverage::Organization { .. }, Some(_)) => managed(at).map(drop),
        _ => Ok(()),
    }
}

/// What a change of one trail cuts. To be asked when the key is resolved: an alias of the same key is no change.
pub fn cut(old: &TrailDefinition, new: &TrailDefinition) -> Cut {
    // Taken apart whole, so that nobody adds a member without saying what it cuts.
    let TrailDefinition {
        arn,
        created_ns,
        bucket,
        prefix,
        kms_key,
        coverage,
        multi_region,
        include_global,
        recursive,
        validation,
        topic,
        log_group,
        selectors,
        custom_selectors,
        insights: _,
        tags: _,
        cadence,
        retention: _,
    } = old;
    let window = *arn != new.arn
        || *created_ns != new.created_ns
        || *bucket != new.bucket
        || *prefix != new.prefix
        || *kms_key != new.kms_key
        || *coverage != new.coverage
        || *multi_region != new.multi_region
        || *validation != new.validation;
    let files = *include_global != new.include_global
        || *recursive != new.recursive
        || *topic != new.topic
        || *log_group != new.log_group
        || *selectors != new.selectors
        || *custom_selectors != new.custom_selectors
        || *cadence != new.cadence;
    match (window, files) {
        (true, _) => Cut::Window,
        (false, true) => Cut::Files,
        (false, false) => Cut::None,
    }
}

/// In the order in which they are to be made. A value that did not change is not asked for again, but all that is
/// written to a bucket is asked for when the bucket changes.
pub fn outside_checks(old: Option<&TrailDefinition>, new: &TrailDefinition) -> Vec<Check> {
    let same = |same: fn(&TrailDefinition, &TrailDefinition) -> bool| old.is_some_and(|old| same(old, new));
    let moved = !same(|old, new| old.bucket == new.bucket);
    let placed = !moved && same(|old, new| old.prefix == new.prefix && old.coverage == new.coverage);
    let log_group = new.log_group.iter().filter(|_| !same(|old, new| old.log_group == new.log_group));
    let key = new.named_key().filter(|_| moved || !same(|old, new| old.kms_key == new.kms_key));
    let topic = new.topic.iter().filter(|_| !same(|old, new| old.topic == new.topic));
    let mut checks: Vec<Check> = log_group.cloned().map(Check::LogGroup).collect();
    checks.extend(key.map(|key| Check::Kms { key, bucket: new.bucket.clone() }));
    if !placed {
        checks.push(Check::Bucket { bucket: new.bucket.clone(), prefix: new.prefix.clone() });
    }
    checks.extend(topic.cloned().map(Check::Topic));
    checks
}
