//! What the 32-bit PowerPC and the 31-bit s390 have otherwise than their 64-bit kin: calls with 16-bit ids, 64-bit
//! offsets and times. Sources: syscall.tbl of powerpc and of s390 in Linux.

/// 64-bit times, which both have under the same numbers.
const TIMES: &str = "clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 \
     timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64 - \
     io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64 \
     rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64";

/// Runs of names behind the number of the first, `-` where there is none or the other table has it.
pub(super) const POWERPC: &[(u32, &str)] =
    &[(192, "mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64"), (204, "fcntl64"), (226, "sendfile64"), (403, TIMES)];

pub(super) const S390: &[(u32, &str)] = &[
    (13, "time - - lchown - - - - - - setuid getuid stime"),
    (46, "setgid getgid - geteuid getegid"),
    (70, "setreuid setregid - - - - getrlimit - - - getgroups setgroups"),
    (95, "fchown - - - - - ioperm"),
    (138, "setfsuid setfsgid _llseek - _newselect"),
    (164, "setresuid getresuid - - - - setresgid getresgid"),
    (182, "chown"),
    (
        191,
        "ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32 geteuid32 getegid32 \
         setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32 setresgid32 getresgid32 chown32 \
         setuid32 setgid32 setfsuid32 setfsgid32",
    ),
    (221, "fcntl64 - sendfile64"),
    (264, "fadvise64_64"),
    (403, TIMES),
];
