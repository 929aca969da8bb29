//! StartLogging and StopLogging: event-sourced. The call's own record is the command that the trails obey.

use serde_json::{Value, json};

use super::trails::{is_home, named};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::dispatch::Answered;
use crate::api::event::Event;
use crate::api::fault::Fault;
use crate::api::reply;

pub(super) fn answer(api: &Api, caller: &Caller, input: Value, mut event: Event) -> Answered {
    let trail = named(api, caller, input).and_then(|trail| match is_home(&trail, caller) {
        true => Ok(trail),
        false => Err(Fault::client(
            "InvalidHomeRegionException",
            format!("the trail {} is changed in its home region {} only", trail.arn, trail.home_region),
        )),
    });
    match trail {
        Ok(trail) => {
            // Names repeat across accounts and regions, ARNs do not: what the trails obey must name one.
            event.parameters = Some(json!({ "name": trail.arn }));
            Answered { event, result: Ok(reply::json(&json!({}))), by_record: true }
        }
        Err(fault) => Answered::new(event, Err(fault)),
    }
}
