//! CloudTrail's own operations, in AWS JSON 1.1.

mod logging;
mod lookup;
mod parameters;
mod public_keys;
mod tags;
mod trails;

pub(super) use public_keys::all as all_public_keys;

use edgetrail_cloudtrail::{add_tags, remove_tags};
use http::request::Parts;
use serde_json::{Map, Value};

use super::Api;
use super::authority::Wanted;
use super::caller::Caller;
use super::dispatch::{Answered, target};
use super::event::Event;
use super::fault::{Fault, Protocol};
use super::operations::{Built, OPERATIONS, On, Operation};
use super::reply;

pub(super) const SOURCE: &str = "cloudtrail.amazonaws.com";

/// One operation's input, parsed, and what is recorded of it.
pub(super) async fn answer(api: &Api, head: &Parts, caller: &Caller, body: &[u8]) -> Answered {
    let operation = match Operation::of_target(target(head)) {
        Ok(operation) => operation,
        Err(fault) => {
            let name: String = target(head)
                .rsplit('.')
                .next()
                .unwrap_or_default()
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(64)
                .collect();
            return Answered::new(presumed_event(if name.is_empty() { "UnknownOperation" } else { &name }), Err(fault));
        }
    };
    let mut event = Event::new(SOURCE, operation.name, operation.read_only);
    let input = match parameters::parse(body) {
        Ok(input) => input,
        Err(fault) => return Answered::new(event, Err(fault)),
    };
    event.parameters =
        Some(Value::Object(input.clone())).filter(|input| input.as_object().is_some_and(|members| !members.is_empty()));
    if let Err(fault) = caller.may(&wanted(operation, &input, caller), Protocol::Json) {
        return Answered::new(event, Err(fault));
    }
    let input = Value::Object(input);
    let Some(built) = operation.built else { return Answered::new(event, Err(operation.unsupported())) };
    let result = match built {
        Built::DescribeTrails => trails::describe(api, caller, input),
        Built::GetEventSelectors => trails::selectors(api, caller, input),
        Built::GetInsightSelectors => trails::insights(api, caller, input),
        Built::GetTrail => trails::get(api, caller, input),
        Built::ListTrails => trails::list(api, caller, input),
        Built::GetTrailStatus => trails::status(api, caller, input),
        Built::AddTags => tags::change(api, caller, input, add_tags),
        Built::RemoveTags => tags::change(api, caller, input, remove_tags),
        Built::ListTags => tags::list(api, caller, input),
        Built::ListPublicKeys => public_keys::list(api, caller, input).await,
        Built::LookupEvents => lookup::lookup(api, caller, input).await,
        Built::StartLogging | Built::StopLogging => return logging::answer(api, caller, input, event),
    };
    Answered::new(event, result.map(|output| reply::json(&output)))
}

/// What policies are asked about a call, whether there is such a thing or not. A member that is missing, or no text, names
/// nothing: the operation itself refuses it.
fn wanted(operation: &Operation, input: &Map<String, Value>, caller: &Caller) -> Wanted {
    let mut wanted = Wanted::of(format!("cloudtrail:{}", operation.name));
    let trail = |name: &str| match name.starts_with("arn:") {
        true => name.to_owned(),
        false => format!("arn:{}:cloudtrail:{}:{}:trail/{name}", caller.partition, caller.region, caller.account),
    };
    let named: Vec<String> = match operation.on {
        On::Account => Vec::new(),
        On::Trail(member) => input.get(member).and_then(Value::as_str).map(trail).into_iter().collect(),
        On::Resource(member) => match input.get(member) {
            Some(Value::Array(named)) => named.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            one => one.and_then(Value::as_str).map(str::to_owned).into_iter().collect(),
        },
    };
    if !named.is_empty() {
        wanted.resources = named;
    }
    wanted
}

/// For a call that was refused before anything of it was believed.
pub(super) fn presumed_event(name: &str) -> Event {
    let read_only = OPERATIONS.iter().find(|operation| operation.name == name).is_none_or(|operation| operation.read_only);
    Event::new(SOURCE, name, read_only)
}

/// What a stage below could not do: the cause goes to the log, the caller gets a number to ask about.
fn failed(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Fault {
    tracing::error!(error, "{what}");
    Fault::internal(Protocol::Json)
}
