//! The host's own settings: firewall, interfaces, name, time.
//!
//! Sources: firewalld's logger, systemd's networkd-link.c and networkd-dhcp4.c, hostnamed.c, timedated.c,
//! NetworkManager's nm-audit-manager.c.

use super::{Change, Statement, Thing, between, quoted};

/// firewalld says only what it refuses: `ERROR: ALREADY_ENABLED: 'ssh' already in 'public'`. What it does is in the
/// kernel's audit.
pub(super) fn firewalld(message: &str) -> Option<Statement> {
    let rest = message.strip_prefix("ERROR: ").or_else(|| message.strip_prefix("WARNING: "))?;
    let (code, why) = rest.split_once(": ").unwrap_or((rest, ""));
    let is_code = !code.is_empty() && code.chars().all(|c| c.is_ascii_uppercase() || matches!(c, '_' | '0'..='9'));
    is_code.then(|| {
        Change {
            failure: Some(("Failed", format!("{code} {why}").trim().to_owned())),
            ..Change::of("ModifyFirewall", Thing::Firewall, "firewalld")
        }
        .said()
    })?
}

/// `eth0: Link UP`, `eth0: DHCPv4 address 192.0.2.15/24, gateway 192.0.2.2 acquired from 192.0.2.2`
pub(super) fn networkd(message: &str) -> Option<Statement> {
    let (interface, rest) = message.split_once(": ")?;
    let change = Change { is_own: true, ..Change::of("ChangeInterface", Thing::Interface, interface) };
    if let Some(lease) = rest.strip_prefix("DHCPv4 address ").or_else(|| rest.strip_prefix("DHCPv6 address ")) {
        let address = lease.split([' ', ',']).next()?;
        return change.with("change", "address acquired").with("address", address).said();
    }
    let states = [
        "Link UP",
        "Link DOWN",
        "Gained carrier",
        "Lost carrier",
        "Configured",
        "Removing link",
        "Interface name change detected",
    ];
    let state = states.iter().find(|state| rest.starts_with(**state))?;
    change.with("change", state.to_lowercase()).said()
}

/// `<info>  [1700000000.1234] audit: op="connection-update" uuid="…" name="eth0" args="…" pid=12 uid=0 result="success"`
pub(super) fn network_manager(message: &str) -> Option<Statement> {
    let (_, rest) = message.split_once("audit: ")?;
    let field = |name: &str| between(rest, &format!("{name}=\""), "\"");
    let operation = field("op")?;
    let (name, thing) = match operation {
        "connection-add" | "connection-add-activate" => ("CreateNetworkConnection", Thing::Connection),
        "connection-delete" => ("DeleteNetworkConnection", Thing::Connection),
        "connection-activate" => ("StartNetworkConnection", Thing::Connection),
        "connection-deactivate" => ("StopNetworkConnection", Thing::Connection),
        _ if operation.starts_with("connection-") => ("ModifyNetworkConnection", Thing::Connection),
        _ => ("ModifyNetwork", Thing::Host),
    };
    let subject =
        field("name").or_else(|| field("uuid")).or_else(|| field("interface")).or_else(|| field("arg")).unwrap_or_default();
    let failed = field("result").filter(|result| *result != "success");
    let why = field("reason").unwrap_or_default().to_owned();
    let mut change =
        Change { failure: failed.map(|_| ("Failed", why)), ..Change::of(name, thing, subject) }.with("operation", operation);
    for (key, from) in [("change", "args"), ("uuid", "uuid")] {
        if let Some(value) = field(from) {
            change = change.with(key, value);
        }
    }
    if let Some(uid) = rest.split_whitespace().find_map(|word| word.strip_prefix("uid=")) {
        change = change.with("uid", uid);
    }
    change.said()
}

/// `Changed static hostname to 'web-1'`, `Hostname set to <web-1>`
pub(super) fn hostnamed(message: &str) -> Option<Statement> {
    let (what, name) = message.strip_prefix("Changed ")?.split_once(" to ")?;
    what.contains("host").then(|| {
        Change::of("SetHostName", Thing::Host, "").with("change", what).with("value", quoted(name).unwrap_or_default()).said()
    })?
}

/// `Changed time zone to 'Europe/Berlin' (CET).`, `Changed local time to …`, `Set NTP to enabled (…)`
pub(super) fn timedated(message: &str) -> Option<Statement> {
    let set = |what: &str, value: &str| Change::of("SetTime", Thing::Host, "").with("change", what).with("value", value).said();
    if let Some(zone) = message.strip_prefix("Changed time zone to ") {
        return set("time zone", quoted(zone)?);
    }
    if let Some(time) = message.strip_prefix("Changed local time to ") {
        return set("time", time.trim_end_matches('.'));
    }
    let state = message.strip_prefix("Set NTP to ")?;
    set("time synchronisation", state.split([' ', '.']).next().unwrap_or_default())
}
