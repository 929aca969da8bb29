//! How users proved who they are, between that proof and the session that follows it.
//!
//! PAM's record of the proof and the program's own message come before the session has a number, or just after: they meet
//! by account and address. Bounded; a proof that finds no session in time is forgotten.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub struct Methods {
    recent: VecDeque<Proof>,
}

#[derive(Debug)]
struct Proof {
    account: String,
    address: String,
    method: String,
    /// Unix seconds.
    time: u64,
}

/// A session is opened within this many seconds of the proof.
const PROOF_MAX: u64 = 30;

const RECENT_MAX: usize = 128;

impl Methods {
    pub fn proven(&mut self, account: &str, address: &str, method: &str, time: u64) {
        self.recent.retain(|proof| time.saturating_sub(proof.time) <= PROOF_MAX);
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        let (account, address, method) = (account.to_owned(), address.to_owned(), method.to_owned());
        self.recent.push_back(Proof { account, address, method, time });
    }

    /// The last proof of an account from an address, once.
    pub fn take(&mut self, account: &str, address: &str, time: u64) -> Option<String> {
        let is_it =
            |proof: &Proof| proof.account == account && proof.address == address && time.saturating_sub(proof.time) <= PROOF_MAX;
        let at = self.recent.iter().rposition(is_it)?;
        self.recent.remove(at).map(|proof| proof.method)
    }
}

/// The method that PAM's or sshd's record of a proof names: by its operation, else by the modules that granted it.
pub fn of(operation: &str, grantors: &str) -> String {
    let has = |word: &str| operation.contains(word);
    match operation {
        _ if has("pubkey") || has("publickey") => "publickey".to_owned(),
        _ if has("gssapi") => "gssapi".to_owned(),
        _ if has("hostbased") => "hostbased".to_owned(),
        _ if ["pam_unix", "pam_sss", "pam_ldap", "pam_winbind", "pam_krb5"].iter().any(|module| grantors.contains(module)) => {
            "password".to_owned()
        }
        _ if !grantors.is_empty() => grantors.to_owned(),
        _ => operation.trim_start_matches("PAM:").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_serves_one_session() {
        let mut methods = Methods::default();
        methods.proven("alice", "192.0.2.1", "password", 100);
        assert_eq!(methods.take("alice", "192.0.2.2", 101), None);
        assert_eq!(methods.take("alice", "192.0.2.1", 101).as_deref(), Some("password"));
        assert_eq!(methods.take("alice", "192.0.2.1", 101), None);
        methods.proven("alice", "", "password", 100);
        assert_eq!(methods.take("alice", "", 200), None);
    }

    #[test]
    fn the_method_is_named_by_operation_or_modules() {
        assert_eq!(of("pubkey_auth", ""), "publickey");
        assert_eq!(of("PAM:authentication", "pam_faillock,pam_unix"), "password");
        assert_eq!(of("PAM:authentication", "pam_yubico"), "pam_yubico");
        assert_eq!(of("PAM:authentication", ""), "authentication");
    }
}
