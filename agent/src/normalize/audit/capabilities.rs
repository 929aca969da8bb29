//! Capabilities, by name. Source: linux/capability.h.

/// From bit 0 on.
const NAMES: &str = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service \
    net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot \
    sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog \
    wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore";

/// `CAP_SYS_ADMIN` of 21; the number itself where there is no name.
pub fn name(number: u32) -> String {
    let name = usize::try_from(number).ok().and_then(|number| NAMES.split_whitespace().nth(number));
    name.map_or_else(|| number.to_string(), |name| format!("CAP_{}", name.to_ascii_uppercase()))
}

/// The names of a mask's bits.
pub fn names(mask: u64) -> Vec<String> {
    (0..64).filter(|bit| mask & (1 << bit) != 0).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_named_bit_by_bit() {
        assert_eq!(names(0x20_0001), ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        assert_eq!((name(40), name(41), names(0).len()), ("CAP_CHECKPOINT_RESTORE".to_owned(), "41".to_owned(), 0));
        assert_eq!(names(u64::MAX).len(), 64);
    }
}
