//! systemd's own messages about units and the host, by MESSAGE_ID where the carrier has it, else by their words.

use serde_json::json;

use super::making::Making;
use crate::normalize::act;
use crate::sources::journal::Entry;

/// Source: systemd's sd-messages.h.
const UNIT_STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
const UNIT_STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";
const UNIT_FAILED: &str = "be02cf6855d2428ba40df7e9d022f03d";
const UNIT_FAILURE_RESULT: &str = "d9b373ed55a64feb8242e02dbe79a49c";
const UNIT_RELOADED: &str = "7b05ebc668384222baa8881179cfda54";
const STARTUP_FINISHED: &str = "b07a249cd024414a82dd00cd181378ff";

/// Kinds of units that come and go with sessions and devices: no administration.
const PASSING_UNITS: &[&str] = &[".scope", ".slice", ".device"];

/// What a message of the service manager says of a unit.
struct Told {
    name: &'static str,
    class: Option<&'static str>,
    unit: String,
    /// Where only the unit's description is known.
    description: String,
    is_failed: bool,
}

/// Whether an entry is the host's service manager's: a user's own has another pid.
pub(super) fn is_managers(entry: &Entry, program: &str) -> bool {
    program == "systemd" && entry.number("_PID").or_else(|| entry.number("SYSLOG_PID")).is_none_or(|pid| pid == 1)
}

pub(super) fn read(making: &mut Making<'_>) -> Option<()> {
    let message = making.entry.text("MESSAGE").map(std::borrow::Cow::into_owned).unwrap_or_default();
    let id = making.entry.text("MESSAGE_ID").map(std::borrow::Cow::into_owned);
    if id.as_deref() == Some(STARTUP_FINISHED) || (id.is_none() && message.starts_with("Startup finished in ")) {
        making.name("StartHost");
        making.service("systemd.linux");
        making.parameter("text", &message);
        return Some(());
    }
    let told = match (making.entry.text("UNIT"), id) {
        (Some(unit), Some(id)) => by_id(&id, unit.into_owned())?,
        (None, None) => by_words(&message)?,
        _ => return None,
    };
    if PASSING_UNITS.iter().any(|end| told.unit.ends_with(end)) {
        return None;
    }
    making.name(told.name);
    making.service("systemd.linux");
    making.parameter("unit", &told.unit);
    making.parameter("description", &told.description);
    let result = making.entry.text("JOB_RESULT").map(std::borrow::Cow::into_owned).unwrap_or_default();
    if !result.is_empty() {
        making.record.response_elements = Some(json!({"result": result}));
    }
    if told.is_failed || !matches!(result.as_str(), "" | "done" | "skipped") {
        making.failed("UnitFailed", &message);
    }
    if !told.unit.is_empty() {
        making.resource("Host::Unit", &format!("unit/{}", told.unit));
        making.act = told.class.map(|class| act::unit(class, &told.unit, making.time));
    }
    Some(())
}

fn by_id(id: &str, unit: String) -> Option<Told> {
    let (name, class, is_failed) = match id {
        UNIT_STARTED => ("StartUnit", Some(act::class::START_UNIT), false),
        UNIT_STOPPED => ("StopUnit", Some(act::class::STOP_UNIT), false),
        UNIT_FAILED => ("StartUnit", Some(act::class::START_UNIT), true),
        // The unit ended badly by itself: it did not stop on anybody's word.
        UNIT_FAILURE_RESULT => ("ReportUnit", None, true),
        UNIT_RELOADED => ("ReloadUnit", None, false),
        _ => return None,
    };
    Some(Told { name, class, unit, description: String::new(), is_failed })
}

/// `Started nginx.service - A web server.`, before systemd 250 `Started A web server.`
fn by_words(message: &str) -> Option<Told> {
    let words: &[(&str, &'static str, Option<&'static str>, bool)] = &[
        ("Started ", "StartUnit", Some(act::class::START_UNIT), false),
        ("Finished ", "StartUnit", Some(act::class::START_UNIT), false),
        ("Mounted ", "StartUnit", Some(act::class::START_UNIT), false),
        ("Failed to start ", "StartUnit", Some(act::class::START_UNIT), true),
        ("Stopped ", "StopUnit", Some(act::class::STOP_UNIT), false),
        ("Unmounted ", "StopUnit", Some(act::class::STOP_UNIT), false),
        ("Reloaded ", "ReloadUnit", None, false),
    ];
    let (start, name, class, is_failed) = words.iter().find(|(start, ..)| message.starts_with(start))?;
    let rest = message.get(start.len()..)?.trim_end_matches('.');
    let (unit, description) = match rest.split_once(" - ") {
        Some((unit, description)) if !unit.contains(' ') && unit.contains('.') => (unit, description),
        _ if !rest.contains(' ') && rest.contains('.') => (rest, ""),
        _ => ("", rest),
    };
    // Sessions' scopes are told by their description alone.
    if unit.is_empty() && (rest.starts_with("Session ") || rest.starts_with("User ")) {
        return None;
    }
    let (unit, description) = (unit.to_owned(), description.to_owned());
    Some(Told { name, class: *class, unit, description, is_failed: *is_failed })
}
