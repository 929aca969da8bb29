//! Linux-PAM's modules, which speak under the identifier of the program that uses them.
//!
//! `pam_unix(sshd:session): session closed for user alice`; until Linux-PAM 0.99 the identifier was `sshd(pam_unix)`,
//! which the reader of syslog lines turns into today's form. Sources: pam_unix's support.c and pam_unix_sess.c, pam_sss,
//! pam_faillock, pam_tally2, pam_access, pam_succeed_if, pam_listfile.

use super::{By, Change, Said, Statement, Thing, between, plain, quoted, word_after};

/// Services whose own program reports the login better than PAM does; `remote` is login's for who comes from elsewhere.
const LOGINS: &[&str] = &["sshd", "dropbear", "remote"];

/// Services whose own program reports a refused login. A login itself login(1) often does not: Debian's is silent.
const REFUSALS: &[&str] = &["login"];

/// Services that log somebody in at the host; gdm's have names of their own ([`is_console`]).
const CONSOLES: &[&str] = &[
    "login",
    "gdm",
    "lightdm",
    "lightdm-autologin",
    "sddm",
    "sddm-autologin",
    "kdm",
    "xdm",
    "lxdm",
    "greetd",
    "xrdp-sesman",
    "cockpit",
    "vsftpd",
    "proftpd",
    "ftp",
    "rlogin",
    "rexec",
];

/// gdm's service for its greeter, which nobody logs in with.
const GREETER: &str = "gdm-launch-environment";

const SWITCHES: &[&str] = &["su", "su-l", "runuser", "runuser-l"];

/// What login(1) is called before anybody logged in.
const NOBODY: &str = "LOGIN";

/// None where the message is not PAM's; some none where it is and says nothing.
#[expect(clippy::option_option, reason = "the outer tells whose message it is")]
pub(super) fn read(program: &str, message: &str) -> Option<Option<Statement>> {
    // sshd counts what it did not say: `PAM 5 more authentication failures; logname= … rhost=192.0.2.1  user=root`
    if message.starts_with("PAM ") && message.contains("more authentication failure") {
        return Some(Some(Statement::step(refusal(program, message, "More authentication failures"))));
    }
    let (head, text) = message.split_once(": ")?;
    let (module, service) = head.strip_suffix(')')?.split_once('(')?;
    if !module.starts_with("pam_") {
        return None;
    }
    let (service, stage) = service.split_once(':').unwrap_or((service, ""));
    Some(said(module, service, stage, text))
}

fn said(module: &str, service: &str, stage: &str, text: &str) -> Option<Statement> {
    if let Some(rest) = text.strip_prefix("session opened for user ") {
        return Some(opened(service, rest));
    }
    if let Some(rest) = text.strip_prefix("session closed for user ") {
        return Some(closed(service, plain(rest.split_whitespace().next()?)));
    }
    if let Some(rest) = text.strip_prefix("password changed for ") {
        return Change::of("ChangePassword", Thing::User, rest.split_whitespace().next()?).said();
    }
    // Its program says the same with more.
    let is_step = LOGINS.contains(&service) || SWITCHES.contains(&service);
    let failed = |user: &str, why: &str| {
        let said = Said::AuthenticationFailure {
            program: service.to_owned(),
            by: By::named(user.trim_end_matches(['\'', '"', ',', ')', ']'])),
            user: user.trim_end_matches(['\'', '"', ',', ')', ']']).to_owned(),
            tty: String::new(),
            address: String::new(),
            // PAM names only whom it knows.
            is_unknown: false,
            why: why.to_owned(),
        };
        Some(Statement { is_step, ..Statement::of(said) })
    };
    if text.contains("authentication failure") && text.contains("rhost=") {
        let is_step = is_step || REFUSALS.contains(&service);
        return Some(Statement { is_step, ..Statement::of(refusal(service, text, "Failed authentication")) });
    }
    // pam_tally2: `user zbadguy (4001) tally 6, deny 5`; pam_faillock: `Consecutive login failures for user bob account temporarily locked`
    if text.contains(" tally ") {
        return failed(word_after(text, "user ")?, "Account locked after failures");
    }
    if text.contains("Consecutive login failures for user ") {
        return failed(word_after(text, "for user ")?, "Account locked after failures");
    }
    // pam_access: ``access denied for user `bob' from `ssh'``; pam_sss: `Access denied for user bob: 6 (Permission denied)`
    if let Some(rest) = text.strip_prefix("access denied for user ").or_else(|| text.strip_prefix("Access denied for user ")) {
        return failed(quoted(rest)?.trim_end_matches(':'), "Access denied");
    }
    // pam_succeed_if: `requirement "uid >= 1000" not met by user "root"`
    if let Some((_, rest)) = text.split_once(" not met by user ") {
        return Some(Statement { is_step: true, ..failed(quoted(rest)?, "Requirement not met")? });
    }
    // pam_listfile: `Refused user root for service sshd`
    if let Some(rest) = text.strip_prefix("Refused user ") {
        return failed(rest.split_whitespace().next()?, "Refused by a list");
    }
    // `account bob has expired (account expired)`, `expired password for user bob (…)`
    if let Some(rest) = text.strip_prefix("account ").filter(|_| text.contains(" has expired")) {
        return failed(rest.split_whitespace().next()?, "Account expired");
    }
    if let Some(rest) = text.strip_prefix("expired password for user ") {
        return Some(Statement { is_step: true, ..failed(rest.split_whitespace().next()?, "Password expired")? });
    }
    // Said besides the failure itself, some with less.
    let step = |user: &str, why: &str| Some(Statement { is_step: true, ..failed(user, why)? });
    match text {
        "check pass; user unknown" => step("", "User unknown"),
        _ if text.starts_with("bad username ") => step("", "Bad user name"),
        // pam_sss says it twice.
        _ if module == "pam_sss" && text.starts_with("received for user ") => {
            step(between(text, "for user ", ":").unwrap_or_default(), text.rsplit_once(": ").map_or("", |(_, why)| why))
        }
        _ if text.starts_with("auth could not identify password for ") => {
            step(between(text, "[", "]").unwrap_or_default(), "No password given")
        }
        _ if stage == "auth" && text.starts_with("Invalid verification code for ") => failed(word_after(text, " for ")?, text),
        _ => None,
    }
}

/// `root(uid=0) by alice(uid=1000)`, `root by (uid=0)`
fn opened(service: &str, rest: &str) -> Statement {
    let (target, by) = rest.split_once(" by ").unwrap_or((rest, ""));
    let uid = between(by, "(uid=", ")").and_then(|uid| uid.parse().ok());
    let target = plain(target).to_owned();
    if SWITCHES.contains(&service) {
        // The program's own message says the same where it has one (util-linux's su); PAM's is always there.
        let by = By { name: plain(by).to_owned(), uid };
        return Statement::of(Said::SwitchUser { by, target, tty: String::new(), is_refused: false });
    }
    if is_console(service) {
        let (address, port, method) = (String::new(), String::new(), String::new());
        return Statement::of(Said::Login { user: target, address, port, method, key: None });
    }
    let program = service.to_owned();
    Statement::step(Said::Session { name: "StartSession", program, user: target, session: String::new() })
}

fn closed(service: &str, user: &str) -> Statement {
    if LOGINS.contains(&service) || is_console(service) {
        return Statement::of(Said::Logout { user: user.to_owned() });
    }
    let (program, user) = (service.to_owned(), user.to_owned());
    Statement::step(Said::Session { name: "EndSession", program, user, session: String::new() })
}

/// Whether a service logs somebody in at the host.
fn is_console(service: &str) -> bool {
    CONSOLES.contains(&service) || (service.starts_with("gdm-") && service != GREETER)
}

/// `authentication failure; logname=… uid=0 euid=0 tty=ssh ruser=… rhost=192.0.2.1  user=root`. `user` is whom the proof
/// was for. Within the host whoever runs the program asked for it; who comes from elsewhere, or logs in, asks as that user.
fn refusal(service: &str, text: &str, why: &str) -> Said {
    let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_default();
    let (address, user, is_login) = (field("rhost="), field("user="), LOGINS.contains(&service) || is_console(service));
    let (by, user, is_unknown) = match (address, is_login) {
        ("", false) => {
            let name = [field("ruser="), field("logname=")].into_iter().find(|name| !matches!(*name, "" | NOBODY));
            // A server that runs as root asks for a peer whom it does not tell.
            let uid = field("uid=").parse().ok().filter(|uid| *uid != 0);
            let by = match (name, uid) {
                (None, Some(uid)) => By { name: String::new(), uid: Some(uid) },
                (name, _) => By::named(name.unwrap_or(user)),
            };
            (by, user, false)
        }
        // pam_unix names no user that the host does not know; what the peer calls itself is its own word.
        _ if user.is_empty() => (By::named(field("ruser=")), field("ruser="), true),
        _ => (By::named(user), user, false),
    };
    Said::AuthenticationFailure {
        program: service.to_owned(),
        by,
        user: user.to_owned(),
        tty: field("tty=").to_owned(),
        address: address.to_owned(),
        is_unknown,
        why: why.to_owned(),
    }
}
