//! What is indexed of a record.

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {}
