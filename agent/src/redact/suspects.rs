//! Whether bytes may hold a secret at all: one pass without allocation, so that a record without one costs nothing more.
//!
//! Every rule of the masking has a needle here; one too many costs time, one missing a secret.

/// Beginnings of words that are suspect wherever they stand, lower case, of three bytes at least, sorted.
const NEEDLES: &[&[u8]] = &[
    b"://",
    b"aiza",
    b"ansible-vault",
    b"authorization",
    b"basic",
    b"bearer",
    b"buildah",
    b"chpasswd",
    b"connection",
    b"cookie",
    b"credential",
    b"curl",
    b"docker",
    b"dop_v1_",
    b"expdp",
    b"eyj",
    b"gho_",
    b"ghp_",
    b"ghs_",
    b"ghu_",
    b"github_pat_",
    b"glpat-",
    b"htpasswd",
    b"hvs.",
    b"identified",
    b"impdp",
    b"ldap",
    b"mariadb",
    b"mfa-code",
    b"mfa.code",
    b"mfa_code",
    b"mfacode",
    b"mongo",
    b"mysql",
    b"nerdctl",
    b"npm_",
    b"openssl",
    b"pass ",
    b"pass-",
    b"pass_",
    b"passc",
    b"passin",
    b"passout",
    b"passp",
    b"passw",
    b"podman",
    b"private",
    b"pwd",
    b"pypi-",
    b"redis-cli",
    b"rk_live_",
    b"secret",
    b"setcookie",
    b"sg.",
    b"sk-ant-",
    b"sk-proj-",
    b"sk_live_",
    b"skopeo",
    b"smbclient",
    b"sqlcmd",
    b"sqlldr",
    b"sqlplus",
    b"sshpass",
    b"token",
    b"useradd",
    b"usermod",
    b"x-amz-sig",
    b"x-goog-sig",
    b"xox",
];

/// Words that are suspect on their own only.
const WORDS: &[&[u8]] = &[b"login", b"otp", b"pin", b"sas", b"sig", b"totp"];

/// For each first byte, where the needles that begin with it stand.
static RANGES: [(usize, usize); 128] = {
    let mut ranges = [(0, 0); 128];
    let mut index = 0;
    while index < NEEDLES.len() {
        let first = NEEDLES[index][0] as usize;
        if ranges[first].1 == 0 {
            ranges[first].0 = index;
        }
        assert!(index == 0 || ranges[first].0 == index || NEEDLES[index - 1][0] as usize == first, "needles are sorted");
        ranges[first].1 = index + 1;
        index += 1;
    }
    ranges
};

/// What may begin with three bytes. Nearly all places of a record are passed over by this alone.
static MARKS: [u8; TRIPLES] = {
    let mut marks = [0; TRIPLES];
    let mut index = 0;
    while index < NEEDLES.len() {
        marks = mark(marks, NEEDLES[index], NEEDLE);
        index += 1;
    }
    index = 0;
    while index < WORDS.len() {
        marks = mark(marks, WORDS[index], WORD);
        index += 1;
    }
    mark(mark(marks, KEY, END), PASS, END)
};

/// Ends of names, such as `api_key` and `signing-key`.
const KEY: &[u8] = b"key";

/// The end of `DB_PASS` and `dbPass`.
const PASS: &[u8] = b"pass";

const NEEDLE: u8 = 1;
const WORD: u8 = 2;
const END: u8 = 4;

/// Three bytes of 5 bits each, which a letter has in common with its capital. Other bytes fall on these: that costs a look,
/// never misses one.
const TRIPLES: usize = 1 << 15;

const fn triple(first: u8, second: u8, third: u8) -> usize {
    ((first & 0x1f) as usize) << 10 | ((second & 0x1f) as usize) << 5 | (third & 0x1f) as usize
}

const fn mark(mut marks: [u8; TRIPLES], text: &[u8], kind: u8) -> [u8; TRIPLES] {
    marks[triple(text[0], text[1], text[2])] |= kind;
    marks
}

pub(super) fn any(bytes: &[u8], extra: &[String]) -> bool {
    for (at, three) in bytes.windows(3).enumerate() {
        let &[first, second, third] = three else { continue };
        let marks = MARKS.get(triple(first, second, third)).copied().unwrap_or(0);
        if marks == 0 {
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|before| bytes.get(before)).copied().unwrap_or(b' ');
        if marks & NEEDLE != 0 && alike(first.to_ascii_lowercase()).iter().any(|needle| begins(rest, needle)) {
            return true;
        }
        if marks & END != 0 && begins(rest, PASS) && rest.get(PASS.len()).is_none_or(|after| !after.is_ascii_alphanumeric()) {
            return true;
        }
        if marks & END != 0 && begins(rest, KEY) && (before.is_ascii_alphanumeric() || matches!(before, b'_' | b'-' | b'.')) {
            let after = rest.get(KEY.len()).copied().unwrap_or(b' ');
            if !after.is_ascii_alphanumeric() {
                return true;
            }
        }
        let ends = |word: &&[u8]| rest.get(word.len()).is_none_or(|after| !after.is_ascii_alphanumeric());
        if marks & WORD != 0 && !before.is_ascii_alphanumeric() && WORDS.iter().any(|word| begins(rest, word) && ends(word)) {
            return true;
        }
    }
    extra.iter().any(|name| bytes.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name.as_bytes())))
        // Names are compared without separators: a configured `launch_code` is also `launchCode`.
        || (!extra.is_empty() && {
            let fold = |b: &u8| !matches!(b, b'-' | b'_' | b'.');
            let folded: Vec<u8> = bytes.iter().filter(|b| fold(b)).map(u8::to_ascii_lowercase).collect();
            extra.iter().any(|name| {
                let name: Vec<u8> = name.bytes().filter(|b| fold(b)).collect();
                memchr::memmem::find(&folded, &name).is_some()
            })
        })
}

/// The needles that begin with a byte.
fn alike(first: u8) -> &'static [&'static [u8]] {
    RANGES.get(usize::from(first)).and_then(|&(from, to)| NEEDLES.get(from..to)).unwrap_or_default()
}

fn begins(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.get(..needle.len()).is_some_and(|start| start.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suspect_is_seen_in_any_case_and_place() {
        let suspects = NEEDLES.iter().chain(WORDS).map(|word| String::from_utf8(word.to_vec()).unwrap());
        for suspect in suspects.chain(["api_key".to_owned(), "db_pass".to_owned()]) {
            for text in [suspect.clone(), suspect.to_uppercase(), format!("é \"{suspect}\":1"), format!("{suspect}=")] {
                assert!(any(text.as_bytes(), &[]), "{text}");
            }
        }
        for plain in ["", "k", "a monkeywrench", "opinion", "pine", "pas", "{\"orderId\":\"031228967\"}", "schlüssel"] {
            assert!(!any(plain.as_bytes(), &[]), "{plain}");
        }
    }
}
