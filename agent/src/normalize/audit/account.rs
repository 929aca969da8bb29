//! Users and groups: what useradd, usermod, passwd, groupadd and their like report.
//!
//! The tools write a record for each file that they touch. One change of one account is one record: what a process
//! repeats of it (`adding user to shadow group` after `adding user to group`) is the same change. shadow has two
//! vocabularies: `adding user to group` as Debian builds it, `add-user-to-group` as RHEL does and its authors now do.

use std::collections::VecDeque;

use serde_json::json;

use super::deed::{Deed, Failure, Kind};
use super::view::View;
use super::{Context, Memory};
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
    /// Whether a process has reported a change.
    fn has(&self, pid: u32, time: u64) -> bool {
        self.recent.iter().any(|recent| recent.pid == pid && time.saturating_sub(recent.time) <= CHANGE_MAX)
    }

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

impl Memory {
    /// ADD_USER … GRP_CHAUTHTOK; and USER_ACCT, which Debian's group tools use. A step where the change has its record.
    pub(super) fn account(&mut self, context: &mut Context<'_>, view: &View<'_>) -> Deed {
        let operation = view.primary().and_then(|fields| fields.raw("op")).unwrap_or_default().to_owned();
        let words = operation.replace('-', " ");
        let membership = Membership::of(view, &words);
        let Meaning { name, group, class } = membership.as_ref().map_or_else(|| meaning(view, &words), |member| member.meaning);
        let told = membership.as_ref().and_then(|member| member.user.clone());
        let account = told.unwrap_or_else(|| account_name(context, view, group));
        let pid = view.id("pid").unwrap_or(0);
        let is_detail = is_detail(&words) && self.changes.has(pid, context.seconds());
        // One creation or deletion a process and account, whatever it still does for it; other changes by what they are.
        let is_whole =
            matches!(name, "CreateUser" | "DeleteUser" | "CreateGroup" | "DeleteGroup" | "ModifyGroup" | "ChangePassword");
        let change_of = match &membership {
            // Where the tool does not name the group, each report is another's.
            Some(member) => member.group.clone().unwrap_or_else(|| context.event.stamp.to_string()),
            None if is_whole => String::new(),
            None => plain(&words),
        };
        let change = Change { pid, name, account: account.clone(), operation: change_of, time: context.seconds() };
        let is_new = !is_detail && self.changes.is_new(change);
        let mut deed = Deed::new(view.event_source(), name, Kind::Management, view.actor(context.names));
        let (label, kind, folder) =
            if group { ("groupName", "Host::Group", "group") } else { ("userName", "Host::User", "user") };
        deed.parameter(label, (!account.is_empty()).then(|| account.clone()));
        deed.parameter("id", view.primary().and_then(|fields| fields.number::<u32>("id")));
        let of_group = membership.and_then(|member| member.group);
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

/// Who was added to a group, or removed from it.
struct Membership {
    meaning: Meaning,
    /// Where the words name the user.
    user: Option<String>,
    group: Option<String>,
}

impl Membership {
    fn of(view: &View<'_>, words: &str) -> Option<Self> {
        Self::of_sentence(words).or_else(|| Self::of_operation(view, words))
    }

    /// gpasswd's words: `user bob added by root to group adm`, `gpasswd failed to add user bob to group adm`.
    fn of_sentence(words: &str) -> Option<Self> {
        let done = words.strip_prefix("user ").and_then(|rest| {
            let kinds = [(" added by ", " to group ", "AddUserToGroup"), (" removed by ", " from group ", "RemoveUserFromGroup")];
            kinds.into_iter().find_map(|(mark, end, name)| {
                let (user, by) = rest.split_once(mark)?;
                Some((name, user, by.split_once(end)?.1))
            })
        });
        let failed = words.split_once(" failed to ").and_then(|(_, rest)| {
            let kinds = [("add user ", " to group ", "AddUserToGroup"), ("remove user ", " from group ", "RemoveUserFromGroup")];
            kinds.into_iter().find_map(|(mark, end, name)| {
                let (user, group) = rest.strip_prefix(mark)?.split_once(end)?;
                Some((name, user, group.split(' ').next()?))
            })
        });
        let (name, user, group) = done.or(failed)?;
        Some(Self { meaning: Meaning::of_member(name), user: Some(user.to_owned()), group: Some(group.to_owned()) })
    }

    /// `add user to group`, `deleting user from group`; the user is the record's. A deletion of the user deletes what it
    /// was a member of too, without a word on which.
    fn of_operation(view: &View<'_>, words: &str) -> Option<Self> {
        if !matches!(view.kind(), kinds::ADD_USER | kinds::USER_MGMT | kinds::USER_CHAUTHTOK) {
            return None;
        }
        let mut words = words.split(' ');
        let name = match words.next()? {
            "add" | "adding" | "added" => "AddUserToGroup",
            "delete" | "deleting" | "deleted" | "remove" | "removing" | "removed" => "RemoveUserFromGroup",
            _ => return None,
        };
        let rest: Vec<&str> = words.collect();
        let is_membership = matches!(rest.as_slice(), ["user", "to" | "from", "group"]);
        let group = || view.get("grp").map(|group| group.into_owned());
        is_membership.then(|| Self { meaning: Meaning::of_member(name), user: None, group: group() })
    }
}

impl Meaning {
    const fn of_member(name: &'static str) -> Self {
        Self { name, group: false, class: Some(class::MODIFY_USER) }
    }
}

/// Whether a tool's words are of what belongs to a change that it has told: the shadow files, the new user's directory.
fn is_detail(words: &str) -> bool {
    let begins = ["add", "delet", "remov"].iter().any(|verb| words.starts_with(verb));
    begins && ["shadow", "home", "mail", "subordinate", "sub uid", "sub gid"].iter().any(|part| words.contains(part))
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

/// The account by name; by its id where nobody knows more. What a tool says of a new account is kept for its end: the file
/// may be read between the two, or not.
fn account_name(context: &mut Context<'_>, view: &View<'_>, group: bool) -> String {
    let id = view.primary().and_then(|fields| fields.number::<u32>("id"));
    let group_name = || if group { view.get("grp") } else { None };
    if let Some(name) = view.get("acct").or_else(group_name) {
        if let (kinds::ADD_USER | kinds::ADD_GROUP, Some(id)) = (view.kind(), id) {
            learn(context, group, id, &name);
        }
        return name.into_owned();
    }
    if let Some(name) = view.named("ID") {
        return name;
    }
    let Some(id) = id else { return String::new() };
    let names = &mut context.names;
    let name = match (view.kind(), group) {
        (kinds::DEL_USER, _) => names.former_user(id),
        (kinds::DEL_GROUP, _) => names.former_group(id),
        (kind, group) => {
            if matches!(kind, kinds::ADD_USER | kinds::ADD_GROUP) {
                // The id may have been another's until now.
                names.look_anew();
            }
            if group { names.group(id) } else { names.user(id) }
        }
    };
    if let (kinds::ADD_USER | kinds::ADD_GROUP, Some(name)) = (view.kind(), &name) {
        learn(context, group, id, name);
    }
    name.unwrap_or_else(|| id.to_string())
}

fn learn(context: &mut Context<'_>, group: bool, id: u32, name: &str) {
    if group { context.names.learn_group(id, name) } else { context.names.learn_user(id, name) }
}

/// An operation without the file that it touched.
fn plain(operation: &str) -> String {
    operation.split(' ').filter(|word| *word != "shadow" && !word.starts_with("/etc/")).collect::<Vec<_>>().join(" ")
}
