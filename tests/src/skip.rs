//! Tests that need root or a program of the machine's: they fail where it is missing, and are skipped only by name.

/// Whether `variable` is set to 1, which says that what needs `what` is not to be tried here. Where it is not, root must
/// run the test.
///
/// # Panics
/// If this is not root and nothing says that the test is to be skipped: it never passes silently.
pub fn unless_root(variable: &str, what: &str) -> bool {
    if by_name(variable, what) {
        return true;
    }
    assert!(rustix::process::geteuid().is_root(), "{what} needs root: run as root, or set {variable}=1");
    false
}

/// The same where something else than root is needed: the caller fails by itself if it is missing.
pub fn by_name(variable: &str, what: &str) -> bool {
    let skip = std::env::var_os(variable).is_some_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED: {what}, because {variable}=1");
    }
    skip
}
