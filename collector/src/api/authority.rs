//! Whether a verified caller may do what it asks: its policies over the action, the resource and what is known of the call.
//!
//! Asked once for each call, before anything of the answer is looked for: what is refused says the same whether the thing,
//! or its account, exists or not. Nothing is allowed that no policy allows, and a deny wins. Beside the policies, rows are
//! limited to the caller's account and the region that is called, whatever a policy says.
//!
//! Source: IAM User Guide, "AWS global condition context keys".

use edgetrail_policy::{self as policy, Policy};
use edgetrail_proto::identity::{AccountId, Region};
use edgetrail_proto::record::format_time;

use super::caller::Peer;
use super::fault::{Fault, Protocol};
use crate::control::Principal;

/// A caller's policies, and what conditions may ask of its call.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    arn: String,
    account: AccountId,
    policies: Vec<Policy>,
    known: policy::Context,
}

/// What a call asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// `cloudtrail:GetTrail`
    pub action: String,
    /// ARNs, each of which must be allowed; of an operation that knows no single resource, `*`.
    pub resources: Vec<String>,
    /// Condition keys of this call alone, with their values.
    pub details: Vec<(&'static str, String)>,
}

/// Who calls, as conditions know it.
#[derive(Debug)]
pub(super) struct Who<'a> {
    pub arn: &'a str,
    pub principal_id: &'a str,
    pub account: AccountId,
    pub user_name: &'a str,
    pub region: &'a Region,
}

impl Wanted {
    /// An operation on no single resource.
    pub(super) fn of(action: String) -> Self {
        Self { action, resources: vec!["*".to_owned()], details: Vec::new() }
    }
}

impl Authority {
    /// Without a principal nothing is allowed.
    pub(super) fn new(principal: Option<Principal>, who: &Who<'_>, peer: &Peer, user_agent: Option<&str>, now: u64) -> Self {
        let mut known = policy::Context::default();
        known.set("aws:PrincipalArn", [who.arn]);
        known.set("aws:PrincipalAccount", [who.account.as_str()]);
        known.set("aws:PrincipalType", ["User"]);
        known.set("aws:username", [who.user_name]);
        known.set("aws:userid", [who.principal_id]);
        known.set("aws:RequestedRegion", [who.region.as_str()]);
        known.set("aws:SourceIp", [peer.address.ip().to_canonical().to_string()]);
        known.set("aws:SecureTransport", [peer.tls.is_some().to_string()]);
        known.set("aws:CurrentTime", [format_time(now.saturating_mul(1_000_000_000))]);
        known.set("aws:EpochTime", [now.to_string()]);
        known.set("aws:UserAgent", user_agent);
        let policies = principal.map(|principal| principal.policies).unwrap_or_default();
        Self { arn: who.arn.to_owned(), account: who.account, policies, known }
    }

    /// `Ok` where each resource is allowed.
    pub(super) fn allows(&self, wanted: &Wanted, protocol: Protocol) -> Result<(), Fault> {
        let mut known = self.known.clone();
        for (key, value) in &wanted.details {
            known.set(key, [value.as_str()]);
        }
        for resource in &wanted.resources {
            known.set("aws:ResourceAccount", [owner(resource).unwrap_or(self.account.as_str())]);
            let request = policy::Request { action: &wanted.action, resource, context: &known };
            let decision = policy::decide(&self.policies, None, &request);
            if !decision.is_allowed() {
                tracing::debug!(user = self.arn, action = wanted.action, resource, ?decision, "a call is not allowed");
                return Err(Fault::denied(protocol, &self.arn, &wanted.action, resource));
            }
        }
        Ok(())
    }
}

/// The account in an ARN; `None` where it names none, as a bucket's does.
fn owner(arn: &str) -> Option<&str> {
    let account = arn.strip_prefix("arn:")?.split(':').nth(3)?;
    (!account.is_empty()).then_some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_the_account_that_its_resource_is_of() {
        assert_eq!(owner("arn:aws:cloudtrail:eu-1:444455556666:trail/x:y"), Some("444455556666"));
        for nobodys in ["arn:aws:s3:::bucket/key", "*", "arn:aws:s3", ""] {
            assert_eq!(owner(nobodys), None, "{nobodys}");
        }
    }
}
