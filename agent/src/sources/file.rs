//! JSON lines from files, followed across rotation.

/// One line of a followed file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {}
