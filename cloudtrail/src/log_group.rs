//! The CloudWatch Logs group that records are sent to, and the role that may do so.

use edgetrail_proto::identity::{AccountId, Region};
use serde::{Deserialize, Serialize};

use crate::arn::Parts;
use crate::refusal::{Refusal, shown};

/// Longest name of a log group, in characters. Source: CloudWatch Logs, `LogGroupName`.
const GROUP_CHARACTERS_MAX: usize = 512;

/// Longest path and name of a role, in characters. Source: IAM, `pathType` 512 and `roleNameType` 64.
const ROLE_CHARACTERS_MAX: usize = 512 + 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Arns", into = "Arns")]
pub struct LogGroup {
    /// `arn:PARTITION:logs:REGION:ACCOUNT:log-group:NAME:*`
    pub group_arn: String,
    /// `arn:PARTITION:iam::ACCOUNT:role/NAME`
    pub role_arn: String,
    /// The rest is read from `group_arn`.
    pub region: Region,
    pub account: AccountId,
    pub name: String,
}

/// What is stored of it: all else follows.
#[derive(Serialize, Deserialize)]
struct Arns {
    group_arn: String,
    role_arn: String,
}

impl LogGroup {
    /// Both or neither: an empty text is an absent one.
    pub fn parse(group_arn: &str, role_arn: &str) -> Result<Option<Self>, Refusal> {
        match (group_arn.is_empty(), role_arn.is_empty()) {
            (true, true) => return Ok(None),
            (false, false) => {}
            _ => {
                let message = "CloudWatchLogsLogGroupArn and CloudWatchLogsRoleArn go together: give both or neither";
                return Err(Refusal::new("InvalidParameterCombinationException", message));
            }
        }
        let group = group(group_arn).ok_or_else(|| {
            let message = format!("`{}` is not of the form arn:PARTITION:logs:REGION:ACCOUNT:log-group:NAME:*", shown(group_arn));
            Refusal::new("InvalidCloudWatchLogsLogGroupArnException", message)
        })?;
        if !is_role(role_arn) {
            let message = format!("`{}` is not of the form arn:PARTITION:iam::ACCOUNT:role/NAME", shown(role_arn));
            return Err(Refusal::new("InvalidCloudWatchLogsRoleArnException", message));
        }
        let (region, account, name) = group;
        Ok(Some(Self { group_arn: group_arn.to_owned(), role_arn: role_arn.to_owned(), region, account, name }))
    }
}

fn group(arn: &str) -> Option<(Region, AccountId, String)> {
    let parts = Parts::of(arn).filter(|parts| parts.service == "logs")?;
    let (region, account) = parts.place()?;
    let name = parts.resource.strip_prefix("log-group:")?.strip_suffix(":*")?;
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b'#');
    let good = (1..=GROUP_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(good);
    good.then(|| (region, account, name.to_owned()))
}

fn is_role(arn: &str) -> bool {
    let of_iam =
        |parts: &Parts<'_>| parts.service == "iam" && parts.region.is_empty() && parts.account.parse::<AccountId>().is_ok();
    let Some(name) = Parts::of(arn).filter(of_iam).and_then(|parts| parts.resource.strip_prefix("role/")) else { return false };
    let good = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&b);
    (1..=ROLE_CHARACTERS_MAX).contains(&name.len()) && name.bytes().all(good) && !name.ends_with('/')
}

impl TryFrom<Arns> for LogGroup {
    type Error = String;

    fn try_from(arns: Arns) -> Result<Self, String> {
        match Self::parse(&arns.group_arn, &arns.role_arn) {
            Ok(Some(group)) => Ok(group),
            Ok(None) => Err("a log group has ARNs".to_owned()),
            Err(refusal) => Err(refusal.message),
        }
    }
}

impl From<LogGroup> for Arns {
    fn from(group: LogGroup) -> Self {
        Self { group_arn: group.group_arn, role_arn: group.role_arn }
    }
}
