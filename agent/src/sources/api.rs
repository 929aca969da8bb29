//! Events that local programs post to a Unix socket.

/// One posted event with the caller as the kernel names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Post {}
