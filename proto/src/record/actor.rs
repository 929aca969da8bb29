//! userIdentity: who acted, and through what.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::members::{self, MemberVisitor, Members, Object, Unknown};

/// userIdentity. Every member is optional: a service's events carry little of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserIdentity {
    /// `type`: `Root`, `IAMUser`, `AssumedRole`, `AWSService`, `Unknown` …
    pub kind: Option<String>,
    pub principal_id: Option<String>,
    pub arn: Option<String>,
    pub account_id: Option<String>,
    pub access_key_id: Option<String>,
    pub user_name: Option<String>,
    pub session_context: Option<SessionContext>,
    pub invoked_by: Option<String>,
    pub identity_provider: Option<String>,
    pub credential_id: Option<String>,
    pub on_behalf_of: Option<Value>,
    pub in_scope_of: Option<Value>,
    pub unknown: Unknown,
}

/// userIdentity.sessionContext: the session in which somebody acts as another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionContext {
    pub session_issuer: Option<SessionIssuer>,
    pub web_id_federation_data: Option<Value>,
    pub attributes: Option<SessionAttributes>,
    pub source_identity: Option<String>,
    pub ec2_role_delivery: Option<String>,
    pub assumed_root: Option<String>,
    pub ec2_issued_in_vpc: Option<String>,
    pub unknown: Unknown,
}

/// Who the session was made from: on a host, the login user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionIssuer {
    /// `type`: `Role`, `IAMUser`, `Root`.
    pub kind: Option<String>,
    pub principal_id: Option<String>,
    pub arn: Option<String>,
    pub account_id: Option<String>,
    pub user_name: Option<String>,
    pub unknown: Unknown,
}

/// When and how strongly the session was authenticated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionAttributes {
    /// `YYYY-MM-DDTHH:MM:SSZ`.
    pub creation_date: Option<String>,
    /// The string `true` or `false`.
    pub mfa_authenticated: Option<String>,
    pub unknown: Unknown,
}

/// One item of `resources`: what was acted on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    pub account_id: Option<String>,
    /// `type`, such as `Host::File` or `AWS::S3::Object`.
    pub kind: Option<String>,
    /// `ARN`, upper case as CloudTrail writes it.
    pub arn: Option<String>,
    pub arn_prefix: Option<String>,
    pub unknown: Unknown,
}

/// The members of an object whose every field is optional: one table for reading and for writing.
macro_rules! object {
    ($name:ident { $($field:ident: $member:literal),+ $(,)? }) => {
        impl Object for $name {
            fn unknown(&self) -> &Unknown {
                &self.unknown
            }

            fn each_member<V: MemberVisitor>(&self, visitor: &mut V) -> Result<(), V::Error> {
                $(visitor.member($member, self.$field.as_ref())?;)+
                Ok(())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                members::serialize(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// Only of JSON text: what has no field is kept as it stands there.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let members = Members::deserialize(deserializer)?;
                let mut object = Self { $($field: members.read($member),)+ unknown: Unknown::default() };
                object.unknown = members.beyond(&object);
                Ok(object)
            }
        }
    };
}

object!(UserIdentity {
    kind: "type",
    principal_id: "principalId",
    arn: "arn",
    account_id: "accountId",
    access_key_id: "accessKeyId",
    user_name: "userName",
    session_context: "sessionContext",
    invoked_by: "invokedBy",
    identity_provider: "identityProvider",
    credential_id: "credentialId",
    on_behalf_of: "onBehalfOf",
    in_scope_of: "inScopeOf",
});

object!(SessionContext {
    session_issuer: "sessionIssuer",
    web_id_federation_data: "webIdFederationData",
    attributes: "attributes",
    source_identity: "sourceIdentity",
    ec2_role_delivery: "ec2RoleDelivery",
    assumed_root: "assumedRoot",
    ec2_issued_in_vpc: "ec2IssuedInVpc",
});

object!(SessionIssuer { kind: "type", principal_id: "principalId", arn: "arn", account_id: "accountId", user_name: "userName" });

object!(SessionAttributes { creation_date: "creationDate", mfa_authenticated: "mfaAuthenticated" });

object!(Resource { account_id: "accountId", kind: "type", arn: "ARN", arn_prefix: "ARNPrefix" });
