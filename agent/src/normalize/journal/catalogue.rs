//! What messages make: the journal's part of docs/events.md, written from these rows. The examples beside
//! [`super::message`] prove that no name is missing and none is too many.

/// A row of the documentation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub names: &'static [&'static str],
    pub source: &'static str,
    pub made_of: &'static str,
    /// The class by which the kernel's report of the same act is found.
    pub act: &'static str,
}

const fn row(names: &'static [&'static str], source: &'static str, made_of: &'static str, act: &'static str) -> Row {
    Row { names, source, made_of, act }
}

pub const ROWS: &[Row] = &[
    row(
        &["Login"],
        "`sshd.linux`, `dropbear.linux`, `login.linux`, `vsftpd.linux`, display managers",
        "Accepted …, auth succeeded, OK LOGIN, the PAM session of login and of display managers; LOGIN ON … FROM. Refused: Failed …, Invalid user, not allowed, too many attempts, Unable to negotiate, bad protocol, timeout, dropped, a connection closed before authentication: what one process tells of one attempt is one record, the rest steps",
        "`login`, `login-failure`",
    ),
    row(&["Logout"], "the same", "PAM's session closed; dropbear's Exit (USER)", "`logout`"),
    row(
        &["RunCommand"],
        "`sudo.linux`, `doas.linux`, `pkexec.linux`",
        "the line with the command, refused ones with the program's reason",
        "`sudo-command`; of doas and pkexec `switch-user`",
    ),
    row(
        &["ContinueCommand"],
        "`sudo.linux`",
        "(command continued): the rest of a command that was too long for one message, with the first part's eventID as relatedEventID",
        "",
    ),
    row(&["ReportAlert"], "`sudo.linux`", "sudo's trouble where it names no command: defaults, sudoers", ""),
    row(&["SwitchGroup"], "`newgrp.linux`", "switched to group, Invalid password for group; returned to group is a step", ""),
    row(&["RunCommand"], "`cron.linux`, `anacron.linux`, `atd.linux`", "CMD, Job … started, Starting job (AwsServiceEvent)", ""),
    row(&["SwitchUser"], "`su.linux`", "PAM's session opened; refused: FAILED SU, BAD SU, FAILED su", "`switch-user`"),
    row(
        &["Authenticate"],
        "the PAM service",
        "PAM's authentication failure, pam_tally2, pam_faillock, pam_access, pam_listfile, an expired account; of a network login a step",
        "",
    ),
    row(&["Authorize"], "`polkitd.linux`", "Operator of … authenticated, or failed to, for an action", ""),
    row(&["CreateUser"], "`useradd.linux` …", "new user; failed adding user", "`create-user`"),
    row(&["DeleteUser"], "`userdel.linux`", "delete user", "`delete-user`"),
    row(
        &["ModifyUser"],
        "`usermod.linux`, `chage.linux`, `chfn.linux` …",
        "change user, lock, unlock, password expiry",
        "`modify-user`",
    ),
    row(
        &["ChangePassword"],
        "`passwd.linux`, `chpasswd.linux` …",
        "password for … changed by; PAM's password changed",
        "`change-password`",
    ),
    row(
        &["AddUserToGroup", "RemoveUserFromGroup"],
        "`usermod.linux`, `gpasswd.linux`",
        "add/delete … to/from group, added/removed by",
        "`modify-user`",
    ),
    row(&["CreateGroup", "DeleteGroup"], "`groupadd.linux` …", "new group, removed", "`create-group`, `delete-group`"),
    row(
        &["ModifyGroup"],
        "`groupmod.linux`, `gpasswd.linux`",
        "group changed in /etc/group, in /etc/gshadow a step; members, administrators, password, access of a group",
        "`modify-group`",
    ),
    row(&["ModifyFile"], "`vipw.linux`", "file … edited", ""),
    row(&["ModifyCrontab", "DeleteCrontab"], "`crontab.linux`", "REPLACE, DELETE", ""),
    row(
        &["StartUnit", "StopUnit"],
        "`systemd.linux`",
        "job done or failed, by MESSAGE_ID, in syslog by its words (AwsServiceEvent); not scopes, slices, devices",
        "`start-unit`, `stop-unit`",
    ),
    row(&["ReloadUnit", "ReportUnit"], "`systemd.linux`", "reloaded; a unit that ended badly by itself (AwsServiceEvent)", ""),
    row(
        &["StartHost", "StopHost"],
        "`systemd.linux`, `systemd-logind.linux`",
        "Startup finished; rebooting, powering down, halting (AwsServiceEvent)",
        "",
    ),
    row(
        &["StartSession", "EndSession"],
        "`systemd-logind.linux`",
        "New session, Removed session (AwsServiceEvent); of sshd, PAM and polkit's agents a step",
        "",
    ),
    row(
        &["InstallPackage", "UpdatePackage", "RemovePackage"],
        "`yum.linux`, `dnf.linux`, `rpm.linux`, `pacman.linux`, `packagekit.linux`",
        "what the package manager tells syslog (apt and dpkg tell nothing: their commands do)",
        "",
    ),
    row(&["ModifyFirewall"], "`firewalld.linux`", "what it refuses; what it does is in the kernel's audit", ""),
    row(&["ChangeInterface"], "`systemd-networkd.linux`", "link up and down, carrier, addresses acquired (AwsServiceEvent)", ""),
    row(
        &[
            "CreateNetworkConnection",
            "ModifyNetworkConnection",
            "DeleteNetworkConnection",
            "StartNetworkConnection",
            "StopNetworkConnection",
            "ModifyNetwork",
        ],
        "`networkmanager.linux`",
        "its audit lines, with their caller's uid",
        "",
    ),
    row(&["SetHostName", "SetTime"], "`systemd-hostnamed.linux`, `systemd-timedated.linux`", "Changed …", ""),
    row(
        &["OpenConnection", "CloseConnection", "ListenNetwork", "CheckAddress"],
        "`sshd.linux`, `dropbear.linux`",
        "steps: a connection's beginning and end, the server's own port, a name that does not map back",
        "",
    ),
    row(
        &["ReadCrontab", "EditCrontab", "ReloadCrontab"],
        "`crontab.linux`, `cron.linux`",
        "steps: LIST, BEGIN EDIT, END EDIT, RELOAD",
        "",
    ),
];
