//! Which names say that their value is a secret.
//!
//! Compared without case and without `-`, `_`, `.`: `apiKey`, `API_KEY` and `api-key` are one name. A name is secret by
//! its last words, so that `DB_PASSWORD` is and `passwordPolicy` is not.

/// Whole names and endings of names, folded.
const ENDINGS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "secretkey",
    "secretaccesskey",
    "secretstring",
    "secretvalue",
    "clientsecret",
    "token",
    "sessiontoken",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "authtoken",
    "bearertoken",
    "apikey",
    "apitoken",
    "apisecret",
    "privatekey",
    "sshkey",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "accesskey",
    "authorization",
    "proxyauthorization",
    "credential",
    "credentials",
    "cookie",
    "setcookie",
    "connectionstring",
    "sas",
    "sastoken",
    "sig",
    "xamzsignature",
    "xgoogsignature",
    "pin",
    "otp",
    "totp",
    "mfacode",
    "sshpass",
];

/// Last words that are secret, set apart from what stands before: `DB_PASS`, `smtp-pass`, `dbPass`, but not `bypass`.
const LAST_WORDS: &[&str] = &["pass", "pwd"];

/// Endings that are secret only as a whole name: words of other meanings end in them.
const WHOLE_ONLY: &[&str] = &["pwd", "sas", "sig", "pin", "otp", "totp", "accesskey", "sshpass"];

/// Names that end like secrets and are none.
const HARMLESS: &[&str] = &[
    "nexttoken",
    "continuationtoken",
    "paginationtoken",
    "pagetoken",
    "clienttoken",
    "clientrequesttoken",
    "idempotencytoken",
    "pwd",
    "oldpwd",
    "publickey",
    "nopasswd",
];

/// The names of one configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    extra: Vec<String>,
    allow: Vec<String>,
}

impl Names {
    pub(super) fn new(extra: &[String], allow: &[String]) -> Self {
        let folded = |names: &[String]| names.iter().map(|name| fold(name)).collect();
        Self { extra: folded(extra), allow: folded(allow) }
    }

    pub(super) fn is_secret(&self, name: &str) -> bool {
        if name.len() > NAME_BYTES_MAX {
            return false;
        }
        let folded = fold(name);
        if self.allow.contains(&folded) {
            return false;
        }
        if self.extra.iter().any(|extra| folded.ends_with(extra.as_str())) {
            return true;
        }
        if HARMLESS.contains(&folded.as_str()) {
            return false;
        }
        ENDINGS.iter().any(|ending| if WHOLE_ONLY.contains(ending) { folded == *ending } else { folded.ends_with(ending) })
            || LAST_WORDS.iter().any(|word| ends_in_word(name, word))
    }
}

/// Whether a name ends in a word: after a separator, in capitals after small letters, or as a whole.
fn ends_in_word(name: &str, word: &str) -> bool {
    let Some((before, last)) = name.len().checked_sub(word.len()).and_then(|at| name.split_at_checked(at)) else { return false };
    let is_apart = match before.chars().next_back() {
        None => true,
        Some(c) if c.is_alphanumeric() => c.is_lowercase() && last.starts_with(char::is_uppercase),
        Some(_) => true,
    };
    is_apart && last.eq_ignore_ascii_case(word)
}

/// Longer names are no names.
const NAME_BYTES_MAX: usize = 128;

fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_last_words() {
        let names = Names::default();
        for secret in [
            "password",
            "DB_PASSWORD",
            "apiKey",
            "API-KEY",
            "client_secret",
            "AWS_SECRET_ACCESS_KEY",
            "sessionToken",
            "Authorization",
            "DB_PASS",
            "smtp-pass",
            "dbPass",
            "pass",
            "MYSQL_PWD",
            "SSHPASS",
        ] {
            assert!(names.is_secret(secret), "{secret}");
        }
        for harmless in [
            "passwordPolicy",
            "PWD",
            "nextToken",
            "tokenCount",
            "secretary",
            "user",
            "keyId",
            "accessKeyId",
            "pinned",
            "NOPASSWD",
            "bypass",
            "BYPASS",
            "compass",
            "OLDPWD",
            "pass-through",
        ] {
            assert!(!names.is_secret(harmless), "{harmless}");
        }
        let names = Names::new(&["launch_code".to_owned()], &["sessionToken".to_owned()]);
        assert!(names.is_secret("LaunchCode") && !names.is_secret("session_token"));
    }
}
