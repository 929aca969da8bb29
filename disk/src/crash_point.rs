//! Named places between two steps towards durability, at which a test lets the process die.
//!
//! A debug build that is started with `EDGETRAIL_CRASH_POINT=NAME:N` is killed by SIGKILL when it comes to that place for the
//! N-th time: nothing is flushed, nothing is said, as with a kill from outside, but at the worst moment. A release build holds
//! none of this.

/// Every place there is, for tests to choose from. What comes before the slash is the program, or `key-file`,
/// which both have, or `relay`, which a collector is in that role alone.
pub const CRASH_POINTS: &[&str] = &[
    "agent/buffer-before-commit",
    "agent/buffer-committed",
    "agent/seal-published",
    "agent/receipt-arrived",
    "agent/receipt-stored",
    "collector/directory-before-rename",
    "collector/directory-renamed",
    "collector/history-before-commit",
    "collector/history-committed",
    "collector/internal-committed",
    "collector/ledger-committed",
    "collector/ledger-synced",
    "collector/ledger-written",
    "collector/object-marked",
    "collector/object-put",
    "collector/plan-before-commit",
    "collector/plan-committed",
    "key-file/erased",
    "key-file/written",
    "relay/forwarded",
    "relay/receipt-stored",
];

/// The process ends here if it was started so.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn crash_point(_name: &'static str) {}

/// The process ends here if it was started so.
#[cfg(debug_assertions)]
pub fn crash_point(name: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The place and how often it is still to be passed.
    static CHOSEN: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let chosen = std::env::var("EDGETRAIL_CRASH_POINT").ok()?;
        let (name, count) = chosen.rsplit_once(':')?;
        let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
        Some((name.to_owned(), AtomicU64::new(count)))
    });

    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not among CRASH_POINTS");
    let Some((chosen, left)) = &*CHOSEN else { return };
    if chosen == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        debug_assert!(killed.is_ok(), "a process may signal itself");
    }
}
