//! Package managers, as far as they speak to syslog: yum, dnf, rpm's plugin, pacman, PackageKit. apt and dpkg do not.
//!
//! Sources: rpm's plugins/syslog.c, yum's rpmtrans.py, pacman's util.c, PackageKit's pk-transaction.c.

use super::{Change, Statement, Thing, between, word_after};

fn package(name: &'static str, subject: &str, version: &str) -> Change {
    let change = Change::of(name, Thing::Package, subject);
    if version.is_empty() { change } else { change.with("version", version) }
}

/// `Installed: 1:foo-1.0-2.x86_64`
pub(super) fn yum(message: &str) -> Option<Statement> {
    let (verb, subject) = message.split_once(": ")?;
    let name = match verb {
        "Installed" | "Dep-Installed" => "InstallPackage",
        "Updated" | "Upgraded" | "Upgrade" | "Downgraded" | "Reinstalled" | "Obsoleting" => "UpdatePackage",
        "Erased" | "Removed" | "Dep-Removed" => "RemovePackage",
        _ => return None,
    };
    package(name, subject.trim(), "").said()
}

/// `install bash-5.1.8-2.x86_64: success`, `erase … : failure`
pub(super) fn rpm(message: &str) -> Option<Statement> {
    let (operation, rest) = message.split_once(' ')?;
    let name = match operation {
        "install" => "InstallPackage",
        "update" | "upgrade" | "reinstall" => "UpdatePackage",
        "erase" | "remove" => "RemovePackage",
        _ => return None,
    };
    let (subject, result) = rest.rsplit_once(": ")?;
    let failure = (result != "success").then(|| ("Failed", result.to_owned()));
    Change { failure, ..package(name, subject, "") }.said()
}

/// `installed foo (1.0-1)`, `upgraded foo (1.0-1 -> 1.1-1)`, `removed foo (1.0-1)`
pub(super) fn pacman(message: &str) -> Option<Statement> {
    let (verb, rest) = message.split_once(' ')?;
    let name = match verb {
        "installed" => "InstallPackage",
        "upgraded" | "downgraded" | "reinstalled" => "UpdatePackage",
        "removed" => "RemovePackage",
        _ => return None,
    };
    let (subject, version) = rest.split_once(" (")?;
    package(name, subject, version.trim_end_matches(')')).said()
}

/// `install-packages transaction /42_abc from uid 1000 finished with success after 1234ms`
pub(super) fn packagekit(message: &str) -> Option<Statement> {
    let (role, rest) = message.split_once(" transaction ")?;
    let name = match role {
        "install-packages" | "install-files" => "InstallPackage",
        "update-packages" | "update-system" | "upgrade-system" => "UpdatePackage",
        "remove-packages" => "RemovePackage",
        _ => return None,
    };
    let result = between(rest, "finished with ", " after")?;
    let failure = (result != "success").then(|| ("Failed", result.to_owned()));
    let change = Change { failure, ..package(name, "", "") };
    change.with("transaction", rest.split_whitespace().next()?).with("uid", word_after(rest, "from uid ")?).said()
}
