//! Which event a system call or record is: the audit part of docs/events.md, which a test compares with these tables.

use super::address::Address;
use super::deed::Kind;
use super::kernel::Call;
use super::view::View;
use crate::sources::audit::kinds;

use Kind::{Data, DataRead, Management, Service};

/// eventName and class of system calls by name. Calls that are not here are [`OTHER_CALL`].
const CALLS: &[(&str, &str, Kind)] = &[
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
const OTHER_CALL: (&str, Kind) = ("InvokeSystemCall", Data);

/// The calls with an address: eventName towards the network, and within the host.
const ADDRESS_CALLS: &[(&str, &str, &str)] = &[
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

/// eventName and class of record types.
const RECORDS: &[(u16, &str, Kind)] = &[
    (1005, "LogMessage", Data),
    (kinds::LOGIN, "SetLoginUser", Management),
    (1102, "ModifyUser", Management),
    (kinds::USYS_CONFIG, "ModifyConfiguration", Management),
    (1118, "CheckPermission", Data),
    (kinds::USER_TTY, "RecordTerminalInput", Data),
    (kinds::SYSTEM_BOOT, "StartHost", Service),
    (kinds::SYSTEM_SHUTDOWN, "StopHost", Service),
    (kinds::SYSTEM_RUNLEVEL, "ChangeRunLevel", Service),
    (1137, "ModifyDevice", Management),
    (kinds::SOFTWARE_UPDATE, "UpdateSoftware", Management),
    (kinds::DAEMON_START, "StartAuditDaemon", Service),
    (kinds::DAEMON_END, "StopAuditDaemon", Service),
    (1202, "StopAuditDaemon", Service),
    (1203, "ConfigureAuditDaemon", Management),
    (1204, "ConfigureAuditDaemon", Management),
    (1205, "RotateAuditLog", Service),
    (1206, "StartAuditDaemon", Service),
    (1207, "ConnectAuditDaemon", Service),
    (1208, "DisconnectAuditDaemon", Service),
    (1209, "ReportAuditDaemon", Service),
    (kinds::TTY, "RecordTerminalInput", Data),
    (1324, "ReportPacket", Data),
    (kinds::NETFILTER_CFG, "ModifyFirewall", Management),
    (kinds::SECCOMP, "ReportSeccomp", Service),
    (kinds::FEATURE_CHANGE, "ChangeAuditConfiguration", Management),
    (kinds::KERN_MODULE, "LoadKernelModule", Management),
    (kinds::FANOTIFY, "DecideAccess", Data),
    (kinds::TIME_INJOFFSET, "SetTime", Management),
    (kinds::TIME_ADJNTPVAL, "AdjustTime", Service),
    (kinds::EVENT_LISTENER, "ReadAuditStream", Management),
    (1336, "InvokeSystemCall", Data),
    (1338, "ModifyDevice", Management),
    (1339, "ReportDevice", Service),
    (kinds::AVC, "DenyAccess", Management),
    (1401, "DenyAccess", Management),
    (kinds::USER_AVC, "DenyAccess", Management),
    (kinds::USER_SELINUX_ERR, "DenyAccess", Management),
    (1503, "DenyAccess", Management),
    (kinds::MAC_POLICY_LOAD, "LoadSecurityPolicy", Management),
    (2310, "LoadSecurityPolicy", Management),
    (kinds::MAC_STATUS, "ChangeSecurityMode", Management),
    (2313, "ChangeSecurityMode", Management),
    (kinds::MAC_CONFIG_CHANGE, "ChangeSecurityConfiguration", Management),
    (2312, "ChangeSecurityConfiguration", Management),
    (kinds::ANOM_PROMISCUOUS, "SetPromiscuousMode", Management),
    (kinds::ANOM_ABEND, "ReportCrash", Service),
    (kinds::ANOM_LINK, "DenyAccess", Management),
    (1703, "DenyAccess", Management),
    (2300, "SwitchRole", Management),
    (kinds::ROLE_ASSIGN, "AssignRole", Management),
    (kinds::ROLE_REMOVE, "RemoveRole", Management),
    (2311, "ModifyRole", Management),
    (kinds::CRYPTO_KEY_USER, "UseCryptoKey", Data),
    (kinds::CRYPTO_SESSION, "NegotiateCryptoSession", Data),
];

/// A system call's event. Opening a file is told apart by what it asks for, a network call by its address.
pub fn system_call(call: &Call, address: Option<&Address>, creates: bool, view: &View<'_>) -> (&'static str, Kind) {
    let name = match call.name.as_str() {
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

/// The event of a kernel or daemon record.
pub fn kernel(view: &View<'_>) -> (&'static str, Kind) {
    let text = |key: &str| view.primary().and_then(|fields| fields.raw(key)).unwrap_or_default().to_owned();
    match view.kind() {
        kinds::CONFIG_CHANGE if text("op").contains("rule") => ("ModifyAuditRule", Management),
        kinds::CONFIG_CHANGE => ("ChangeAuditConfiguration", Management),
        kinds::BPF if text("op") == "UNLOAD" => ("UnloadBpfProgram", Data),
        kinds::BPF => ("LoadBpfProgram", Management),
        2500..2600 => ("ModifyVirtualMachine", Management),
        2400..2500 if RECORDS.iter().all(|(known, _, _)| *known != view.kind()) => ("ModifyCryptoState", Data),
        1700..1800 | 2100..2200 if RECORDS.iter().all(|(known, _, _)| *known != view.kind()) => ("ReportAnomaly", Service),
        2200..2300 => ("RespondToAnomaly", Service),
        1800..1900 => ("ReportIntegrity", Service),
        1406..1420 => ("ModifyNetworkLabel", Management),
        kind => match RECORDS.iter().find(|(known, _, _)| *known == kind) {
            Some((_, name, class)) => (name, *class),
            None if (1100..1200).contains(&kind) || kind >= 2000 => ("ReportUserEvent", Management),
            None => ("ReportKernelEvent", Service),
        },
    }
}

/// Every eventName that the audit source makes, for the documentation's test.
#[cfg(test)]
pub(super) fn names() -> std::collections::BTreeSet<&'static str> {
    let elsewhere = [
        "Login",
        "Logout",
        "RunCommand",
        "SwitchUser",
        "Authenticate",
        "StartSession",
        "EndSession",
        "CreateUser",
        "DeleteUser",
        "ModifyUser",
        "LockUser",
        "UnlockUser",
        "ChangePassword",
        "CreateGroup",
        "DeleteGroup",
        "ModifyGroup",
        "StartUnit",
        "StopUnit",
        "ModifyAuditRule",
        "ChangeAuditConfiguration",
        "LoadBpfProgram",
        "UnloadBpfProgram",
        "ModifyVirtualMachine",
        "ModifyCryptoState",
        "ReportAnomaly",
        "RespondToAnomaly",
        "ReportIntegrity",
        "ModifyNetworkLabel",
        "ReportUserEvent",
        "ReportKernelEvent",
        OTHER_CALL.0,
    ];
    let calls = CALLS.iter().map(|(_, name, _)| *name);
    let addresses = ADDRESS_CALLS.iter().flat_map(|(_, network, local)| [*network, *local]);
    let records = RECORDS.iter().map(|(_, name, _)| *name);
    elsewhere.into_iter().chain(calls).chain(addresses).chain(records).collect()
}
