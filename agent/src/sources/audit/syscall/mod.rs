//! Names of system calls by architecture; from 424 on all share their numbers.
//!
//! Each table is runs of names behind the number of the first, `-` where there is none: text costs no start-up work and
//! no writable memory, and a look-up walks it in about a microsecond.

mod aarch64;
mod arm;
mod i386;
mod narrow;
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
    Powerpc,
    S390x,
    S390,
    Riscv64,
    Loongarch64,
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
            0x0000_0014 => Some(Self::Powerpc),
            0x8000_0016 => Some(Self::S390x),
            0x0000_0016 => Some(Self::S390),
            0xc000_00f3 => Some(Self::Riscv64),
            0xc000_0102 => Some(Self::Loongarch64),
            _ => None,
        }
    }

    /// Of its name, as auditd writes it in enriched logs.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::X86_64,
            Self::I386,
            Self::Aarch64,
            Self::Arm,
            Self::Powerpc64,
            Self::Powerpc64Le,
            Self::Powerpc,
            Self::S390x,
            Self::S390,
            Self::Riscv64,
            Self::Loongarch64,
        ];
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
            Self::Powerpc => "ppc",
            Self::S390x => "s390x",
            Self::S390 => "s390",
            Self::Riscv64 => "riscv64",
            Self::Loongarch64 => "loongarch64",
        }
    }

    /// The name of a system call.
    pub fn syscall(self, number: u32) -> Option<&'static str> {
        let number = if self == Self::X86_64 { number & !X32_BIT } else { number };
        self.tables().iter().find_map(|table| find(table, number))
    }

    /// What is the architecture's own before what it shares with another.
    const fn tables(self) -> &'static [Table] {
        match self {
            Self::X86_64 => &[x86_64::CALLS],
            Self::I386 => &[i386::CALLS],
            Self::Aarch64 => &[aarch64::CALLS],
            Self::Arm => &[arm::CALLS],
            Self::Powerpc64 | Self::Powerpc64Le => &[powerpc64::CALLS],
            Self::Powerpc => &[narrow::POWERPC, powerpc64::CALLS],
            Self::S390x => &[s390x::CALLS],
            Self::S390 => &[narrow::S390, s390x::CALLS],
            Self::Riscv64 => &[RISCV, aarch64::CALLS],
            Self::Loongarch64 => &[aarch64::CALLS],
        }
    }

    /// The number of a system call.
    pub fn number(self, name: &str) -> Option<u32> {
        (0..1024).find(|number| self.syscall(*number) == Some(name))
    }
}

/// Runs of names behind the number of the first.
type Table = &'static [(u32, &'static str)];

/// What riscv adds to the generic table, in the range that it leaves to architectures. Source: asm/unistd.h of riscv.
const RISCV: Table = &[(258, "riscv_hwprobe riscv_flush_icache")];

fn find(table: Table, number: u32) -> Option<&'static str> {
    let (first, names) = table.iter().rev().find(|(first, _)| *first <= number)?;
    let index = usize::try_from(number.checked_sub(*first)?).ok()?;
    let mut spaces = memchr::memchr_iter(b' ', names.as_bytes());
    let start = if index == 0 { 0 } else { spaces.nth(index - 1)? + 1 };
    let end = spaces.next().unwrap_or(names.len());
    names.get(start..end).filter(|name| *name != "-")
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
            (Arch::Riscv64, 221, "execve"),
            (Arch::Riscv64, 259, "riscv_flush_icache"),
            (Arch::Riscv64, 437, "openat2"),
            (Arch::Loongarch64, 56, "openat"),
            (Arch::Loongarch64, 106, "delete_module"),
            (Arch::Powerpc, 11, "execve"),
            (Arch::Powerpc, 195, "stat64"),
            (Arch::Powerpc, 404, "clock_settime64"),
            (Arch::S390, 23, "setuid"),
            (Arch::S390, 213, "setuid32"),
            (Arch::S390, 212, "chown32"),
            (Arch::S390, 11, "execve"),
            (Arch::S390, 404, "clock_settime64"),
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
