//! A policy's document: version, id, statements.
//!
//! Stricter than IAM where a slip would pass for a permission or a refusal: unknown members, members that stand twice,
//! empty lists, and variables under the version that does not read them (there they would be plain text, and a deny with
//! them would deny nothing).
//!
//! Source: IAM User Guide, "Grammar of the IAM JSON policy language".

use crate::place::{Node, Place, nearest};
use crate::statement::Statement;
use crate::{CHARACTERS_MAX, PolicyError, TEXT_BYTES_MAX};

const MEMBERS: [&str; 3] = ["Version", "Id", "Statement"];

/// The version that reads variables.
const VERSION: &str = "2012-10-17";
/// The version before, and that of a policy without one.
const VERSION_BEFORE: &str = "2008-10-17";

/// A policy for whom it is attached to, or for a session: read, checked and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    id: Option<String>,
    pub(crate) statements: Vec<Statement>,
}

impl Policy {
    /// Reads a document in JSON. Its bounds are [`CHARACTERS_MAX`], [`TEXT_BYTES_MAX`] and [`crate::DEPTH_MAX`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PolicyError::TooManyBytes(text.len()));
        }
        let characters = text.chars().filter(|character| !character.is_whitespace()).count();
        if characters > CHARACTERS_MAX {
            return Err(PolicyError::TooLong(characters));
        }
        let node =
            Node::parse(text).map_err(|source| PolicyError::NotJson { line: source.line(), column: source.column(), source })?;
        Self::of(node)
    }

    fn of(node: Node) -> Result<Self, PolicyError> {
        let place = Place::default();
        let (mut variables, mut id, mut statements) = (false, None, None);
        for (name, node) in node.object(&place)? {
            let place = place.member(&name);
            match name.as_str() {
                "Version" => variables = reads_variables(&node.text(&place)?, &place)?,
                "Id" => id = Some(node.text(&place)?),
                "Statement" => statements = Some((node, place)),
                _ => return Err(place.error(format!("no such member of a policy; {}", nearest(&name, &MEMBERS)))),
            }
        }
        let Some((node, place)) = statements else { return Err(place.error("has no `Statement`: write at least one")) };
        Ok(Self { id, statements: statements_of(node, &place, variables)? })
    }

    /// Its `Id`, which decides nothing.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

fn statements_of(node: Node, place: &Place, variables: bool) -> Result<Vec<Statement>, PolicyError> {
    let mut statements: Vec<Statement> = Vec::new();
    for (place, node) in node.one_or_list(place)? {
        let statement = Statement::parse(node, &place, variables)?;
        if statement.sid.is_some() && statements.iter().any(|former| former.sid == statement.sid) {
            return Err(place.member("Sid").error("is that of an earlier statement, too: choose another, or leave it out"));
        }
        statements.push(statement);
    }
    Ok(statements)
}

fn reads_variables(version: &str, place: &Place) -> Result<bool, PolicyError> {
    match version {
        VERSION => Ok(true),
        VERSION_BEFORE => Ok(false),
        _ => Err(place.error(format!("no such version of the language: write \"{VERSION}\""))),
    }
}
