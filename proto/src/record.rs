//! CloudTrail's record, eventVersion 1.11.

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {}
