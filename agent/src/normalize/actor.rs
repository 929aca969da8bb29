//! Who acted, as userIdentity: the human first. docs/events.md.
//!
//! One place for all sources, so that one act has one actor whoever saw it. A missing name is the id as text; a
//! missing id is `Unknown`.

use edgetrail_proto::record::{SessionContext, SessionIssuer, UserIdentity};

use super::Host;

/// A user of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Person {
    pub uid: u32,
    pub name: Option<String>,
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A login user, acting as itself or (`effective` differs) as another.
    Login {
        login: Person,
        effective: Person,
    },
    /// A daemon or timer: no login user stands behind it. `program` is the eventSource-like name, `cron.linux`.
    Daemon {
        effective: Person,
        program: String,
    },
    /// Only a name is known, as in a message of the journal.
    Named {
        name: String,
    },
    /// Somebody named `login` acts as somebody named `effective`; ids where known.
    NamedAs {
        login: String,
        login_uid: Option<u32>,
        effective: String,
        effective_uid: Option<u32>,
    },
    Unknown,
}

impl Person {
    /// The name, else the uid as text.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.uid.to_string())
    }

    pub fn arn(&self, host: &Host) -> String {
        user_arn(host, &self.label())
    }
}

/// `arn:P:host:REGION:ACCOUNT:HOST/user/NAME`.
pub fn user_arn(host: &Host, name: &str) -> String {
    host_arn(host, &format!("user/{name}"))
}

/// The ARN of a thing on this host.
pub fn host_arn(host: &Host, rest: &str) -> String {
    let Host { partition, region, account, name, .. } = host;
    format!("arn:{partition}:host:{region}:{account}:{name}/{rest}")
}

impl Actor {
    /// Of a process's ids: `login` is the audit login uid, `None` where no login stands behind the process.
    pub fn of(login: Option<Person>, effective: Person, program: &str) -> Self {
        match login {
            Some(login) => Self::Login { login, effective },
            None => Self::Daemon { effective, program: program.to_owned() },
        }
    }

    pub fn identity(&self, host: &Host) -> UserIdentity {
        let account = Some(host.account.to_string());
        match self {
            Self::Login { login, effective } if login.uid == effective.uid => {
                plain(host, &login.label(), Some(login.uid), login.uid == 0)
            }
            Self::Login { login, effective } => {
                role(host, (&login.label(), Some(login.uid)), (&effective.label(), Some(effective.uid)))
            }
            Self::Daemon { effective, program } => UserIdentity {
                kind: Some("AWSService".to_owned()),
                principal_id: Some(effective.uid.to_string()),
                account_id: account,
                invoked_by: Some(program.clone()),
                ..UserIdentity::default()
            },
            Self::Named { name } => plain(host, name, None, name == "root"),
            Self::NamedAs { login, login_uid, effective, effective_uid } if login == effective => {
                plain(host, login, login_uid.or(*effective_uid), login == "root")
            }
            Self::NamedAs { login, login_uid, effective, effective_uid } => {
                role(host, (login, *login_uid), (effective, *effective_uid))
            }
            Self::Unknown => UserIdentity { kind: Some("Unknown".to_owned()), ..UserIdentity::default() },
        }
    }
}

fn plain(host: &Host, name: &str, uid: Option<u32>, is_root: bool) -> UserIdentity {
    UserIdentity {
        kind: Some(if is_root { "Root" } else { "IAMUser" }.to_owned()),
        principal_id: uid.map(|uid| uid.to_string()),
        arn: Some(user_arn(host, name)),
        account_id: Some(host.account.to_string()),
        user_name: Some(name.to_owned()),
        ..UserIdentity::default()
    }
}

/// Somebody acting as another: the effective user is the role, the login user its issuer.
fn role(host: &Host, login: (&str, Option<u32>), effective: (&str, Option<u32>)) -> UserIdentity {
    let is_root = login.1 == Some(0) || login.0 == "root";
    let issuer = SessionIssuer {
        kind: Some(if is_root { "Root" } else { "IAMUser" }.to_owned()),
        principal_id: login.1.map(|uid| uid.to_string()),
        arn: Some(user_arn(host, login.0)),
        account_id: Some(host.account.to_string()),
        user_name: Some(login.0.to_owned()),
        ..SessionIssuer::default()
    };
    let effective_id = effective.1.map_or_else(|| effective.0.to_owned(), |uid| uid.to_string());
    UserIdentity {
        kind: Some("AssumedRole".to_owned()),
        principal_id: Some(format!("{effective_id}:{}", login.0)),
        arn: Some(host_arn(host, &format!("assumed-role/{}/{}", effective.0, login.0))),
        account_id: Some(host.account.to_string()),
        session_context: Some(SessionContext { session_issuer: Some(issuer), ..SessionContext::default() }),
        ..UserIdentity::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(uid: u32, name: &str) -> Person {
        Person { uid, name: Some(name.to_owned()) }
    }

    #[test]
    fn a_login_user_who_acts_as_root_is_a_role_issued_to_the_human() {
        let host = Host::for_tests();
        let identity = Actor::of(Some(person(1000, "alice")), person(0, "root"), "sudo.linux").identity(&host);
        assert_eq!(identity.kind.as_deref(), Some("AssumedRole"));
        assert_eq!(identity.principal_id.as_deref(), Some("0:alice"));
        assert_eq!(identity.arn.as_deref(), Some("arn:aws:host:dc-local-1:111122223333:web-1/assumed-role/root/alice"));
        let issuer = identity.session_context.unwrap().session_issuer.unwrap();
        assert_eq!(issuer.user_name.as_deref(), Some("alice"));
        assert_eq!(issuer.arn.as_deref(), Some("arn:aws:host:dc-local-1:111122223333:web-1/user/alice"));
    }

    #[test]
    fn root_itself_a_user_itself_and_a_daemon_are_told_apart() {
        let host = Host::for_tests();
        let kind = |actor: Actor| actor.identity(&host).kind.unwrap();
        assert_eq!(kind(Actor::of(Some(person(0, "root")), person(0, "root"), "x.linux")), "Root");
        assert_eq!(kind(Actor::of(Some(person(7, "eve")), person(7, "eve"), "x.linux")), "IAMUser");
        assert_eq!(kind(Actor::of(None, person(0, "root"), "cron.linux")), "AWSService");
        assert_eq!(kind(Actor::Unknown), "Unknown");
    }
}
