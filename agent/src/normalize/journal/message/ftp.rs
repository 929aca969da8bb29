//! vsftpd's own lines, where it writes them to syslog.
//!
//! Source: vsftpd's logging.c. What it moves for whom is in its transfer log; here only logins are read.

use super::{Said, Statement, between};

/// `[bob] OK LOGIN: Client "192.0.2.1"`, `[bob] FAIL LOGIN: …`, `CONNECT: Client "192.0.2.1"`
pub(super) fn vsftpd(message: &str) -> Option<Statement> {
    let address = between(message, ": Client \"", "\"")?;
    let address = address.strip_prefix("::ffff:").unwrap_or(address).to_owned();
    let port = String::new();
    if message.starts_with("CONNECT: ") {
        let (name, user) = ("OpenConnection", String::new());
        return Some(Statement::step(Said::Connection { name, user, address, port, why: None }));
    }
    // The name is the peer's word: the verb stands behind the last bracket.
    let (user, rest) = message.split_once(": Client ")?.0.strip_prefix('[')?.rsplit_once("] ")?;
    let (user, method) = (user.to_owned(), "password".to_owned());
    match rest {
        "OK LOGIN" => Some(Statement::of(Said::Login { user, address, port, method, key: None })),
        "FAIL LOGIN" => {
            let (is_unknown, why) = (false, super::FAILED_AUTHENTICATION.to_owned());
            Some(Statement::of(Said::LoginFailure { user, address, port, method, is_unknown, why }))
        }
        _ => None,
    }
}
