//! Which event a system call is, and which names the decoders give: with [`super::records`] the audit part of
//! docs/events.md, which is written from these tables.

use super::address::Address;
use super::deed::Kind;
use super::kernel::Call;
use super::view::View;

use Kind::{Data, DataRead, Management};

/// eventName and class of system calls by name. Calls that are not here are [`OTHER_CALL`].
pub const CALLS: &[(&str, &str, Kind)] = &[
    ("execve execveat", "ExecuteProgram", Data),
    ("init_module finit_module create_module", "LoadKernelModule", Management),
    ("delete_module", "UnloadKernelModule", Management),
    ("kexec_load kexec_file_load", "LoadKernel", Management),
    ("mount move_mount fsmount open_tree fsopen fsconfig mount_setattr pivot_root", "MountFileSystem", Management),
    ("umount umount2", "UnmountFileSystem", Management),
    ("settimeofday clock_settime clock_settime64 stime adjtimex clock_adjtime clock_adjtime64", "SetTime", Management),
    ("sethostname setdomainname", "SetHostName", Management),
    ("reboot", "Reboot", Management),
    ("swapon swapoff", "ModifySwap", Management),
    ("quotactl quotactl_fd acct", "ModifyAccounting", Management),
    ("bpf", "UseBpf", Management),
    ("ptrace process_vm_readv process_vm_writev", "TraceProcess", Data),
    ("kill tkill tgkill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo", "SendSignal", Data),
    (
        "setuid setuid32 setreuid setreuid32 setresuid setresuid32 setfsuid setfsuid32 setgid setgid32 setregid setregid32 setresgid setresgid32 setfsgid setfsgid32 setgroups setgroups32 capset",
        "ChangeCredentials",
        Data,
    ),
    ("setns unshare clone clone3", "EnterNamespace", Data),
    ("unlink unlinkat", "DeleteFile", Data),
    ("rmdir", "DeleteDirectory", Data),
    ("mkdir mkdirat", "CreateDirectory", Data),
    ("rename renameat renameat2", "RenameFile", Data),
    ("link linkat symlink symlinkat", "CreateLink", Data),
    ("mknod mknodat", "CreateDevice", Data),
    ("creat", "CreateFile", Data),
    ("truncate truncate64 ftruncate ftruncate64 write writev pwrite64 pwritev pwritev2 fallocate", "ModifyFile", Data),
    ("chmod fchmod fchmodat fchmodat2", "ChangeFileMode", Data),
    ("chown chown32 fchown fchown32 lchown lchown32 fchownat", "ChangeFileOwner", Data),
    (
        "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr setxattrat removexattrat utime utimes utimensat futimesat",
        "ChangeFileAttributes",
        Data,
    ),
    ("read readv pread64 preadv preadv2 readlink readlinkat getxattr lgetxattr fgetxattr listxattr", "ReadFile", DataRead),
    (
        "stat stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx access faccessat faccessat2 getdents getdents64 chdir fchdir",
        "ListFile",
        DataRead,
    ),
    ("listen", "ListenNetwork", Data),
    ("socket socketpair", "OpenSocket", Data),
];

/// Any system call that a rule selected and no other row names.
pub const OTHER_CALL: (&str, Kind) = ("InvokeSystemCall", Data);

/// The calls with an address: eventName towards the network, and within the host.
pub const ADDRESS_CALLS: &[(&str, &str, &str)] = &[
    ("connect", "ConnectNetwork", "ConnectSocket"),
    ("bind", "BindNetwork", "BindSocket"),
    ("accept", "AcceptNetwork", "AcceptSocket"),
    ("accept4", "AcceptNetwork", "AcceptSocket"),
    ("sendto", "SendNetwork", "SendSocket"),
    ("sendmsg", "SendNetwork", "SendSocket"),
    ("sendmmsg", "SendNetwork", "SendSocket"),
    ("recvfrom", "ReceiveNetwork", "ReceiveSocket"),
    ("recvmsg", "ReceiveNetwork", "ReceiveSocket"),
    ("recvmmsg", "ReceiveNetwork", "ReceiveSocket"),
];

/// Calls of i386's socketcall by number. Source: linux/net.h.
const SOCKETCALLS: &[(u64, &str)] = &[
    (1, "socket"),
    (2, "bind"),
    (3, "connect"),
    (4, "listen"),
    (5, "accept"),
    (9, "sendto"),
    (10, "recvfrom"),
    (16, "sendmsg"),
    (17, "recvmsg"),
    (18, "accept4"),
];

/// A system call's event. Opening a file is told apart by what it asks for, a network call by its address.
pub fn system_call(call: &Call, address: Option<&Address>, creates: bool, view: &View<'_>) -> (&'static str, Kind) {
    let name = match &*call.name {
        "socketcall" => {
            let wanted = call.arguments.first().copied().unwrap_or(0);
            SOCKETCALLS.iter().find(|(number, _)| *number == wanted).map_or("socketcall", |(_, name)| name)
        }
        name => name,
    };
    if let Some((_, network, local)) = ADDRESS_CALLS.iter().find(|(known, _, _)| *known == name) {
        return (if address.is_some_and(Address::is_network) { network } else { local }, Data);
    }
    if let Some(flags) = open_flags(name, call, view) {
        return match flags {
            _ if creates => ("CreateFile", Data),
            flags if flags & OPEN_WRITES != 0 => ("ModifyFile", Data),
            _ => ("ReadFile", DataRead),
        };
    }
    let known = CALLS.iter().find(|(names, _, _)| names.split(' ').any(|known| known == name));
    known.map_or(OTHER_CALL, |(_, event, kind)| (event, *kind))
}

/// `O_WRONLY | O_RDWR | O_CREAT | O_TRUNC`. Source: asm-generic/fcntl.h, the same on x86 and ARM.
const OPEN_WRITES: u64 = 0o1 | 0o2 | 0o100 | 0o1000;

/// The flags with which a file was opened; 0 for open_by_handle_at's kin, which have none in reach.
fn open_flags(name: &str, call: &Call, view: &View<'_>) -> Option<u64> {
    let [_, a1, a2, _] = call.arguments;
    match name {
        "open" => Some(a1),
        "openat" | "open_by_handle_at" => Some(a2),
        "openat2" => Some(
            view.first(OPENAT2)
                .and_then(|fields| u64::from_str_radix(fields.raw("oflag")?.trim_start_matches('0'), 8).ok())
                .unwrap_or(0),
        ),
        _ => None,
    }
}

/// Holds openat2's flags, in octal.
const OPENAT2: u16 = 1337;

/// Tools that report each change of an account themselves, and where a host has them.
const ACCOUNT_TOOLS: &[&str] =
    &["useradd", "usermod", "userdel", "groupadd", "groupmod", "groupdel", "groupmems", "gpasswd", "passwd", "chpasswd", "chage"];
const TOOLS_FOLDERS: &[&str] = &["/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"];

/// Whether a program that writes a file of the identity set reports the act itself: then its record stands for it.
pub fn is_told(key: &str, exe: &str) -> bool {
    let tool = TOOLS_FOLDERS.iter().find_map(|folder| exe.strip_prefix(folder));
    key.split('\u{1}').any(|key| key == IDENTITY_KEY) && tool.is_some_and(|tool| ACCOUNT_TOOLS.contains(&tool))
}

/// The key of the managed rules on users' and groups' files.
const IDENTITY_KEY: &str = "edgetrail-identity";

/// A row of the documentation, for what PAM, the account tools and systemd report.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub names: &'static [&'static str],
    pub source: &'static str,
    pub made_of: &'static str,
    /// What belongs to the same act.
    pub steps: &'static str,
    pub act: &'static str,
}

const fn row(
    names: &'static [&'static str],
    source: &'static str,
    made_of: &'static str,
    steps: &'static str,
    act: &'static str,
) -> Row {
    Row { names, source, made_of, steps, act }
}

/// Logins and people acting as others.
pub const PEOPLE: &[Row] = &[
    row(
        &["Login"],
        "`sshd.linux`, `login.linux` …",
        "the session's first USER_START or successful USER_LOGIN; refused: one USER_AUTH or USER_LOGIN an attempt, errorCode `AccessDenied`",
        "USER_ACCT, CRED_ACQ, LOGIN, USER_ERR, CRYPTO_* of the same login",
        "`login`, `login-failure`",
    ),
    row(&["Logout"], "the same", "the session's first USER_END or USER_LOGOUT", "CRED_DISP", "`logout`"),
    row(
        &["RunCommand"],
        "`sudo.linux`",
        "USER_CMD, the target user from the CRED_REFR or USER_START that follows",
        "USER_ACCT, CRED_REFR, USER_START, USER_END, CRED_DISP; a successful USER_AUTH",
        "`sudo-command`",
    ),
    row(
        &["SwitchUser"],
        "`su.linux`, `pkexec.linux` …",
        "USER_START; refused: USER_AUTH or USER_ACCT; CHUSER_ID",
        "CRED_*, USER_END",
        "`switch-user`",
    ),
    row(
        &["Authenticate"],
        "any other PAM program",
        "USER_AUTH, and any refused step; sudo's only where refused",
        "successful USER_ACCT and CRED_*",
        "`authentication-failure`",
    ),
    row(
        &["StartSession", "EndSession"],
        "`cron.linux`, `systemd.linux` …",
        "USER_START, USER_END of programs that log nobody in (AwsServiceEvent)",
        "CRED_*",
        "",
    ),
];

/// Users and groups.
pub const ACCOUNTS: &[Row] = &[
    row(
        &["CreateUser"],
        "`useradd.linux` …",
        "ADD_USER, once a process and user",
        "what the process repeats of it; its home directory and mailbox",
        "`create-user`",
    ),
    row(&["DeleteUser"], "`userdel.linux` …", "DEL_USER, once a process and user", "the same", "`delete-user`"),
    row(
        &["ModifyUser"],
        "`usermod.linux`, `chage.linux` …",
        "USER_MGMT, USER_CHAUTHTOK, once for each change",
        "the same",
        "`modify-user`",
    ),
    row(
        &["AddUserToGroup", "RemoveUserFromGroup"],
        "`usermod.linux`, `gpasswd.linux` …",
        "USER_MGMT, USER_CHAUTHTOK, ADD_USER, gpasswd's USER_ACCT that say so, once a group",
        "the same of the shadow file",
        "`modify-user`",
    ),
    row(
        &["ChangePassword"],
        "`passwd.linux`, `chpasswd.linux` …",
        "USER_CHAUTHTOK of passwd, chpasswd, PAM",
        "the same",
        "`change-password`",
    ),
    row(&["LockUser", "UnlockUser"], "`passwd.linux` …", "ACCT_LOCK, ACCT_UNLOCK", "", "`modify-user`"),
    row(
        &["CreateGroup"],
        "`groupadd.linux`, `useradd.linux`",
        "ADD_GROUP, once a process and group",
        "what the process repeats of it",
        "`create-group`",
    ),
    row(
        &["DeleteGroup"],
        "`groupdel.linux`, `userdel.linux`",
        "DEL_GROUP, once a process and group",
        "the same",
        "`delete-group`",
    ),
    row(
        &["ModifyGroup"],
        "`gpasswd.linux`, `groupmod.linux` …",
        "GRP_MGMT, GRP_CHAUTHTOK; USER_ACCT of gpasswd, groupmod, groupmems",
        "the same",
        "`modify-group`",
    ),
    row(
        &["StartUnit", "StopUnit"],
        "`systemd.linux`",
        "SERVICE_START, SERVICE_STOP (AwsServiceEvent)",
        "",
        "`start-unit`, `stop-unit`",
    ),
];

/// What steps of an act are called (Data events, `additionalEventData.edgetrail.step` is true).
pub const STEPS: &[(&str, &str)] = &[
    ("CheckAccount", "USER_ACCT"),
    ("AcquireCredentials", "CRED_ACQ"),
    ("RefreshCredentials", "CRED_REFR"),
    ("ReleaseCredentials", "CRED_DISP"),
    ("Authenticate", "USER_AUTH, USER_ERR"),
    ("StartSession", "USER_START"),
    ("EndSession", "USER_END"),
    ("ConfirmLogin", "USER_LOGIN"),
    ("ConfirmLogout", "USER_LOGOUT"),
    ("SetLoginUser", "LOGIN of a login"),
    ("UseCryptoKey", "CRYPTO_KEY_USER of sshd"),
    ("NegotiateCryptoSession", "CRYPTO_SESSION of sshd"),
];
