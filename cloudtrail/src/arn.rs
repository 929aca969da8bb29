//! ARNs: of trails, and of the other resources that CloudTrail's tag operations name.

use std::fmt;

use edgetrail_proto::identity::{AccountId, Region};
use serde::{Deserialize, Serialize};

use crate::name::TrailName;
use crate::refusal::{Refusal, shown};

/// Longest partition, in bytes: AWS's own have at most 10.
const PARTITION_BYTES_MAX: usize = 63;

/// Shortest and longest id of an event data store or channel, in bytes. Source: the model's `EventDataStoreArn`.
const ID_BYTES: std::ops::RangeInclusive<usize> = 3..=256;

/// `arn:PARTITION:cloudtrail:REGION:ACCOUNT:trail/NAME`; the region is the trail's home.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrailArn {
    pub partition: String,
    pub region: Region,
    pub account: AccountId,
    pub name: TrailName,
}

/// How a caller names a trail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TrailRef {
    /// At home in the region that is called, in the caller's account.
    Name(TrailName),
    /// Anywhere; a multi-region trail is found by it in every region.
    Arn(TrailArn),
}

/// What a tag operation is asked to tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResourceArn {
    Trail(TrailArn),
    EventDataStore(String),
    Channel(String),
    Dashboard(String),
}

/// The six parts of an ARN: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
pub(crate) struct Parts<'a> {
    pub(crate) partition: &'a str,
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Parts<'a> {
    /// `None` where a part or a good partition is missing. Region and account may be empty, as at S3 and IAM.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let good = (1..=PARTITION_BYTES_MAX).contains(&partition.len()) && partition.bytes().all(label);
        (arn == "arn" && good).then_some(Self { partition, service, region, account, resource })
    }

    /// Region and account, where both are good ones.
    pub(crate) fn place(&self) -> Option<(Region, AccountId)> {
        Some((self.region.parse().ok()?, self.account.parse().ok()?))
    }
}

impl TrailArn {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Self::of(text).ok_or_else(|| {
            let message = format!("`{}` is not of the form arn:PARTITION:cloudtrail:REGION:ACCOUNT:trail/NAME", shown(text));
            Refusal::new("CloudTrailARNInvalidException", message)
        })
    }

    fn of(text: &str) -> Option<Self> {
        let parts = Parts::of(text).filter(|parts| parts.service == "cloudtrail")?;
        let (region, account) = parts.place()?;
        let name = TrailName::parse(parts.resource.strip_prefix("trail/")?).ok()?;
        Some(Self { partition: parts.partition.to_owned(), region, account, name })
    }
}

impl TrailRef {
    /// A name, or the whole ARN where the text begins as one.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.starts_with("arn:") { TrailArn::parse(text).map(Self::Arn) } else { TrailName::parse(text).map(Self::Name) }
    }

    /// A member that is absent is told as a blank one.
    pub(crate) fn of_member(member: Option<&str>) -> Result<Self, Refusal> {
        Self::parse(member.unwrap_or_default())
    }

    /// Whether it means this trail, for a caller of the account who calls the region. It does not say whether the caller
    /// sees it there: a trail of one region is at home only.
    pub fn names(&self, trail: &TrailArn, account: &AccountId, region: &Region) -> bool {
        trail.account == *account
            && match self {
                Self::Name(name) => trail.name == *name && trail.region == *region,
                Self::Arn(arn) => arn == trail,
            }
    }
}

impl ResourceArn {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let refused = |code, form: &str| Err(Refusal::new(code, format!("`{}` is not {form}", shown(text))));
        let Some(parts) = Parts::of(text) else { return refused("CloudTrailARNInvalidException", "an ARN of CloudTrail") };
        if parts.service != "cloudtrail" {
            return refused("ResourceTypeNotSupportedException", "the ARN of a CloudTrail resource");
        }
        let (kind, id) = parts.resource.split_once('/').unwrap_or((parts.resource, ""));
        let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let well_formed = parts.place().is_some() && ID_BYTES.contains(&id.len()) && id.bytes().all(byte);
        match kind {
            "trail" => TrailArn::parse(text).map(Self::Trail),
            "eventdatastore" if well_formed => Ok(Self::EventDataStore(text.to_owned())),
            "eventdatastore" => refused("EventDataStoreARNInvalidException", "the ARN of an event data store"),
            "channel" if well_formed => Ok(Self::Channel(text.to_owned())),
            "channel" => refused("ChannelARNInvalidException", "the ARN of a channel"),
            "dashboard" if well_formed => Ok(Self::Dashboard(text.to_owned())),
            "dashboard" => refused("CloudTrailARNInvalidException", "the ARN of a dashboard"),
            _ => refused("ResourceTypeNotSupportedException", "the ARN of a trail, event data store, channel or dashboard"),
        }
    }
}

impl fmt::Display for TrailArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, region, account, name } = self;
        write!(f, "arn:{partition}:cloudtrail:{region}:{account}:trail/{name}")
    }
}

impl fmt::Display for TrailRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Arn(arn) => arn.fmt(f),
        }
    }
}

impl TryFrom<String> for TrailArn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|refusal| refusal.message)
    }
}

impl From<TrailArn> for String {
    fn from(arn: TrailArn) -> Self {
        arn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:cloudtrail:dc-tokyo-1:111122223333:trail/audit";

    #[test]
    fn an_arn_is_its_parts() {
        let arn = TrailArn::parse(ARN).unwrap();
        assert_eq!((arn.partition.as_str(), arn.region.as_str(), arn.account.as_str()), ("aws", "dc-tokyo-1", "111122223333"));
        assert_eq!((arn.name.as_str(), arn.to_string().as_str()), ("audit", ARN));
    }

    #[test]
    fn a_name_means_the_trail_at_home_and_an_arn_the_trail_anywhere() {
        let arn = TrailArn::parse(ARN).unwrap();
        let (account, other) = ("111122223333".parse().unwrap(), "222233334444".parse().unwrap());
        let (home, away) = ("dc-tokyo-1".parse().unwrap(), "dc-osaka-1".parse().unwrap());
        for (text, account, region, names) in [
            ("audit", &account, &home, true),
            ("audit", &account, &away, false),
            ("audit", &other, &home, false),
            ("other", &account, &home, false),
            (ARN, &account, &home, true),
            (ARN, &account, &away, true),
            (ARN, &other, &home, false),
        ] {
            assert_eq!(TrailRef::parse(text).unwrap().names(&arn, account, region), names, "{text} {account} {region}");
        }
    }
}
