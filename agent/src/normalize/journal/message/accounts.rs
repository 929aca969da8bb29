//! The shadow suite: users and groups.
//!
//! Sources: shadow's useradd.c, usermod.c, userdel.c, groupadd.c, gpasswd.c, passwd.c, chage.c, chfn.c, chsh.c, vipw.c.

use super::{Change, Statement, Thing, between, quoted, word_after};

pub(super) fn shadow(message: &str) -> Option<Statement> {
    // `failed adding user 'bob', exit code: 9`
    if let Some(rest) = message.strip_prefix("failed ").filter(|rest| rest.contains(" user ") || rest.contains(" group ")) {
        return failed(rest);
    }
    // vipw: `file /etc/passwd edited`
    if let Some(file) = message.strip_prefix("file ").and_then(|rest| rest.strip_suffix(" edited")) {
        return Change::of("ModifyFile", Thing::File, file).said();
    }
    // groupmod: `group changed in /etc/group (group g/1003, new name: h)`, and once more for /etc/gshadow
    if let Some((file, rest)) = message.strip_prefix("group changed in ").and_then(|rest| rest.split_once(" (group ")) {
        let group = rest.split(['/', ',', ')']).next().unwrap_or_default();
        let change = Change::of("ModifyGroup", Thing::Group, group).with("change", rest.trim_end_matches(')'));
        return Some(Statement { is_step: file.ends_with("gshadow"), ..change.said()? });
    }
    let change = created(message).or_else(|| membership(message)).or_else(|| group_changed(message)).or_else(|| changed(message));
    change.and_then(Change::said)
}

fn failed(rest: &str) -> Option<Statement> {
    let (verb, rest) = rest.split_once(' ')?;
    let (what, rest) = rest.split_once(' ')?;
    let (thing, name) = match (verb, what) {
        ("adding", "user") => (Thing::User, "CreateUser"),
        ("deleting", "user") => (Thing::User, "DeleteUser"),
        ("adding", "group") => (Thing::Group, "CreateGroup"),
        ("deleting", "group") => (Thing::Group, "DeleteGroup"),
        _ => return None,
    };
    let why = rest.split_once("exit code: ").map_or_else(String::new, |(_, code)| format!("exit code {code}"));
    Change { failure: Some(("Failed", why)), ..Change::of(name, thing, quoted(rest)?.trim_end_matches(',')) }.said()
}

fn created(message: &str) -> Option<Change> {
    let field = |name: &str| between(&format!("{message}, "), &format!("{name}="), ", ").map(str::to_owned);
    let with = |change: Change, list: &[(&'static str, &str)]| {
        list.iter()
            .filter_map(|(to, from)| Some((*to, field(from)?)))
            .fold(change, |change, (key, value)| change.with(key, value))
    };
    if message.starts_with("new user: ") {
        let list = [("uid", "UID"), ("gid", "GID"), ("home", "home"), ("shell", "shell")];
        return Some(with(Change::of("CreateUser", Thing::User, &field("name")?), &list));
    }
    if message.starts_with("new group: ") {
        return Some(with(Change::of("CreateGroup", Thing::Group, &field("name")?), &[("gid", "GID")]));
    }
    if let Some(rest) = message.strip_prefix("delete user ") {
        return Some(Change::of("DeleteUser", Thing::User, quoted(rest)?));
    }
    for prefix in ["removed group ", "group "] {
        let Some(rest) = message.strip_prefix(prefix) else { continue };
        let is_removed = prefix == "removed group " || rest.ends_with(" removed");
        return is_removed.then(|| quoted(rest).map(|group| Change::of("DeleteGroup", Thing::Group, group)))?;
    }
    None
}

fn membership(message: &str) -> Option<Change> {
    if let Some((user, group)) = message.strip_prefix("add ").and_then(|rest| rest.split_once(" to group ")) {
        return Some(Change::of("AddUserToGroup", Thing::User, quoted(user)?).with("group", quoted(group)?));
    }
    if let Some((user, group)) = message.strip_prefix("delete ").and_then(|rest| rest.split_once(" from group ")) {
        return Some(Change::of("RemoveUserFromGroup", Thing::User, quoted(user)?).with("group", quoted(group)?));
    }
    // gpasswd: `user bob added by root to group sudo`
    let rest = message.strip_prefix("user ")?;
    for (mark, end, name) in
        [(" added by ", " to group ", "AddUserToGroup"), (" removed by ", " from group ", "RemoveUserFromGroup")]
    {
        if let Some((user, tail)) = rest.split_once(mark) {
            let (by, group) = tail.split_once(end)?;
            return Some(Change { by: by.to_owned(), ..Change::of(name, Thing::User, user).with("group", group) });
        }
    }
    None
}

/// gpasswd: `members of group adm set by root to bob,eve`, `password of group adm removed by bob`, `access to group adm
/// restricted by bob`; refused `eve failed to change password of group adm`. Which file it was in may follow.
fn group_changed(message: &str) -> Option<Change> {
    let change = |by: &str, group: &str, what: &str| Change {
        by: by.trim().to_owned(),
        ..Change::of("ModifyGroup", Thing::Group, group).with("change", what)
    };
    let whole = message.split(" in /").next().unwrap_or(message);
    if let Some((by, what)) = whole.split_once(" failed to ") {
        let group = word_after(what, "group ")?;
        return Some(Change { failure: Some(("Failed", what.to_owned())), ..change(by, group, what.split(" to ").next()?) });
    }
    let (what, rest) = ["members of group ", "administrators of group ", "password of group ", "access to group "]
        .iter()
        .find_map(|start| Some((start.split(' ').next()?, whole.strip_prefix(start)?)))?;
    let (group, how) = rest.split_once(' ')?;
    let (verb, by) = how.split_once(" by ")?;
    let (by, value) = by.split_once(" to ").unwrap_or((by, ""));
    let change = change(by, group, &format!("{what} {verb}"));
    Some(if value.is_empty() { change } else { change.with("value", value) })
}

fn changed(message: &str) -> Option<Change> {
    // `change user name 'bob' to 'rob'`, `change user 'bob' shell from '/bin/sh' to '/bin/bash'`
    if let Some((user, name)) = message.strip_prefix("change user name ").and_then(|rest| rest.split_once(" to ")) {
        let change = Change::of("ModifyUser", Thing::User, quoted(user)?);
        return Some(change.with("change", format!("name to {}", quoted(name)?)));
    }
    if let Some(rest) = message.strip_prefix("change user ") {
        let user = quoted(rest)?;
        let what = rest.get(user.len() + 2..).unwrap_or_default().trim();
        // As the kernel has it.
        if what == "password" {
            return Some(Change::of("ChangePassword", Thing::User, user));
        }
        return Some(Change::of("ModifyUser", Thing::User, user).with("change", what));
    }
    for (prefix, what) in [
        ("lock user ", "lock"),
        ("unlock user ", "unlock"),
        ("changed password expiry for ", "password expiry"),
        ("changed user ", ""),
    ] {
        if let Some(rest) = message.strip_prefix(prefix) {
            let user = quoted(rest)?;
            let what = if what.is_empty() {
                rest.trim_start_matches(['\'', '`']).get(user.len()..).unwrap_or_default().trim_matches(['\'', ' '])
            } else {
                what
            };
            return Some(Change::of("ModifyUser", Thing::User, user).with("change", what));
        }
    }
    let rest = message.strip_prefix("password for ").filter(|rest| rest.contains(" changed by "))?;
    let by = rest.split_once(" changed by ").and_then(|(_, by)| quoted(by)).unwrap_or_default().to_owned();
    Some(Change { by, ..Change::of("ChangePassword", Thing::User, quoted(rest)?) })
}
