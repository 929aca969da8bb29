//! Who is behind a line: the program's own users are no users of this host.
//!
//! A name that a gateway or application knows is a `WebIdentityUser` with its provider; where there is none, `Unknown`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edgetrail_proto::record::UserIdentity;
use serde_json::{Map, Value};

use super::Host;
use crate::sources::lines::access::Request;
use crate::sources::lines::fields;

/// How a caller is known unless configured otherwise.
const DEFAULT: &[&str] = &["user", "certificate"];

/// Longest token that is looked into, bytes. Source: what servers take as a header.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A user of an application, known by `provider`.
pub(in crate::normalize) fn user(name: &str, id: Option<String>, provider: &str) -> UserIdentity {
    UserIdentity {
        kind: Some("WebIdentityUser".to_owned()),
        principal_id: Some(id.unwrap_or_else(|| format!("{provider}:{name}"))),
        user_name: Some(name.to_owned()),
        identity_provider: Some(provider.to_owned()),
        ..UserIdentity::default()
    }
}

/// Something that acts by itself.
pub(super) fn service(host: &Host, name: &str) -> UserIdentity {
    UserIdentity {
        kind: Some("AWSService".to_owned()),
        account_id: Some(host.account.to_string()),
        invoked_by: Some(name.to_owned()),
        ..UserIdentity::default()
    }
}

pub(in crate::normalize) fn unknown() -> UserIdentity {
    UserIdentity { kind: Some("Unknown".to_owned()), ..UserIdentity::default() }
}

/// The first of the configured ways that knows the caller.
pub(super) fn of_request(request: &Request, ways: Option<&[String]>, service: &str) -> UserIdentity {
    let default: Vec<String> = DEFAULT.iter().map(|way| (*way).to_owned()).collect();
    let ways = ways.unwrap_or(&default);
    ways.iter().find_map(|way| by(request, way, service)).unwrap_or_else(unknown)
}

fn by(request: &Request, way: &str, service: &str) -> Option<UserIdentity> {
    match way.split_once(':').unwrap_or((way, "")) {
        ("user", _) => request.user.as_deref().map(|name| user(name, None, service)),
        ("certificate", _) => {
            let subject = request.certificate.as_deref()?;
            Some(user(common_name(subject).unwrap_or(subject), Some(subject.to_owned()), "certificate"))
        }
        ("header", name) => {
            let value = request.headers.get(&name.to_lowercase())?.as_str()?;
            Some(user(value, None, &format!("header:{}", name.to_lowercase())))
        }
        // A token that was refused says nothing of who sent it.
        ("jwt", _) if request.status == Some(401) => None,
        ("jwt", claim) => {
            let claims = request.claims.clone().or_else(|| bearer_claims(request))?;
            let name = fields::text(fields::said(&claims, if claim.is_empty() { "sub" } else { claim })?)?;
            let text = |claim: &str| fields::said(&claims, claim).and_then(fields::text);
            Some(user(&name, text("sub"), &text("iss").unwrap_or_else(|| "jwt".to_owned())))
        }
        _ => None,
    }
}

/// The claims of a bearer token that the log holds. Whether it was good, its status says.
fn bearer_claims(request: &Request) -> Option<Map<String, Value>> {
    let header = request.headers.get("authorization")?.as_str()?;
    let (scheme, token) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let body = token.trim().split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(claims) => Some(claims),
        _ => None,
    }
}

/// `alice` of `CN=alice,O=Example` and of `/O=Example/CN=alice`.
fn common_name(subject: &str) -> Option<&str> {
    let parts = subject.split(if subject.starts_with('/') { '/' } else { ',' });
    let named = parts.filter_map(|part| part.trim().split_once('='));
    named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("cn")).map(|(_, value)| value.trim()).find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> Request {
        let claims = URL_SAFE_NO_PAD.encode(json!({"sub": "u-7", "email": "a@example.org", "iss": "https://idp"}).to_string());
        let token = format!("Bearer e30.{claims}.sig");
        let Value::Object(headers) = json!({"x-user": "carol", "authorization": token}) else { unreachable!() };
        let (user, certificate) = (Some("bob".to_owned()), Some("CN=dave,O=Example".to_owned()));
        Request { user, certificate, headers, ..Request::default() }
    }

    #[test]
    fn the_first_configured_way_that_knows_the_caller_names_it() {
        let name = |ways: &[&str]| {
            let ways: Vec<String> = ways.iter().map(|way| (*way).to_owned()).collect();
            let identity = of_request(&request(), Some(&ways), "nginx.http");
            (identity.user_name.unwrap_or_default(), identity.principal_id.unwrap_or_default(), identity.kind.unwrap_or_default())
        };
        let web = "WebIdentityUser".to_owned();
        assert_eq!(name(&["user"]), ("bob".to_owned(), "nginx.http:bob".to_owned(), web.clone()));
        assert_eq!(name(&["certificate", "user"]), ("dave".to_owned(), "CN=dave,O=Example".to_owned(), web.clone()));
        assert_eq!(name(&["header:X-User"]), ("carol".to_owned(), "header:x-user:carol".to_owned(), web.clone()));
        assert_eq!(name(&["header:x-none", "jwt:email"]), ("a@example.org".to_owned(), "u-7".to_owned(), web));
        assert_eq!(name(&["header:x-none"]).2, "Unknown");
    }

    #[test]
    fn a_broken_token_names_nobody() {
        for token in ["", "Bearer", "Bearer x", "Bearer a.b.c", "Bearer e30.!!.x", "Basic eDp5", "Bearer a.W10.c"] {
            let Value::Object(headers) = json!({"authorization": token}) else { unreachable!() };
            let request = Request { headers, ..Request::default() };
            assert_eq!(of_request(&request, None, "x").kind.as_deref(), Some("Unknown"), "{token}");
        }
    }
}
