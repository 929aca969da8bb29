//! sshd and dropbear.
//!
//! Sources: OpenSSH's auth.c, auth2.c, packet.c, sshd.c, session.c; dropbear's svr-auth*.c, svr-session.c.

use super::{By, Part, Said, Statement, between, quoted, word_after};

/// Steps before anybody is named: whoever connected was not let in.
const TURNED_AWAY: &[(&str, &str)] = &[
    ("Unable to negotiate with ", "no algorithm in common"),
    ("fatal: Unable to negotiate with ", "no algorithm in common"),
    ("Unable to negotiate a key exchange method", "no algorithm in common"),
    ("banner exchange: Connection from ", "banner exchange"),
    ("Bad protocol version identification ", "bad protocol version identification"),
    ("Bad remote protocol version identification: ", "bad protocol version identification"),
    ("Protocol major versions differ for ", "protocol major versions differ"),
    ("Magic value check failed ", "magic value check failed on obfuscated handshake"),
    ("Timeout before authentication for ", "timeout before authentication"),
    ("fatal: Timeout before authentication for ", "timeout before authentication"),
    ("drop connection ", "connection dropped"),
    ("refused connect from ", "refused connect"),
];

/// Ends of connections that tell no user.
const ENDS: &[&str] = &[
    "Connection closed by ",
    "Connection reset by ",
    "Disconnected from ",
    "Received disconnect from ",
    "Disconnecting ",
    "Connection from ",
    "Did not receive identification string from ",
    "ssh_dispatch_run_fatal: Connection from ",
];

pub(super) fn server(message: &str) -> Option<Statement> {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    // `Accepted publickey for alice from 192.0.2.1 port 1 ssh2: ED25519 SHA256:…`
    if let Some(rest) = message.strip_prefix("Accepted ") {
        let (method, rest) = rest.split_once(" for ")?;
        let (user, peer) = known_from(rest)?;
        let key = peer.tail.split_once(": ").map(|(_, key)| key.trim().to_owned());
        return Some(Statement::of(Said::Login {
            user: user.to_owned(),
            address: peer.address,
            port: peer.port,
            method: method.to_owned(),
            key,
        }));
    }
    attempt(message).or_else(|| turned_away(message)).or_else(|| session(message)).or_else(|| end(message))
}

/// A refused attempt of somebody named.
fn attempt(message: &str) -> Option<Statement> {
    let told = |part: Part, found: Option<Statement>| Some(found?.part(part));
    if let Some(rest) = message.strip_prefix("Failed ") {
        let (method, rest) = rest.split_once(" for ")?;
        let (rest, is_unknown) = unknown(rest);
        let peer = if is_unknown { unknown_from(rest) } else { known_from(rest) };
        return told(Part::Fails, failure(peer?, method, is_unknown, "Failed authentication"));
    }
    for prefix in ["Invalid user ", "Illegal user ", "Invalid user"] {
        if let Some(rest) = message.strip_prefix(prefix) {
            return told(Part::Opens, failure(user_from(rest)?, "", true, "Invalid user"));
        }
    }
    // The right key from the wrong place; newer ones say first in which file the key stands.
    if let Some((_, rest)) =
        message.split_once("Authentication tried for ").filter(|(place, _)| place.is_empty() || place.ends_with(": "))
    {
        let user = rest.split_once(" with correct key but not from a permitted host").map(|(user, _)| user)?;
        let address = rest.rsplit_once("ip=").map_or("", |(_, rest)| rest.split([',', ')']).next().unwrap_or_default());
        let refusal = failure((user, Peer::at(address)), "publickey", false, "Not from a permitted host");
        return told(Part::Opens, refusal);
    }
    // `User alice from 192.0.2.1 not allowed because not listed in AllowUsers`; older ones without the address
    if let Some((who, why)) = message.strip_prefix("User ").and_then(|rest| rest.split_once(" not allowed because ")) {
        let (user, address) = who.rsplit_once(" from ").unwrap_or((who, ""));
        return told(Part::Opens, failure((user, Peer::at(address)), "", false, why));
    }
    if let Some(rest) = message.strip_prefix("maximum authentication attempts exceeded for ") {
        let (rest, is_unknown) = unknown(rest);
        return told(Part::Closes, failure(user_from(rest)?, "", is_unknown, "Maximum authentication attempts exceeded"));
    }
    if let Some(rest) = message.strip_prefix("ROOT LOGIN REFUSED FROM ") {
        return failure(("root", Peer::of(rest)), "", false, "Root login refused");
    }
    if let Some(rest) =
        message.strip_prefix("fatal: Access denied for user ").or_else(|| message.strip_prefix("Access denied for user "))
    {
        let (user, why) = rest.split_once(" by ")?;
        return told(Part::Closes, failure((user, Peer::default()), "", false, why.trim_end_matches(" [preauth]")));
    }
    // PAM's word under sshd's name; `Failed keyboard-interactive/pam …` follows it.
    if let Some((why, rest)) = message.strip_prefix("PAM: ").and_then(|rest| rest.split_once(" for ")) {
        let (rest, is_unknown) = unknown(rest);
        let (user, peer) = user_from(rest)?;
        return Some(refused_step(user, peer.address, is_unknown, why));
    }
    // `Connection closed by authenticating user root 192.0.2.1 port 1 [preauth]`, also `Disconnected from`, `reset by`
    let starts = ["Connection closed by ", "Connection reset by ", "Disconnected from ", "Disconnecting "];
    let rest = starts.iter().find_map(|start| message.strip_prefix(start))?;
    let (rest, is_unknown) = match (rest.strip_prefix("authenticating user "), rest.strip_prefix("invalid user ")) {
        (Some(rest), _) => (rest, false),
        (None, rest) => (rest?, true),
    };
    let (user, tail) = rest.rsplit_once(" port ")?;
    let (user, address) = user.rsplit_once(' ').unwrap_or(("", user));
    let port = tail.split([' ', ':']).next().unwrap_or_default().to_owned();
    let refusal = failure((user, Peer { port, ..Peer::at(address) }), "", is_unknown, "Disconnected before authentication");
    told(Part::Closes, refusal)
}

fn turned_away(message: &str) -> Option<Statement> {
    let (start, words) = TURNED_AWAY.iter().find(|(start, _)| message.starts_with(start))?;
    let rest = message.get(start.len()..)?;
    // Behind the address sshd says what was wrong.
    let (peer, why) = match *start {
        "Bad protocol version identification " | "Magic value check failed " => (Peer::of(rest.rsplit_once(" from ")?.1), ""),
        "Bad remote protocol version identification: " => (Peer::default(), ""),
        "drop connection " => (Peer::of(rest.split_once(" from ")?.1), rest.rsplit_once(' ').map_or("", |(_, why)| why)),
        "refused connect from " => (Peer::of(between(rest, "(", ")").unwrap_or(rest)), ""),
        "Timeout before authentication for " | "fatal: Timeout before authentication for " => {
            (Peer::of(rest.strip_prefix("connection from ").unwrap_or(rest)), "")
        }
        _ => (Peer::of(rest), rest.split_once(": ").map_or("", |(_, why)| why)),
    };
    let why = why.split(". Their offer").next().unwrap_or_default().trim_end_matches(" [preauth]");
    let why = if why.is_empty() { (*words).to_owned() } else { why.to_owned() };
    let Peer { address, port, .. } = peer;
    let said = Said::LoginFailure { user: String::new(), address, port, method: String::new(), is_unknown: false, why };
    Some(Statement::of(said))
}

/// `Starting session: shell on pts/0 for alice from 192.0.2.1 port 1 id 0`, `Close session: user alice from …`
fn session(message: &str) -> Option<Statement> {
    let (name, rest) = match message.strip_prefix("Starting session: ") {
        Some(rest) => ("StartSession", rest.split_once(" for ")?.1),
        None => ("EndSession", message.strip_prefix("Close session: user ")?),
    };
    let (user, peer) = user_from(rest)?;
    Some(Statement::step(Said::Connection { name, user: user.to_owned(), address: peer.address, port: peer.port, why: None }))
}

fn end(message: &str) -> Option<Statement> {
    if let Some(rest) = message.strip_prefix("Server listening on ") {
        let peer = Peer::of(rest.trim_end_matches('.'));
        return Some(Statement::step(connection("ListenNetwork", "", peer, None)));
    }
    if let Some(rest) = message.strip_prefix("reverse mapping checking getaddrinfo for ") {
        let address = between(rest, "[", "]")?;
        return Some(Statement::step(connection("CheckAddress", "", Peer::at(address), Some("reverse mapping failed"))));
    }
    if let Some((address, _)) = message.strip_prefix("Address ").and_then(|rest| rest.split_once(" maps to ")) {
        return Some(Statement::step(connection("CheckAddress", "", Peer::at(address), Some("the name does not map back"))));
    }
    if let Some(rest) = message.strip_prefix("input_userauth_request: ") {
        let (user, is_unknown) = unknown(rest);
        return Some(refused_step(user.trim_end_matches(" [preauth]"), String::new(), is_unknown, "Invalid user"));
    }
    let too_many =
        message.strip_prefix("Disconnecting: ").unwrap_or(message).strip_prefix("Too many authentication failures for ");
    if let Some(rest) = too_many {
        let (user, is_unknown) = unknown(rest);
        let user = user.split(" from ").next().unwrap_or_default().trim_end_matches(" [preauth]");
        return Some(refused_step(user, String::new(), is_unknown, "Too many authentication failures"));
    }
    let message = message.strip_prefix("fatal: ").unwrap_or(message);
    let start = ENDS.iter().find(|start| message.starts_with(**start))?;
    let rest = message.get(start.len()..)?;
    let is_opened = *start == "Connection from ";
    let (user, rest) = match rest.strip_prefix("user ").and_then(|rest| rest.split_once(' ')) {
        Some((user, rest)) => (user, rest),
        None => ("", rest),
    };
    // Lost before anybody had proven who they are.
    let is_early = message.ends_with("[preauth]") || start.starts_with("Did not") || message.contains("Auth fail");
    let why = is_early.then_some("Disconnected before authentication");
    let peer = Peer::of(rest);
    let is_address = peer.address.contains(['.', ':']);
    is_address.then(|| {
        let name = if is_opened { "OpenConnection" } else { "CloseConnection" };
        Statement::step(connection(name, user, peer, why))
    })
}

/// A refusal that sshd says besides the attempt's own message.
fn refused_step(user: &str, address: String, is_unknown: bool, why: &str) -> Statement {
    let (program, user, why) = ("sshd".to_owned(), user.to_owned(), why.to_owned());
    let (by, tty) = (By::named(&user), String::new());
    Statement::step(Said::AuthenticationFailure { program, by, user, tty, address, is_unknown, why })
}

fn connection(name: &'static str, user: &str, peer: Peer, why: Option<&str>) -> Said {
    let Peer { address, port, .. } = peer;
    Said::Connection { name, user: user.to_owned(), address, port, why: why.map(str::to_owned) }
}

/// Where a message says that somebody came from.
#[derive(Debug, Default)]
struct Peer {
    address: String,
    port: String,
    /// What stands behind the port.
    tail: String,
}

impl Peer {
    fn at(address: &str) -> Self {
        Self { address: address.trim().to_owned(), ..Self::default() }
    }

    /// `192.0.2.1 port 1 ssh2`, `192.0.2.1 [preauth]`, `192.0.2.1:11: Bye`, `[192.0.2.1]:4711 on …`
    fn of(text: &str) -> Self {
        let text = text.trim_start();
        if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            let port = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().to_owned();
            return Self { port, ..Self::at(address) };
        }
        let (address, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let address = address.trim_end_matches([':', ',', ';', '.']);
        // `Received disconnect from 192.0.2.1:11: Bye`: what follows an IPv4 address's colon is the reason.
        let address = match address.split_once(':') {
            Some((v4, _)) if v4.contains('.') && !v4.is_empty() => v4,
            _ => address,
        };
        let rest = rest.trim_start();
        let port = rest.strip_prefix("port ").map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
        Self { address: address.to_owned(), port: port.unwrap_or_default().to_owned(), tail: rest.to_owned() }
    }
}

/// `USER from ADDRESS port PORT …`; the user's name is the peer's word and may hold anything, so the last `from` counts.
fn user_from(rest: &str) -> Option<(&str, Peer)> {
    let (user, tail) = rest.rsplit_once(" from ").or_else(|| rest.trim_start().strip_prefix("from ").map(|tail| ("", tail)))?;
    Some((user.trim(), Peer::of(tail)))
}

/// The same of a user whom the host knows, so that its name has no space: what follows the address may hold anything
/// too (a certificate's key id, a hostbased client's name), so the first `from` counts.
fn known_from(rest: &str) -> Option<(&str, Peer)> {
    let (user, tail) = rest.split_once(" from ")?;
    Some((user.trim(), Peer::of(tail)))
}

/// The same of one whom it does not know, where a key may follow: the last `from` before the key.
fn unknown_from(rest: &str) -> Option<(&str, Peer)> {
    user_from(rest.split_once(" ssh2: ").map_or(rest, |(head, _)| head))
}

fn failure((user, peer): (&str, Peer), method: &str, is_unknown: bool, why: &str) -> Option<Statement> {
    let Peer { address, port, .. } = peer;
    let (user, method, why) = (user.to_owned(), method.to_owned(), why.to_owned());
    Some(Statement::of(Said::LoginFailure { user, address, port, method, is_unknown, why }))
}

fn unknown(rest: &str) -> (&str, bool) {
    let stripped = rest.strip_prefix("invalid user ").or_else(|| rest.strip_prefix("illegal user "));
    (stripped.unwrap_or(rest), stripped.is_some())
}

pub(super) fn dropbear(message: &str) -> Option<Statement> {
    let peer = |address: &str| {
        let (address, port) = address.trim_end_matches(['>', ':', ')']).rsplit_once(':').unwrap_or((address, ""));
        Peer { port: port.to_owned(), ..Peer::at(address.trim_start_matches(['<', '['])) }
    };
    // `Password auth succeeded for 'alice' from 192.0.2.1:1`, `Pubkey auth succeeded for 'alice' with … key … from …`
    if message.contains("auth succeeded for '") {
        let (head, from) = message.rsplit_once(" from ")?;
        let Peer { address, port, .. } = peer(from.split_whitespace().next()?);
        let user = between(head, "'", "'")?.to_owned();
        let key = between(head, " with ", " key ").map(str::to_owned);
        let key = key.and_then(|kind| Some(format!("{kind} {}", head.rsplit_once(" key ")?.1)));
        let method = message.split_whitespace().next()?.to_lowercase();
        return Some(Statement::of(Said::Login { user, address, port, method, key }));
    }
    if let Some(rest) = message
        .strip_prefix("Login attempt for nonexistent user")
        .or_else(|| message.strip_prefix("Login attempt for nonexistant user"))
    {
        let (user, from) = rest.rsplit_once("from ")?;
        let user = quoted(user).unwrap_or_default();
        return Some(failure((user, peer(from.split_whitespace().next()?)), "", true, "Invalid user")?.part(Part::Fails));
    }
    let refused = [
        "Bad ",
        "Login attempt with wrong user ",
        "Max auth tries reached - user ",
        "user ",
        "Login attempt for user ",
        "root login rejected",
    ];
    if refused.iter().any(|start| message.starts_with(start)) {
        let (head, from) = message.rsplit_once(" from ").unwrap_or((message, ""));
        let user = between(head, "'", "'").unwrap_or(if message.starts_with("root ") { "root" } else { "" });
        let method = if message.contains("password") { "password" } else { "" };
        let why = if message.starts_with("Bad ") { "Failed authentication" } else { head.split(" '").next().unwrap_or_default() };
        let refusal = failure((user, peer(from.split_whitespace().next().unwrap_or_default())), method, false, why)?;
        return Some(refusal.part(if message.starts_with("Max ") { Part::Closes } else { Part::Fails }));
    }
    // `Exit before auth from <192.0.2.1:1>: (user 'alice', 3 fails): Exited normally`; older ones name no peer
    if let Some(rest) = message.strip_prefix("Exit before auth") {
        let at = between(rest, "<", ">").map(peer).unwrap_or_default();
        let user = between(rest, "user '", "'").unwrap_or_default();
        return Some(failure((user, at), "", false, "Exit before authentication")?.part(Part::Closes));
    }
    if let Some(rest) = message.strip_prefix("Exit (") {
        let user = rest.split(')').next().unwrap_or_default().to_owned();
        return Some(Statement::of(Said::Logout { user }));
    }
    if let Some(rest) = message.strip_prefix("Child connection from ") {
        return Some(Statement::step(connection("OpenConnection", "", peer(rest), None)));
    }
    if message.starts_with("Exit ") {
        return None;
    }
    word_after(message, "authentication failed for ")
        .and_then(|user| failure((user, Peer::default()), "", false, "Failed authentication"))
}
