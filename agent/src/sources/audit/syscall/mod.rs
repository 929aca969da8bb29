//! Names of system calls by architecture; from 424 on all share their numbers.
//!
//! Each table is runs of names behind the number of the first, `-` where there is none: text costs no start-up work and
//! no writable memory, and a look-up walks it in about a microsecond.

mod aarch64;
mod arm;
mod i386;
mod powerpc64;
mod s390x;
mod x86_64;

/// An architecture as the audit record gives it: the ELF machine with its byte-order and 64-bit flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    I386,
    Aarch64,
    Arm,
    Powerpc64,
    Powerpc64Le,
    S390x,
}

/// Marks a call of the x32 ABI. Source: asm/unistd.h of x86.
const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// Source: AUDIT_ARCH_* in linux/audit.h, EM_* in linux/elf-em.h.
    pub fn of(audit_arch: u64) -> Option<Self> {
        match audit_arch {
            0xc000_003e => Some(Self::X86_64),
            0x4000_0003 => Some(Self::I386),
            0xc000_00b7 => Some(Self::Aarch64),
            0x4000_0028 => Some(Self::Arm),
            0x8000_0015 => Some(Self::Powerpc64),
            0xc000_0015 => Some(Self::Powerpc64Le),
            0x8000_0016 => Some(Self::S390x),
            _ => None,
        }
    }

    /// Of its name, as auditd writes it in enriched logs.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::X86_64, Self::I386, Self::Aarch64, Self::Arm, Self::Powerpc64, Self::Powerpc64Le, Self::S390x];
        all.into_iter().find(|arch| arch.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
            Self::Powerpc64 => "ppc64",
            Self::Powerpc64Le => "ppc64le",
            Self::S390x => "s390x",
        }
    }

    /// The name of a system call.
    pub fn syscall(self, number: u32) -> Option<&'static str> {
        let (table, number) = match self {
            Self::X86_64 => (x86_64::CALLS, number & !X32_BIT),
            Self::I386 => (i386::CALLS, number),
            Self::Aarch64 => (aarch64::CALLS, number),
            Self::Arm => (arm::CALLS, number),
            Self::Powerpc64 | Self::Powerpc64Le => (powerpc64::CALLS, number),
            Self::S390x => (s390x::CALLS, number),
        };
        let (first, names) = table.iter().rev().find(|(first, _)| *first <= number)?;
        let index = usize::try_from(number.checked_sub(*first)?).ok()?;
        names.split(' ').nth(index).filter(|name| *name != "-")
    }

    /// The number of a system call.
    pub fn number(self, name: &str) -> Option<u32> {
        (0..1024).find(|number| self.syscall(*number) == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_have_their_names() {
        for (arch, number, name) in [
            (Arch::X86_64, 0, "read"),
            (Arch::X86_64, 59, "execve"),
            (Arch::X86_64, 257, "openat"),
            (Arch::X86_64, 437, "openat2"),
            (Arch::I386, 11, "execve"),
            (Arch::I386, 102, "socketcall"),
            (Arch::I386, 197, "fstat64"),
            (Arch::Aarch64, 37, "linkat"),
            (Arch::Aarch64, 221, "execve"),
            (Arch::Arm, 11, "execve"),
            (Arch::Arm, 322, "openat"),
            (Arch::Aarch64, 38, "renameat"),
            (Arch::Powerpc64Le, 11, "execve"),
            (Arch::Powerpc64, 286, "openat"),
            (Arch::Powerpc64Le, 437, "openat2"),
            (Arch::S390x, 11, "execve"),
            (Arch::S390x, 288, "openat"),
            (Arch::S390x, 213, "setuid"),
            (Arch::X86_64, X32_BIT | 520, "execve"),
            (Arch::X86_64, X32_BIT | 2, "open"),
        ] {
            assert_eq!(arch.syscall(number), Some(name), "{} {number}", arch.name());
        }
        assert_eq!(
            (Arch::X86_64.number("execve"), Arch::S390x.number("execve"), Arch::Arm.number("none")),
            (Some(59), Some(11), None)
        );
        assert_eq!(Arch::X86_64.syscall(400), None);
        assert_eq!(Arch::X86_64.syscall(u32::MAX), None);
    }
}
