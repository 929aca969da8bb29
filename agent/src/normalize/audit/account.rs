//! Users and groups: what useradd, usermod, passwd, groupadd and their like report.
//!
//! The tools write a record for each file that they touch. One change of one account is one record: what a process
//! repeats of it (`adding user to shadow group` after `adding user to group`) is the same change.

use std::collections::VecDeque;

use serde_json::json;

use super::deed::{Deed, Failure, Kind};
use super::view::View;
use super::{Context, Decoder};
use crate::normalize::act::{self, class};
use crate::sources::audit::kinds;

/// Changes that were recorded of late: what a process repeats of them is no other.
#[derive(Debug, Default)]
pub struct Changes {
    recent: VecDeque<Change>,
}

#[derive(Debug, PartialEq, Eq)]
struct Change {
    pid: u32,
    name: &'static str,
    account: String,
    operation: String,
    /// Unix seconds.
    time: u64,
}

/// A tool finishes within this many seconds; a pid is not used again so soon.
const CHANGE_MAX: u64 = 10;

const RECENT_MAX: usize = 128;

/// What a record says is changed: eventName, whether a group, the class of its act.
#[derive(Clone, Copy)]
struct Meaning {
    name: &'static str,
    group: bool,
    class: Option<&'static str>,
}

impl Changes {
    /// Whether this is a change that was not recorded yet.
    fn is_new(&mut self, change: Change) -> bool {
        self.recent.retain(|recent| change.time.saturating_sub(recent.time) <= CHANGE_MAX);
        let same = |recent: &Change| {
            (recent.pid, recent.name, &recent.account, &recent.operation)
                == (change.pid, change.name, &change.account, &change.operation)
        };
        if self.recent.iter().any(same) {
            return false;
        }
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(change);
        true
    }
}

impl Decoder {
    /// ADD_USER … GRP_CHAUTHTOK; and USER_ACCT, which Debian's group tools use. A step where the change has its record.
    pub(super) fn account(&mut self, context: &mut Context<'_>, view: &View<'_>) -> Deed {
        let operation = view.primary().and_then(|fields| fields.raw("op")).unwrap_or_default().to_owned();
        let membership = membership(&operation);
        let Meaning { name, group, class } =
            membership.as_ref().map_or_else(|| meaning(view, &operation), |member| member.meaning);
        let account = membership.as_ref().map_or_else(|| account_name(context, view, group), |member| member.user.to_owned());
        // One creation or deletion a process and account, whatever it still does for it; other changes by what they are.
        let is_whole =
            matches!(name, "CreateUser" | "DeleteUser" | "CreateGroup" | "DeleteGroup" | "ModifyGroup" | "ChangePassword");
        let change = Change {
            pid: view.id("pid").unwrap_or(0),
            name,
            account: account.clone(),
            operation: if is_whole { String::new() } else { plain(&operation) },
            time: context.seconds(),
        };
        let is_new = self.changes.is_new(change);
        let mut deed = Deed::new(view.event_source(), name, Kind::Management, view.actor(context.names));
        let (label, kind, folder) =
            if group { ("groupName", "Host::Group", "group") } else { ("userName", "Host::User", "user") };
        deed.parameter(label, (!account.is_empty()).then(|| account.clone()));
        deed.parameter("id", view.primary().and_then(|fields| fields.number::<u32>("id")));
        let of_group = membership.as_ref().map(|member| member.group.to_owned());
        deed.parameter("group", of_group.or_else(|| view.get("grp").map(|group| group.into_owned())));
        deed.parameter("operation", (!operation.is_empty()).then(|| operation.clone()));
        self.describe(view, &mut deed);
        if view.succeeded() == Some(false) {
            deed.error = Some(Failure { code: "Failed".to_owned(), message: Some(format!("{} failed", view.program())) });
        } else {
            deed.response = Some(json!({"result": "success"}));
        }
        deed.resource(context.host, kind, &format!("{folder}/{account}"));
        deed.act = class.map(|class| act::account(class, &account, context.event.stamp.nanoseconds()));
        if is_new { deed } else { deed.step() }
    }
}

/// gpasswd's words: who was added to a group, or removed from it.
struct Membership<'a> {
    meaning: Meaning,
    user: &'a str,
    group: &'a str,
}

/// `user bob added by root to group adm`
fn membership(operation: &str) -> Option<Membership<'_>> {
    let rest = operation.strip_prefix("user ")?;
    let kinds = [(" added by ", " to group ", "AddUserToGroup"), (" removed by ", " from group ", "RemoveUserFromGroup")];
    kinds.into_iter().find_map(|(mark, end, name)| {
        let (user, by) = rest.split_once(mark)?;
        let (_, group) = by.split_once(end)?;
        Some(Membership { meaning: Meaning { name, group: false, class: Some(class::MODIFY_USER) }, user, group })
    })
}

/// Whether a USER_ACCT record is a group tool's report, not PAM's.
pub fn is_group_change(view: &View<'_>) -> bool {
    matches!(view.program().as_str(), "gpasswd" | "groupmod" | "groupmems") && view.kind() == kinds::USER_ACCT
}

fn meaning(view: &View<'_>, operation: &str) -> Meaning {
    let of = |name, group, class| Meaning { name, group, class };
    let program = view.program();
    match view.kind() {
        kinds::ADD_USER => of("CreateUser", false, Some(class::CREATE_USER)),
        kinds::DEL_USER => of("DeleteUser", false, Some(class::DELETE_USER)),
        kinds::ADD_GROUP => of("CreateGroup", true, Some(class::CREATE_GROUP)),
        kinds::DEL_GROUP => of("DeleteGroup", true, Some(class::DELETE_GROUP)),
        kinds::GRP_MGMT | kinds::GRP_CHAUTHTOK | kinds::USER_ACCT => of("ModifyGroup", true, Some(class::MODIFY_GROUP)),
        kinds::ACCT_LOCK => of("LockUser", false, Some(class::MODIFY_USER)),
        kinds::ACCT_UNLOCK => of("UnlockUser", false, Some(class::MODIFY_USER)),
        kinds::USER_CHAUTHTOK
            if operation.contains("chauthtok")
                || operation.contains("password")
                || program == "passwd"
                || program == "chpasswd" =>
        {
            of("ChangePassword", false, Some(class::CHANGE_PASSWORD))
        }
        _ => of("ModifyUser", false, Some(class::MODIFY_USER)),
    }
}

/// The account by name; by its id where the tool knows no more.
fn account_name(context: &mut Context<'_>, view: &View<'_>, group: bool) -> String {
    if let Some(name) = view.get("acct").or_else(|| view.get("ID")) {
        return name.into_owned();
    }
    let Some(id) = view.primary().and_then(|fields| fields.number::<u32>("id")) else { return String::new() };
    if matches!(view.kind(), kinds::ADD_USER | kinds::ADD_GROUP) {
        // The id may have been another's until now.
        context.names.look_anew();
    }
    let name = if group { context.names.group(id) } else { context.names.user(id) };
    name.unwrap_or_else(|| id.to_string())
}

/// An operation without the file that it touched.
fn plain(operation: &str) -> String {
    operation.split(' ').filter(|word| *word != "shadow" && !word.starts_with("/etc/")).collect::<Vec<_>>().join(" ")
}
