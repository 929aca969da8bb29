//! Secrets within command lines: what follows an option, or stands in a place of its own.

use std::ops::Range;

use super::names::Names;
use super::text::words_of;

/// Programs whose `-p` is a password, joined (`-pX`) or, where true, also apart (`-p X`).
const SHORT_P: &[(&str, bool)] = &[
    ("mysql", false),
    ("mysqldump", false),
    ("mysqladmin", false),
    ("mysqlimport", false),
    ("mysqlcheck", false),
    ("mysqlshow", false),
    ("mysqlpump", false),
    ("mysqlslap", false),
    ("mariadb", false),
    ("mariadb-dump", false),
    ("mariadb-admin", false),
    ("mariadb-check", false),
    ("mariadb-show", false),
    ("mariadb-import", false),
    ("sshpass", true),
    ("ldapmodify", false),
    ("docker", true),
    ("podman", true),
    ("smbclient", false),
    ("mongo", true),
    ("mongosh", true),
    ("mongodump", true),
    ("az", true),
    ("buildah", true),
    ("helm", true),
    ("nerdctl", true),
    ("oc", true),
    ("oras", true),
    ("skopeo", true),
];

/// Those of them whose `-p` is a password only where they log in: with others it is a port, a path, a pod.
const LOGIN_ONLY: &[&str] = &["az", "buildah", "docker", "helm", "nerdctl", "oc", "oras", "podman", "skopeo"];

/// Programs and their other short options that take a secret or `user:secret`.
const SHORT_OTHER: &[(&str, &str)] = &[
    ("curl", "-u"),
    ("curl", "--user"),
    ("curl", "--proxy-user"),
    ("curl", "--oauth2-bearer"),
    ("ldapsearch", "-w"),
    ("ldapmodify", "-w"),
    ("ldapadd", "-w"),
    ("redis-cli", "-a"),
    ("sqlcmd", "-P"),
    ("smbclient", "-U"),
    ("ansible-vault", "--vault-password"),
    ("openssl", "-passin"),
    ("openssl", "-passout"),
    ("openssl", "-pass"),
    ("usermod", "-p"),
    ("useradd", "-p"),
    ("chpasswd", "-e"),
];

/// Oracle's programs, which take `user/password@database`.
const ORACLE: &[&str] = &["sqlplus", "sqlldr", "expdp", "impdp"];

/// Programs of which an argument without an option is a secret.
const BY_PLACE: &[&str] = &["htpasswd", "mysqladmin", "mariadb-admin", "sqlplus", "sqlldr", "expdp", "impdp"];

/// `aws configure set aws_secret_access_key X`, `git config user.token X`: a secret's name, then its value.
pub(super) fn settings(text: &str, words: &[Range<usize>], names: &Names, spans: &mut Vec<Range<usize>>) {
    let word = |index: usize| words.get(index).and_then(|range| text.get(range.clone()));
    for index in 2..words.len() {
        let sets = matches!(word(index - 2), Some("set" | "config" | "--global" | "--add"));
        let name = word(index - 1).unwrap_or_default();
        if sets
            && !name.starts_with('-')
            && names.is_secret(name)
            && let Some(value) = words.get(index)
        {
            spans.push(unquoted(text, value));
        }
    }
}

/// `--password X`, `-p X` of the programs that mean a password by it, `curl -u user:X`.
pub(super) fn options(text: &str, words: &[Range<usize>], names: &Names, spans: &mut Vec<Range<usize>>) {
    let mut program = "";
    let mut is_start = true;
    for (index, word) in words.iter().enumerate() {
        let raw = text.get(word.clone()).unwrap_or_default();
        let plain = raw.trim_matches(['"', '\'']);
        // `bash -c "mysql -psecret"`: a command line within a quoted word.
        let inside = unquoted(text, word);
        if inside != *word && plain.contains(char::is_whitespace) {
            let inner = text.get(inside.clone()).unwrap_or_default();
            let mut found = Vec::new();
            options(inner, &words_of(inner), names, &mut found);
            spans.extend(found.into_iter().map(|span| span.start + inside.start..span.end + inside.start));
        }
        let base = plain.rsplit(['/', '=']).next().unwrap_or(plain);
        let is_known = SHORT_P.iter().any(|(name, _)| *name == base)
            || SHORT_OTHER.iter().any(|(name, _)| *name == base)
            || BY_PLACE.contains(&base);
        if is_start || is_known {
            program = base;
            by_place(text, base, words.get(index + 1..).unwrap_or_default(), spans);
        }
        is_start = matches!(plain, "|" | "||" | "&&" | ";" | "sudo" | "env" | "exec" | "nohup") || plain.ends_with([';', '|']);
        let next = words.get(index + 1).cloned();
        // `tests pass: all` is prose.
        let is_prose = index > 0 && plain.eq_ignore_ascii_case("pass:");
        if !is_prose && plain.strip_suffix([':', '=']).is_some_and(|name| names.is_secret(name.trim_start_matches('-'))) {
            spans.extend(next.clone().map(|next| unquoted(text, &next)));
        }
        if !plain.starts_with('-') {
            continue;
        }
        let is_value =
            |next: &Range<usize>| text.get(next.clone()).is_some_and(|value| !value.starts_with('-') || value.len() > 20);
        let long = plain.strip_prefix("--").or_else(|| plain.strip_prefix('-').filter(|name| name.len() > 2));
        if long.is_some_and(|name| !name.contains('=') && names.is_secret(name))
            && let Some(next) = next.clone().filter(is_value)
        {
            spans.push(unquoted(text, &next));
        }
        if let Some((_, apart)) = SHORT_P.iter().find(|(name, _)| *name == program) {
            let joined = plain.strip_prefix("-p").filter(|rest| !rest.is_empty() && !plain.starts_with("--"));
            if joined.is_some() && !LOGIN_ONLY.contains(&program) {
                let inside = unquoted(text, word);
                spans.push(inside.start + 2..inside.end);
            }
            let logs_in = !LOGIN_ONLY.contains(&program) || words.iter().any(|word| text.get(word.clone()) == Some("login"));
            if plain == "-p"
                && *apart
                && logs_in
                && let Some(next) = next.clone()
            {
                spans.push(unquoted(text, &next));
            }
        }
        for (_, option) in SHORT_OTHER.iter().filter(|(name, _)| *name == program) {
            if plain == *option {
                spans.extend(next.clone().map(|next| unquoted(text, &next)));
            } else if option.len() == 2 && !plain.starts_with("--") && plain.starts_with(option) && plain.len() > 2 {
                let inside = unquoted(text, word);
                spans.push(inside.start + 2..inside.end);
            }
        }
    }
}

/// What a program takes without an option: `htpasswd -b FILE USER X`, `mysqladmin password X`, `sqlplus USER/X@DB`.
fn by_place(text: &str, program: &str, words: &[Range<usize>], spans: &mut Vec<Range<usize>>) {
    let plain = |word: &Range<usize>| text.get(unquoted(text, word)).unwrap_or_default();
    let of_command = words.iter().take_while(|word| !matches!(plain(word), "|" | "||" | "&&" | ";"));
    match program {
        "htpasswd" => {
            let (mut in_batch, mut place, mut is_value, mut seen) = (false, 3, false, 0);
            for word in of_command {
                let option = plain(word).strip_prefix('-').filter(|option| !option.is_empty());
                match option {
                    _ if std::mem::take(&mut is_value) => {}
                    Some(option) => {
                        in_batch |= option.contains('b');
                        place = if option.contains('n') { 2 } else { place };
                        is_value = option.ends_with(['C', 'r']);
                    }
                    None => seen += 1,
                }
                if in_batch && seen == place {
                    spans.push(unquoted(text, word));
                    return;
                }
            }
        }
        "mysqladmin" | "mariadb-admin" => {
            let mut after = of_command.skip_while(|word| !matches!(plain(word), "password" | "old-password"));
            spans.extend(after.nth(1).map(|word| unquoted(text, word)));
        }
        program if ORACLE.contains(&program) => {
            let is_option = |word: &str| word.starts_with(['-', '/', '@']);
            let login = of_command
                .map(|word| unquoted(text, word))
                .find(|word| text.get(word.clone()).is_some_and(|word| !is_option(word) && word.contains('/')));
            let Some(login) = login else { return };
            let raw = text.get(login.clone()).unwrap_or_default();
            let from = raw.find('/').map_or(raw.len(), |slash| slash + 1);
            let to = raw.get(from..).and_then(|rest| rest.rfind('@')).map_or(raw.len(), |at| from + at);
            spans.push(login.start + from..login.start + to);
        }
        _ => {}
    }
}

/// A word without the quotes around it.
fn unquoted(text: &str, word: &Range<usize>) -> Range<usize> {
    let raw = text.get(word.clone()).unwrap_or_default();
    let lead = raw.len() - raw.trim_start_matches(['"', '\'']).len();
    let trail = raw.len() - raw.trim_end_matches(['"', '\'']).len();
    if lead + trail >= raw.len() { word.clone() } else { word.start + lead..word.end - trail }
}
