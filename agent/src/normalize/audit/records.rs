//! Which event a record type is, where no system call says it: every type that has a name.
//!
//! Sources: linux/audit.h for the kernel's, and the audit message dictionary for user space's, whose ranges audit.h sets
//! aside (1100–1199, 1200–1299, 2100–2999). Types that only add to another record of their event are not here.

use super::deed::Kind;
use super::kernel::Call;
use super::view::View;
use crate::sources::audit::kinds;

use Kind::{Data, Management, Service};

/// First and last number, eventName and class; no type is in two rows.
pub const RECORDS: &[(u16, u16, &str, Kind)] = &[
    (1005, 1005, "LogMessage", Data),
    (kinds::LOGIN, kinds::LOGIN, "SetLoginUser", Management),
    (kinds::USER_AVC, kinds::USER_AVC, "DenyAccess", Management),
    (kinds::USYS_CONFIG, kinds::USYS_CONFIG, "ModifyConfiguration", Management),
    (1118, 1118, "CheckPermission", Data),
    (kinds::CHGRP_ID, kinds::CHGRP_ID, "SwitchGroup", Management),
    // A test message, and what a trusted program says in words of its own.
    (1120, 1121, "ReportUserEvent", Management),
    (kinds::USER_SELINUX_ERR, kinds::USER_SELINUX_ERR, "DenyAccess", Management),
    (kinds::USER_TTY, kinds::USER_TTY, "RecordTerminalInput", Data),
    (kinds::CHUSER_ID, kinds::CHUSER_ID, "SwitchUser", Management),
    (kinds::GRP_AUTH, kinds::GRP_AUTH, "Authenticate", Management),
    (kinds::SYSTEM_BOOT, kinds::SYSTEM_BOOT, "StartHost", Service),
    (kinds::SYSTEM_SHUTDOWN, kinds::SYSTEM_SHUTDOWN, "StopHost", Service),
    (kinds::SYSTEM_RUNLEVEL, kinds::SYSTEM_RUNLEVEL, "ChangeRunLevel", Service),
    (1134, 1134, "CheckPermission", Data),
    (1137, 1137, "ModifyDevice", Management),
    (kinds::SOFTWARE_UPDATE, kinds::SOFTWARE_UPDATE, "UpdateSoftware", Management),
    (kinds::DAEMON_START, kinds::DAEMON_START, "StartAuditDaemon", Service),
    (kinds::DAEMON_END, 1202, "StopAuditDaemon", Service),
    (1203, 1204, "ConfigureAuditDaemon", Management),
    (1205, 1205, "RotateAuditLog", Service),
    (1206, 1206, "StartAuditDaemon", Service),
    (1207, 1207, "ConnectAuditDaemon", Service),
    (1208, 1208, "DisconnectAuditDaemon", Service),
    (1209, 1209, "ReportAuditDaemon", Service),
    (kinds::TTY, kinds::TTY, "RecordTerminalInput", Data),
    (1324, 1324, "ReportPacket", Data),
    (kinds::NETFILTER_CFG, kinds::NETFILTER_CFG, "ModifyFirewall", Management),
    (kinds::SECCOMP, kinds::SECCOMP, "ReportSeccomp", Service),
    (kinds::FEATURE_CHANGE, kinds::FEATURE_CHANGE, "ChangeAuditConfiguration", Management),
    // Somebody takes the audit socket from its owner.
    (1329, 1329, "ChangeAuditConfiguration", Management),
    (kinds::KERN_MODULE, kinds::KERN_MODULE, "LoadKernelModule", Management),
    (kinds::FANOTIFY, kinds::FANOTIFY, "DecideAccess", Data),
    (kinds::TIME_INJOFFSET, kinds::TIME_INJOFFSET, "SetTime", Management),
    (kinds::TIME_ADJNTPVAL, kinds::TIME_ADJNTPVAL, "AdjustTime", Service),
    (kinds::EVENT_LISTENER, kinds::EVENT_LISTENER, "ReadAuditStream", Management),
    (1336, 1336, "InvokeSystemCall", Data),
    (1338, 1338, "ModifyDevice", Management),
    (1339, 1339, "ReportDevice", Service),
    (kinds::AVC, 1401, "DenyAccess", Management),
    (kinds::MAC_POLICY_LOAD, kinds::MAC_POLICY_LOAD, "LoadSecurityPolicy", Management),
    (kinds::MAC_STATUS, kinds::MAC_STATUS, "ChangeSecurityMode", Management),
    (kinds::MAC_CONFIG_CHANGE, kinds::MAC_CONFIG_CHANGE, "ChangeSecurityConfiguration", Management),
    (1406, 1419, "ModifyNetworkLabel", Management),
    // IPE, Landlock.
    (1420, 1420, "DenyAccess", Management),
    (1421, 1421, "ChangeSecurityMode", Management),
    (1422, 1422, "LoadSecurityPolicy", Management),
    (1423, 1423, "DenyAccess", Management),
    (1424, 1424, "ReportSandbox", Service),
    // AppArmor, where it does not say AVC: audited, allowed; denied; hint; status; error; killed.
    (1501, 1502, "ReportAccess", Data),
    (1503, 1503, "DenyAccess", Management),
    (1504, 1504, "ReportAccess", Data),
    (1505, 1505, "LoadSecurityPolicy", Management),
    (1506, 1506, "ReportKernelEvent", Service),
    (1507, 1507, "DenyAccess", Management),
    (kinds::ANOM_PROMISCUOUS, kinds::ANOM_PROMISCUOUS, "SetPromiscuousMode", Management),
    (kinds::ANOM_ABEND, kinds::ANOM_ABEND, "ReportCrash", Service),
    (kinds::ANOM_LINK, 1703, "DenyAccess", Management),
    (1704, 1799, "ReportAnomaly", Service),
    (1800, 1899, "ReportIntegrity", Service),
    // The kernel's own start.
    (2000, 2000, "ReportKernelEvent", Service),
    (2100, 2199, "ReportAnomaly", Service),
    (2200, 2299, "RespondToAnomaly", Service),
    (2300, 2300, "SwitchRole", Management),
    (kinds::ROLE_ASSIGN, kinds::ROLE_ASSIGN, "AssignRole", Management),
    (kinds::ROLE_REMOVE, kinds::ROLE_REMOVE, "RemoveRole", Management),
    (2303, 2304, "OverrideLabel", Management),
    (2305, 2306, "ExportData", Management),
    (2307, 2307, "AllocateDevice", Management),
    (2308, 2308, "ReleaseDevice", Management),
    (2309, 2309, "RelabelFileSystem", Management),
    (2310, 2310, "LoadSecurityPolicy", Management),
    (2311, 2311, "ModifyRole", Management),
    (2312, 2312, "ChangeSecurityConfiguration", Management),
    (2313, 2313, "ChangeSecurityMode", Management),
    (2400, 2403, "ModifyCryptoState", Data),
    (kinds::CRYPTO_KEY_USER, kinds::CRYPTO_KEY_USER, "UseCryptoKey", Data),
    (2405, 2406, "ModifyCryptoState", Data),
    (kinds::CRYPTO_SESSION, kinds::CRYPTO_SESSION, "NegotiateCryptoSession", Data),
    (2408, 2499, "ModifyCryptoState", Data),
    (2500, 2599, "ModifyVirtualMachine", Management),
];

/// What a type is that has no row: of user space, of the kernel.
pub const OTHERS: [(&str, Kind); 2] = [("ReportUserEvent", Management), ("ReportKernelEvent", Service)];

/// Types of which a field says what they are.
pub const BY_FIELD: &[(&str, &str, Kind)] = &[
    ("CONFIG_CHANGE of a rule", "ModifyAuditRule", Management),
    ("every other CONFIG_CHANGE", "ChangeAuditConfiguration", Management),
    ("BPF", "LoadBpfProgram", Management),
    ("BPF with op=UNLOAD", "UnloadBpfProgram", Data),
    ("KERN_MODULE of delete_module", "UnloadKernelModule", Management),
    ("AVC that grants or is permissive, AppArmor's ALLOWED, AUDIT, HINT", "ReportAccess", Data),
    ("AppArmor's STATUS, USER_AVC on a policy", "LoadSecurityPolicy", Management),
    ("USER_AVC on enforcing", "ChangeSecurityMode", Management),
];

/// The event of a kernel or daemon record.
pub fn event(view: &View<'_>) -> (&'static str, Kind) {
    let text = |key: &str| view.primary().and_then(|fields| fields.raw(key)).unwrap_or_default().to_owned();
    match view.kind() {
        kinds::CONFIG_CHANGE if text("op").contains("rule") => ("ModifyAuditRule", Management),
        kinds::CONFIG_CHANGE => ("ChangeAuditConfiguration", Management),
        kinds::BPF if text("op") == "UNLOAD" => ("UnloadBpfProgram", Data),
        kinds::BPF => ("LoadBpfProgram", Management),
        kinds::KERN_MODULE if view.first(kinds::SYSCALL).is_some_and(|call| Call::of(call).name == "delete_module") => {
            ("UnloadKernelModule", Management)
        }
        kinds::AVC | kinds::USER_AVC => access(view, &text("apparmor")),
        kind => {
            let found = RECORDS.iter().find(|(first, last, _, _)| (*first..=*last).contains(&kind));
            let is_user_space = (1100..1300).contains(&kind) || kind > 2000;
            found.map_or(OTHERS[usize::from(!is_user_space)], |(_, _, name, class)| (name, *class))
        }
    }
}

/// An access vector's decision: SELinux says it in words, AppArmor in a field of its own.
fn access(view: &View<'_>, apparmor: &str) -> (&'static str, Kind) {
    let words = view.primary().map(|fields| fields.words().to_vec()).unwrap_or_default();
    match apparmor {
        "ALLOWED" | "AUDIT" | "HINT" => ("ReportAccess", Data),
        "STATUS" => ("LoadSecurityPolicy", Management),
        _ if words.contains(&"granted") || is_permissive(view) => ("ReportAccess", Data),
        _ if words.contains(&"policyload") => ("LoadSecurityPolicy", Management),
        _ if words.contains(&"setenforce") => ("ChangeSecurityMode", Management),
        _ => ("DenyAccess", Management),
    }
}

/// Whether a policy that only reports let it pass: `denied` is what it would have said.
fn is_permissive(view: &View<'_>) -> bool {
    view.primary().and_then(|fields| fields.raw("permissive")) == Some("1")
}

/// Whether a decision refused something.
pub fn is_denied(view: &View<'_>) -> bool {
    let Some(fields) = view.primary() else { return false };
    // A link or file that the kernel would not follow or create is told only where it was refused.
    let by_type = matches!(view.kind(), kinds::ANOM_LINK | 1703 | 1423 | 1503 | 1507);
    let by_word = matches!(view.kind(), kinds::AVC | kinds::USER_AVC) && fields.words().contains(&"denied");
    let by_word = by_word && !is_permissive(view);
    by_type || by_word || matches!(fields.raw("apparmor"), Some("DENIED" | "KILLED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_type_is_classified_once() {
        for number in kinds::numbers() {
            let rows = RECORDS.iter().filter(|(first, last, _, _)| (*first..=*last).contains(&number)).count();
            let elsewhere = kinds::is_auxiliary(number)
                || matches!(number, 1100..=1106 | 1108..=1110 | 1112..=1117 | 1123 | 1130..=1133 | 1135..=1136)
                || matches!(number, kinds::CONFIG_CHANGE | kinds::BPF | kinds::EOE);
            assert_eq!(rows, usize::from(!elsewhere), "{:?}", kinds::name(number));
        }
    }
}
