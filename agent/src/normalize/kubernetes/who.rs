//! Who asked the API server, as userIdentity.
//!
//! The API server has authenticated the name; it is never a user of the host. Who impersonates another acts in a role of
//! that name, as somebody does who used sudo.

use edgetrail_proto::record::{SessionContext, SessionIssuer, UserIdentity};

use super::Place;
use crate::sources::kubernetes::User;

/// Whoever could not be authenticated. Source: Kubernetes' reserved name.
const ANONYMOUS: &str = "system:anonymous";

/// `user` as itself, or as `impersonated`.
pub(super) fn identity(place: &Place<'_>, user: Option<&User>, impersonated: Option<&User>) -> UserIdentity {
    let Some(user) = user.filter(|user| !user.username.is_empty()) else {
        return UserIdentity { kind: Some("Unknown".to_owned()), ..UserIdentity::default() };
    };
    let account_id = Some(place.host.account.to_string());
    let name = &user.username;
    let Some(role) = impersonated.filter(|role| !role.username.is_empty()) else {
        return UserIdentity {
            kind: Some(kind(user)),
            principal_id: Some(principal(user).to_owned()),
            arn: Some(place.arn(&format!("user/{name}"))),
            account_id,
            user_name: Some(name.clone()),
            identity_provider: Some(place.cluster.to_owned()),
            ..UserIdentity::default()
        };
    };
    let issuer = SessionIssuer {
        kind: Some(kind(user)),
        principal_id: Some(principal(user).to_owned()),
        arn: Some(place.arn(&format!("user/{name}"))),
        account_id: account_id.clone(),
        user_name: Some(name.clone()),
        ..SessionIssuer::default()
    };
    UserIdentity {
        kind: Some("AssumedRole".to_owned()),
        principal_id: Some(format!("{}:{name}", principal(role))),
        arn: Some(place.arn(&format!("assumed-role/{}/{name}", role.username))),
        account_id,
        identity_provider: Some(place.cluster.to_owned()),
        session_context: Some(SessionContext { session_issuer: Some(issuer), ..SessionContext::default() }),
        ..UserIdentity::default()
    }
}

fn kind(user: &User) -> String {
    if user.username == ANONYMOUS { "Unknown" } else { "WebIdentityUser" }.to_owned()
}

fn principal(user: &User) -> &str {
    if user.uid.is_empty() { &user.username } else { &user.uid }
}
