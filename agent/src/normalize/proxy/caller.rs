//! Who asked: the first configured way that knows the caller, and how far it is proven.

use edgetrail_proto::record::UserIdentity;
use serde_json::{Map, Value, json};

use crate::normalize::lines::identity::{unknown, user};
use crate::sources::lines::fields;
use crate::sources::proxy::Exchange;
use crate::sources::proxy::exchange::Secured;
use crate::sources::proxy::jwt::{Bearer, Proof, basic_user};

/// Longest name, characters.
const NAME_CHARS_MAX: usize = 256;

/// userIdentity, and what `additionalEventData.edgetrail.caller` says of it.
pub(super) fn identity(exchange: &Exchange) -> (UserIdentity, Map<String, Value>) {
    let mut note = Map::new();
    let known = exchange.service.identity.iter().find_map(|way| Some((way, by(exchange, way)?)));
    let identity = match known {
        Some((way, (identity, is_proven))) => {
            note.insert("by".to_owned(), way.as_str().into());
            note.insert("verified".to_owned(), is_proven.into());
            identity
        }
        None => unknown(),
    };
    if exchange.caller.peer != exchange.caller.address {
        note.insert("peer".to_owned(), exchange.caller.peer.to_string().into());
    }
    if let Some(Bearer { claims, proof: Proof::Refused(reason) }) = &exchange.bearer {
        let claimed = |claim: &str| claims.get(claim).and_then(fields::text).map(|text| bounded(&text));
        // Not under a name that redaction takes for a secret's: what it holds is to be read.
        note.insert("refused".to_owned(), json!({"reason": reason, "sub": claimed("sub"), "iss": claimed("iss")}));
    }
    if let Some(certificate) = exchange.caller.tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
        let told = json!({
            "subject": certificate.subject,
            "issuer": certificate.issuer,
            "serial": certificate.serial,
            "uris": certificate.uris,
            "sha256": certificate.fingerprint,
        });
        note.insert("certificate".to_owned(), told);
    }
    (identity, note)
}

/// The caller by one way, and whether it is proven rather than claimed.
fn by(exchange: &Exchange, way: &str) -> Option<(UserIdentity, bool)> {
    let service = exchange.service.name.as_str();
    match way.split_once(':').unwrap_or((way, "")) {
        ("certificate", kind) => {
            let Secured { certificate, .. } = exchange.caller.tls.as_deref()?;
            let certificate = certificate.as_ref()?;
            let name = certificate.name(kind)?;
            Some((user(&bounded(name), Some(certificate.subject.clone()), "certificate"), true))
        }
        ("jwt", claim) => {
            let Bearer { claims, proof } = exchange.bearer.as_ref()?;
            if matches!(proof, Proof::Refused(_)) {
                return None;
            }
            let text = |claim: &str| fields::said(claims, claim).and_then(fields::text).map(|text| bounded(&text));
            let name = text(if claim.is_empty() { "sub" } else { claim })?;
            let provider = text("iss").unwrap_or_else(|| "jwt".to_owned());
            Some((user(&name, text("sub"), &provider), *proof == Proof::Verified))
        }
        // Anybody could send such a header: only a trusted proxy's word counts.
        ("header", name) if exchange.caller.is_trusted => {
            let name = name.to_lowercase();
            let (_, value) = exchange.asked.headers.iter().find(|(header, value)| *header == name && !value.is_empty())?;
            Some((user(&bounded(value), None, &format!("header:{name}")), true))
        }
        // The service checks the password, not the proxy.
        ("basic", _) => Some((user(&bounded(&basic_user(exchange.asked.authorization.as_deref()?)?), None, service), false)),
        _ => None,
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}
