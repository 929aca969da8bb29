//! Whether bytes may hold a secret at all: one pass without allocation, so that a record without one costs nothing more.
//!
//! Every rule of the masking has a needle here; one too many costs time, one missing a secret.

/// Beginnings of words that are suspect wherever they stand, lower case.
const NEEDLES: &[&[u8]] = &[
    b"aiza",
    b"ansible-vault",
    b"authorization",
    b"basic",
    b"bearer",
    b"chpasswd",
    b"connection",
    b"credential",
    b"curl",
    b"docker",
    b"dop_v1_",
    b"eyj",
    b"ghp_",
    b"gho_",
    b"ghs_",
    b"ghu_",
    b"github_pat_",
    b"glpat-",
    b"hvs.",
    b"ldap",
    b"mariadb",
    b"mfacode",
    b"mfa_code",
    b"mfa-code",
    b"mongo",
    b"mysql",
    b"npm_",
    b"openssl",
    b"passc",
    b"passp",
    b"passw",
    b"pass_",
    b"pass-",
    b"passin",
    b"passout",
    b"pass ",
    b"podman",
    b"private",
    b"pwd",
    b"pypi-",
    b"redis-cli",
    b"rk_live_",
    b"secret",
    b"sg.",
    b"sk-ant-",
    b"sk-proj-",
    b"sk_live_",
    b"smbclient",
    b"sqlcmd",
    b"sshpass",
    b"token",
    b"usermod",
    b"useradd",
    b"xox",
    b"://",
];

/// Words that are suspect on their own only.
const WORDS: &[&[u8]] = &[b"cookie", b"otp", b"pin", b"sas", b"totp"];

/// For each first byte, the needles that begin with it.
const fn first_bytes() -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < NEEDLES.len() {
        table[NEEDLES[index][0] as usize] = true;
        index += 1;
    }
    table
}

static FIRST: [bool; 256] = first_bytes();

pub(super) fn any(bytes: &[u8], extra: &[String]) -> bool {
    let mut before = b' ';
    for (at, byte) in bytes.iter().enumerate() {
        let lower = byte.to_ascii_lowercase();
        // Proof: a byte is below 256.
        let is_first = FIRST.get(usize::from(lower)).copied().unwrap_or(false);
        let rest = || bytes.get(at..).unwrap_or_default();
        if is_first && NEEDLES.iter().any(|needle| begins(rest(), needle)) {
            return true;
        }
        if lower == b'k' && begins(rest(), b"key") && before.is_ascii_alphanumeric() | matches!(before, b'_' | b'-' | b'.') {
            let after = rest().get(3).copied().unwrap_or(b' ');
            if !after.is_ascii_alphanumeric() {
                return true;
            }
        }
        if !before.is_ascii_alphanumeric()
            && matches!(lower, b'c' | b'o' | b'p' | b's' | b't')
            && WORDS
                .iter()
                .any(|word| begins(rest(), word) && rest().get(word.len()).is_none_or(|after| !after.is_ascii_alphanumeric()))
        {
            return true;
        }
        before = *byte;
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

fn begins(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.get(..needle.len()).is_some_and(|start| start.eq_ignore_ascii_case(needle))
}
