//! Where audit events are put: channels, named by ARN.

use std::str::FromStr;

use edgetrail_proto::chain::Binding;
use edgetrail_proto::identity::{AccountId, Region};
use edgetrail_settings::Parsed;
use serde::Deserialize;

use super::fault::Fault;

/// One entry of `sources.api.channels`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    pub arn: Parsed<ChannelArn>,
    /// What callers must give as `--external-id`.
    #[serde(default)]
    pub external_id: Option<String>,
}

/// `arn:PARTITION:cloudtrail:REGION:ACCOUNT:channel/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelArn {
    text: String,
    account: AccountId,
    region: Region,
}

/// A channel of this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub arn: ChannelArn,
    external_id: Option<String>,
    /// Whether the agent's streams may carry records of its account and region.
    is_bound: bool,
}

/// Why text is no ARN of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give arn:PARTITION:cloudtrail:REGION:ACCOUNT:channel/NAME, NAME of letters, digits, `-` and `_`")]
pub struct ChannelArnError;

/// Longest name of a channel. Source: CloudTrail, CreateChannel.
const NAME_BYTES_MAX: usize = 128;

impl FromStr for ChannelArn {
    type Err = ChannelArnError;

    fn from_str(text: &str) -> Result<Self, ChannelArnError> {
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", partition, "cloudtrail", region, account, resource] = parts[..] else { return Err(ChannelArnError) };
        let name = resource.strip_prefix("channel/").ok_or(ChannelArnError)?;
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= NAME_BYTES_MAX
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !is_name(partition) || !is_name(name) {
            return Err(ChannelArnError);
        }
        let account = account.parse().map_err(|_| ChannelArnError)?;
        let region = region.parse().map_err(|_| ChannelArnError)?;
        Ok(Self { text: text.to_owned(), account, region })
    }
}

impl ChannelArn {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn account(&self) -> &AccountId {
        &self.account
    }

    pub fn region(&self) -> &Region {
        &self.region
    }
}

impl Channel {
    /// Of an agent whose records may be of `binding`.
    pub fn new(config: &ChannelConfig, binding: &Binding) -> Self {
        let arn = config.arn.0.clone();
        let is_bound = binding.allows(arn.account.as_str(), arn.region.as_str());
        if !is_bound {
            tracing::error!(
                channel = arn.text(),
                "the agent may not speak for the channel's account and region: its callers are refused; join with a token of `--gateway` that lists them"
            );
        }
        Self { arn, external_id: config.external_id.clone(), is_bound }
    }

    /// Whether a caller that gives this external id may put events here.
    pub(super) fn admits(&self, external_id: Option<&str>) -> Result<(), Fault> {
        let refused = |why| Err(Fault::new("ChannelInsufficientPermission", why));
        if !self.is_bound {
            return refused("the agent's token does not list the channel's account and region");
        }
        match &self.external_id {
            Some(wanted) if external_id != Some(wanted) => refused("the channel asks for another external id"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:cloudtrail:dc-local-1:111122223333:channel/shop";

    #[test]
    fn an_arn_of_a_channel_is_read_and_no_other() {
        let arn: ChannelArn = ARN.parse().unwrap();
        assert_eq!((arn.text(), arn.account().as_str(), arn.region().as_str()), (ARN, "111122223333", "dc-local-1"));
        for wrong in [
            "",
            "arn:aws:cloudtrail:dc-local-1:111122223333:trail/shop",
            "arn:aws:cloudtrail:dc-local-1:1111:channel/shop",
            "arn:aws:cloudtrail:dc-local-1:111122223333:channel/",
            "arn:aws:cloudtrail:dc-local-1:111122223333:channel/a b",
            "arn:aws:cloudtrail::111122223333:channel/shop",
            "arn:aws:cloudtrail:dc-local-1:111122223333:channel/shop:more",
        ] {
            assert_eq!(wrong.parse::<ChannelArn>(), Err(ChannelArnError), "{wrong}");
        }
    }

    #[test]
    fn a_channel_outside_the_binding_admits_nobody() {
        let config = ChannelConfig { arn: Parsed(ARN.parse().unwrap()), external_id: Some("them".to_owned()) };
        let binding = |account: &str| Binding::one(account.parse().unwrap(), "dc-local-1".parse().unwrap(), "gw").unwrap();
        let here = Channel::new(&config, &binding("111122223333"));
        assert!(here.admits(Some("them")).is_ok() && here.admits(None).is_err() && here.admits(Some("us")).is_err());
        assert!(Channel::new(&config, &binding("444455556666")).admits(Some("them")).is_err());
    }
}
