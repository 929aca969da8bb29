//! Whose records a trail takes.

use edgetrail_proto::identity::AccountId;
use serde::{Deserialize, Serialize};

use crate::definition::Place;
use crate::refusal::Refusal;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coverage {
    /// Those of the trail's own account.
    Account,
    /// Those of every account of the organization `o-…`.
    Organization { id: String },
    /// Those of all accounts that the collector knows: the trail that the configuration describes.
    Everything,
}

/// What is known of the organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgFacts {
    /// `o-` and 10 to 32 lower-case letters or digits.
    pub id: String,
    pub management: AccountId,
}

impl Coverage {
    /// What `IsOrganizationTrail` makes of it. Turned off, an organization's trail is its account's; any other stays.
    pub(crate) fn with_organization(&self, wanted: bool, at: &Place<'_>) -> Result<Self, Refusal> {
        match (wanted, self) {
            (true, _) => Ok(Self::Organization { id: managed(at)?.id.clone() }),
            (false, Self::Organization { .. }) => Ok(Self::Account),
            (false, other) => Ok(other.clone()),
        }
    }
}

/// The organization, where the caller speaks for it.
pub(crate) fn managed<'a>(at: &Place<'a>) -> Result<&'a OrgFacts, Refusal> {
    let Some(org) = at.org else {
        let message = "there is no organization: an organization trail needs one";
        return Err(Refusal::new("OrganizationsNotInUseException", message));
    };
    if org.management != at.account {
        let message = format!("the account {} is not the organization's management account", at.account);
        return Err(Refusal::new("NotOrganizationMasterAccountException", message));
    }
    Ok(org)
}
