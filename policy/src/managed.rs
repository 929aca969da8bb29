//! The four policies that come with the product. Each speaks for the principal's own account alone.
//!
//! Invariant: every allow asks for `aws:ResourceAccount` = `${aws:PrincipalAccount}`. A request whose context lacks one
//! of the two is not allowed, so that a caller of [`crate::decide`] that forgets them opens nothing.

use std::sync::LazyLock;

use crate::document::Policy;

/// What a principal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Managed {
    /// How trails and the like are set up and whether they run; no records.
    Viewer,
    /// And records: looks them up and queries them.
    Investigator,
    /// And the evidence: log files, digests, the keys that prove them, who belongs to the organization.
    Auditor,
    /// Everything.
    Administrator,
}

impl Managed {
    /// From the narrowest to the widest: each allows what the one before it does.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Investigator, Self::Auditor, Self::Administrator];

    /// `Viewer`: what operators write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "Viewer",
            Self::Investigator => "Investigator",
            Self::Auditor => "Auditor",
            Self::Administrator => "Administrator",
        }
    }

    /// By its name or its ARN in any partition.
    pub fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|managed| {
            let by_arn = || {
                let (partition, name) = text.strip_prefix("arn:")?.split_once(":iam::aws:policy/Edgetrail")?;
                Some(!partition.contains(':') && name == managed.name())
            };
            text == managed.name() || by_arn() == Some(true)
        })
    }

    /// `arn:aws:iam::aws:policy/EdgetrailViewer`.
    pub fn arn(self, partition: &str) -> String {
        format!("arn:{partition}:iam::aws:policy/Edgetrail{}", self.name())
    }

    /// Its document.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Viewer => include_str!("managed/viewer.json"),
            Self::Investigator => include_str!("managed/investigator.json"),
            Self::Auditor => include_str!("managed/auditor.json"),
            Self::Administrator => include_str!("managed/administrator.json"),
        }
    }

    /// Its document, read.
    pub fn policy(self) -> &'static Policy {
        static POLICIES: LazyLock<[Policy; 4]> = LazyLock::new(|| Managed::ALL.map(read));
        let [viewer, investigator, auditor, administrator] = &*POLICIES;
        match self {
            Self::Viewer => viewer,
            Self::Investigator => investigator,
            Self::Auditor => auditor,
            Self::Administrator => administrator,
        }
    }
}

/// The four texts are part of the program, and a test reads each of them.
#[expect(clippy::expect_used, reason = "see the proof above")]
fn read(managed: Managed) -> Policy {
    Policy::parse(managed.text()).expect("a policy of the program's own")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_managed_policy_can_be_read() {
        for managed in Managed::ALL {
            assert!(Policy::parse(managed.text()).is_ok_and(|policy| &policy == managed.policy()), "{managed:?}");
        }
    }

    #[test]
    fn a_managed_policy_is_found_by_its_name_and_arn_alone() {
        for managed in Managed::ALL {
            assert_eq!(Managed::of(managed.name()), Some(managed));
            assert_eq!(Managed::of(&managed.arn("aws-cn")), Some(managed));
        }
        for text in [
            "",
            "viewer",
            "EdgetrailViewer",
            "arn:aws:iam::111122223333:policy/EdgetrailViewer",
            "arn:a:b:iam::aws:policy/EdgetrailViewer",
        ] {
            assert_eq!(Managed::of(text), None, "{text}");
        }
    }
}
