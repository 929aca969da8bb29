//! The decision: default deny, an explicit deny wins, a session's policy narrows.
//!
//! Invariants, each tested over random policies: adding a deny never allows, adding an allow never overrides a deny, the
//! order of policies and statements decides nothing but which statement is named.
//!
//! Source: IAM User Guide, "Policy evaluation logic".

use std::fmt;

use crate::document::Policy;
use crate::request::{Known, Request};
use crate::statement::Effect;

/// What becomes of a request. Only [`Decision::Allowed`] lets it through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The principal's own statement that allows it; the session's policy, if there is one, does too.
    Allowed { by: StatementId },
    /// An explicit deny.
    Denied { by: StatementId },
    /// Nothing allows it.
    NotAllowed,
}

/// Which statement decided. For records and explanations: never for the refused caller, whom it would tell what would
/// have been allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementId {
    pub of: Origin,
    /// From 0.
    pub statement: usize,
    pub sid: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The how manieth of the principal's policies, from 0.
    Identity(usize),
    Session,
}

impl Decision {
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl fmt::Display for StatementId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Statement[{}]", self.statement)?;
        if let Some(sid) = &self.sid {
            write!(formatter, " ({sid})")?;
        }
        match self.of {
            Origin::Identity(policy) => write!(formatter, " of policy {policy}"),
            Origin::Session => write!(formatter, " of the session's policy"),
        }
    }
}

/// Decides a request by all policies of a principal, and that of its session. A request beyond its bounds, or that takes
/// more than [`crate::STEPS_MAX`], is not allowed.
pub fn decide<'p>(identity: impl IntoIterator<Item = &'p Policy>, session: Option<&Policy>, request: &Request<'_>) -> Decision {
    if !request.is_bounded() {
        return Decision::NotAllowed;
    }
    let asked =
        Asked { action: request.action.to_ascii_lowercase(), resource: request.resource, known: Known::new(request.context) };
    let mut allowed = None;
    for (number, policy) in identity.into_iter().enumerate() {
        match judge(policy, Origin::Identity(number), &asked) {
            denied @ Decision::Denied { .. } => return denied,
            Decision::Allowed { by } => allowed = allowed.or(Some(by)),
            Decision::NotAllowed => {}
        }
    }
    let by_session = session.map(|policy| judge(policy, Origin::Session, &asked));
    if asked.known.is_exhausted() {
        return Decision::NotAllowed;
    }
    match (allowed, by_session) {
        (_, Some(denied @ Decision::Denied { .. })) => denied,
        (Some(by), None | Some(Decision::Allowed { .. })) => Decision::Allowed { by },
        (_, Some(Decision::NotAllowed)) | (None, _) => Decision::NotAllowed,
    }
}

/// A request while it is decided.
struct Asked<'a> {
    /// In lower case.
    action: String,
    resource: &'a str,
    known: Known<'a>,
}

/// What one policy says for itself. Not allowed, once the steps left are exhausted: a deny further on was not looked at.
fn judge(policy: &Policy, of: Origin, asked: &Asked<'_>) -> Decision {
    let mut allowed = None;
    for (number, statement) in policy.statements.iter().enumerate() {
        let applies = statement.applies(&asked.action, asked.resource, &asked.known);
        if asked.known.is_exhausted() {
            return Decision::NotAllowed;
        }
        if !applies {
            continue;
        }
        let by = StatementId { of, statement: number, sid: statement.sid.clone() };
        match statement.effect {
            Effect::Deny => return Decision::Denied { by },
            Effect::Allow => allowed = allowed.or(Some(by)),
        }
    }
    allowed.map_or(Decision::NotAllowed, |by| Decision::Allowed { by })
}
