//! Logins at the host itself, and logind's sessions.
//!
//! Sources: util-linux's and shadow's login.c, systemd's logind-session.c and logind-dbus.c.

use super::{Change, Said, Statement, Thing, between, word_after};

pub(super) fn login(message: &str) -> Option<Statement> {
    // Of a login at the host PAM's session stands for it, which is always told; only the program knows whence one came.
    let came_in = |user: &str, address: &str| {
        let (user, address) = (user.to_owned(), address.to_owned());
        let is_step = address.is_empty();
        let said = Said::Login { user, address, port: String::new(), method: "password".to_owned(), key: None };
        Some(Statement { is_step, ..Statement::of(said) })
    };
    if let Some(rest) = message.strip_prefix("LOGIN ON ").or_else(|| message.strip_prefix("DIALUP AT ")) {
        return came_in(word_after(rest, " BY ")?, from(rest));
    }
    if message.starts_with("ROOT LOGIN") {
        return came_in("root", from(message));
    }
    // `'bob' logged in on '/dev/tty1'`
    if let Some((user, rest)) = message.strip_prefix('\'').and_then(|rest| rest.split_once("' logged in")) {
        return came_in(user, from(rest));
    }
    let is_failed = message.starts_with("FAILED LOGIN") || message.starts_with("TOO MANY LOGIN TRIES");
    is_failed.then(|| {
        // `FAILED LOGIN 1 FROM tty1 FOR bob, Authentication failure`, `FAILED LOGIN (1) on '/dev/tty1' FOR 'bob', …`
        let user =
            between(message, "FOR '", "'").or_else(|| between(message, "FOR (", ")")).or_else(|| word_after(message, "FOR "));
        let user = user.unwrap_or_default().trim_end_matches(',').to_owned();
        let is_unknown = message.contains("User not known") || user == "UNKNOWN" || user == "unknown";
        // What was typed for a name stands behind.
        let address = from(message.split_once(" FOR ").map_or(message, |(head, _)| head)).to_owned();
        let (method, why) = ("password".to_owned(), "Failed authentication".to_owned());
        Statement::of(Said::LoginFailure { user, address, port: String::new(), method, is_unknown, why })
    })
}

/// The peer of `… FROM 192.0.2.1` or `… from '192.0.2.1'`; a terminal is none.
fn from(text: &str) -> &str {
    let peer = between(text, " from '", "'").or_else(|| word_after(text, " FROM ")).unwrap_or_default();
    if peer.starts_with("tty") || peer.starts_with(['/', '(']) { "" } else { peer }
}

/// `New session 5 of user alice.`, `Removed session 5.`, `System is rebooting.`
pub(super) fn logind(message: &str) -> Option<Statement> {
    let session = |name, user: &str, session: &str| {
        let (user, session) = (user.trim_matches('\'').to_owned(), session.trim_matches('\'').to_owned());
        Some(Statement::of(Said::Session { name, program: "systemd-logind".to_owned(), user, session }))
    };
    // Newer ones say the class: `New session '5' of user 'alice' with class 'user' and type 'tty'.`
    if let Some((id, user)) = message.strip_prefix("New session ").and_then(|rest| rest.split_once(" of user ")) {
        return session("StartSession", user.split(" with class").next().unwrap_or(user).trim_end_matches('.'), id);
    }
    if let Some(id) = message.strip_prefix("Removed session ") {
        return session("EndSession", "", id.trim_end_matches('.'));
    }
    let stops = [
        "System is rebooting",
        "System is powering down",
        "System is halting",
        "Rebooting",
        "Powering Off",
        "Powering off",
        "Halting",
    ];
    let how = stops.iter().find(|start| message.starts_with(**start))?;
    Change { is_own: true, ..Change::of("StopHost", Thing::Host, "").with("how", how.to_lowercase()) }.said()
}
