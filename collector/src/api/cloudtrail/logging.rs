//! StartLogging and StopLogging: event-sourced. The call's own record is the command that the trails obey.

use edgetrail_cloudtrail::trail_named;
use serde_json::{Value, json};

use super::trails::{find, is_home};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::dispatch::Answered;
use crate::api::event::Event;
use crate::api::fault::Fault;
use crate::api::reply;

pub(super) fn answer(api: &Api, caller: &Caller, input: Value, mut event: Event) -> Answered {
    let trail = trail_named(input).map_err(Fault::from).and_then(|name| find(api, caller, &name));
    let trail = trail.and_then(|trail| match is_home(&trail, caller) {
        true => Ok(trail),
        false => Err(Fault::client(
            "InvalidHomeRegionException",
            format!("the trail {} is changed in its home region {} only", trail.arn, trail.home()),
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
