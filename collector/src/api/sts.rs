//! STS, as much of it as tells a caller who it is: GetCallerIdentity.

use edgetrail_sigv4::percent;
use http::request::Parts;
use serde_json::json;
use uuid::Uuid;

use super::caller::Caller;
use super::dispatch::Answered;
use super::event::Event;
use super::fault::Fault;
use super::reply::{self, STS_NAMESPACE};
use super::xml::Document;

pub(super) const SOURCE: &str = "sts.amazonaws.com";

pub(super) fn answer(head: &Parts, caller: &Caller, body: &[u8], request_id: Uuid) -> Answered {
    let form = String::from_utf8_lossy(body);
    let query = head.uri.query().unwrap_or_default();
    let action = percent::value_of(&form, "Action").or_else(|| percent::value_of(query, "Action")).unwrap_or_default();
    if action != "GetCallerIdentity" {
        let shown: String = action.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        let event = Event::new(SOURCE, if shown.is_empty() { "UnknownOperation" } else { &shown }, true);
        let message = "this endpoint answers GetCallerIdentity only";
        return Answered::new(event, Err(Fault::client("InvalidAction", message)));
    }
    let mut event = Event::new(SOURCE, &action, true);
    event.parameters = Some(json!({}));
    let mut document = Document::new("GetCallerIdentityResponse", Some(STS_NAMESPACE));
    document.begin("GetCallerIdentityResult");
    document.element("Arn", &caller.arn()).element("UserId", &caller.principal_id()).element("Account", caller.account.as_str());
    document.end().begin("ResponseMetadata").element("RequestId", &request_id.to_string());
    Answered::new(event, Ok(reply::sts_xml(document)))
}
