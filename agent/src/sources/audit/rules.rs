//! Managed audit rules: what an administrator of a fleet wants watched, without a rule file.
//!
//! Off unless sets are named. Installed at the start, looked at every [`LOOK_EVERY`] and at once after somebody removed a
//! rule, and put back. Only rules under keys of [`KEY_PREFIX`] are ever touched. Where auditing is locked until the next
//! boot (`auditctl -e 2`) nothing is changed, and the log says so. They are left in place at the stop: an agent that is
//! stopped must not blind auditd. Source of the layout: `struct audit_rule_data` in linux/audit.h.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::message::{ADD_RULE, DELETE_RULE, LIST_RULES};
use super::status::{Control, StatusError};
use super::syscall::Arch;

/// `[sources.audit.rules]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The sets to keep; none: no rule is touched.
    pub sets: Vec<Set>,
}

/// What a set watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// The users' and groups' files.
    Identity,
    /// Programs that a login user runs as root.
    Privilege,
    /// The clock and the time zone.
    Time,
    /// Kernel modules, and another kernel.
    Modules,
    /// File systems that login users mount.
    Mounts,
    Sudoers,
    /// sshd's configuration and everybody's authorized keys.
    SshKeys,
    /// The audit system's own files, and this agent's.
    Audit,
    /// What runs by itself: units, timers, cron's tables.
    Services,
    /// Who speaks to a container engine: its socket is as good as root.
    Containers,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    what: What,
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Writing and changing attributes of a file, which need not exist yet.
    File(PathBuf),
    /// The same of all below a directory.
    Tree(PathBuf),
    /// System calls of an architecture, by whom.
    Calls { arch: (Arch, u32), names: &'static [&'static str], by: By },
    /// A login user's connecting to a Unix socket, which need not exist yet.
    Connect { arch: (Arch, u32), path: PathBuf },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Anybody,
    /// Whoever has logged in.
    LoginUsers,
    /// Whoever has logged in and acts as root.
    LoginUsersAsRoot,
}

/// Keeps the rules installed.
#[derive(Debug)]
pub struct Keeper {
    control: Control,
    sets: Vec<Set>,
    /// Milliseconds of the caller's clock.
    next_look: u64,
    /// What the log said last: said once.
    said: Option<String>,
}

/// How often the rules are looked at, and how soon after one was removed; milliseconds.
pub const LOOK_EVERY: u64 = 30_000;
const LOOK_SOON: u64 = 200;

/// Keys of managed rules begin so.
pub const KEY_PREFIX: &str = "edgetrail-";

/// Where container engines listen, below `/`.
const ENGINE_SOCKETS: [&str; 4] =
    ["run/docker.sock", "run/podman/podman.sock", "run/containerd/containerd.sock", "run/crio/crio.sock"];

/// Homes whose keys are watched: each is a rule that every system call of the host may meet.
const HOMES_MAX: usize = 256;

/// `AUDIT_FILTER_EXIT`, `AUDIT_ALWAYS`.
const FILTER_EXIT: u32 = 4;
const ALWAYS: u32 = 2;

/// Fields and operators. Source: linux/audit.h.
const FIELD_EUID: u32 = 2;
const FIELD_LOGIN_UID: u32 = 9;
const FIELD_ARCH: u32 = 11;
const FIELD_WATCH: u32 = 105;
const FIELD_PERMISSIONS: u32 = 106;
const FIELD_DIRECTORY: u32 = 107;
const FIELD_KEY: u32 = 210;
const EQUAL: u32 = 0x4000_0000;
const NOT_EQUAL: u32 = 0x3000_0000;

/// `AUDIT_PERM_WRITE | AUDIT_PERM_ATTR`.
const PERMISSIONS: u32 = 2 | 8;

/// Words of a rule's call mask, and its fields.
const MASK_WORDS: usize = 64;
const FIELDS_MAX: usize = 64;

/// flags, action, count; mask; fields, values, operators; length of the texts.
const FIXED_BYTES: usize = 4 * (3 + MASK_WORDS + 3 * FIELDS_MAX + 1);

/// The host's own architectures with their AUDIT_ARCH: the 64-bit one, and the 32-bit one that it runs besides.
const fn architectures() -> &'static [(Arch, u32)] {
    if cfg!(target_arch = "x86_64") {
        &[(Arch::X86_64, 0xc000_003e), (Arch::I386, 0x4000_0003)]
    } else if cfg!(target_arch = "aarch64") {
        &[(Arch::Aarch64, 0xc000_00b7), (Arch::Arm, 0x4000_0028)]
    } else if cfg!(target_arch = "riscv64") {
        &[(Arch::Riscv64, 0xc000_00f3)]
    } else if cfg!(target_arch = "loongarch64") {
        &[(Arch::Loongarch64, 0xc000_0102)]
    } else if cfg!(target_arch = "s390x") {
        &[(Arch::S390x, 0x8000_0016)]
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        &[(Arch::Powerpc64Le, 0xc000_0015)]
    } else if cfg!(target_arch = "powerpc64") {
        &[(Arch::Powerpc64, 0x8000_0015)]
    } else {
        &[]
    }
}

impl Set {
    /// Its rules on this host now; `root` is `/`.
    fn rules(self, root: &Path) -> Vec<Rule> {
        let key = format!("{KEY_PREFIX}{}", self.name());
        let file = |path: &str| What::File(root.join(path));
        let tree = |path: &str| What::Tree(root.join(path));
        let calls = |names: &'static [&'static str], by| {
            architectures().iter().map(move |arch| What::Calls { arch: *arch, names, by }).collect::<Vec<_>>()
        };
        let what = match self {
            Self::Identity => {
                ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/security/opasswd", "etc/nsswitch.conf"]
                    .map(file)
                    .to_vec()
            }
            Self::Sudoers => vec![file("etc/sudoers"), tree("etc/sudoers.d"), tree("etc/polkit-1")],
            Self::Privilege => calls(&["execve", "execveat"], By::LoginUsersAsRoot),
            Self::Time => {
                let mut what = calls(&["settimeofday", "clock_settime", "clock_settime64", "stime"], By::Anybody);
                // A time service adjusts without end, and is nobody's login.
                what.extend(calls(&["adjtimex", "clock_adjtime", "clock_adjtime64"], By::LoginUsers));
                what.push(file("etc/localtime"));
                what
            }
            Self::Modules => {
                let mut what =
                    calls(&["init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"], By::Anybody);
                what.extend([tree("etc/modprobe.d"), tree("etc/modules-load.d")]);
                what
            }
            Self::Mounts => {
                let mut what = calls(&["mount", "umount", "umount2", "move_mount", "fsmount", "pivot_root"], By::LoginUsers);
                what.push(file("etc/fstab"));
                what
            }
            Self::SshKeys => {
                let mut what = vec![tree("etc/ssh"), tree("root/.ssh")];
                what.extend(homes(root).into_iter().map(|home| What::Tree(home.join(".ssh"))));
                what
            }
            Self::Audit => vec![tree("etc/audit"), tree("etc/edgetrail"), file("etc/libaudit.conf")],
            Self::Services => {
                let trees = ["etc/systemd", "etc/cron.d", "etc/cron.daily", "etc/cron.hourly", "etc/init.d", "var/spool/cron"];
                let mut what: Vec<What> = trees.map(tree).to_vec();
                what.push(file("etc/crontab"));
                what
            }
            Self::Containers => {
                let connect = |path: &&str| {
                    architectures().iter().map(|arch| What::Connect { arch: *arch, path: root.join(path) }).collect::<Vec<_>>()
                };
                ENGINE_SOCKETS.iter().flat_map(connect).collect()
            }
        };
        what.into_iter().map(|what| Rule { what, key: key.clone() }).collect()
    }

    /// All of them.
    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Privilege => "privilege",
            Self::Time => "time",
            Self::Modules => "modules",
            Self::Mounts => "mounts",
            Self::Sudoers => "sudoers",
            Self::SshKeys => "ssh-keys",
            Self::Audit => "audit",
            Self::Services => "services",
            Self::Containers => "containers",
        }
    }

    /// Every set.
    pub const ALL: [Self; 10] = [
        Self::Identity,
        Self::Privilege,
        Self::Time,
        Self::Modules,
        Self::Mounts,
        Self::Sudoers,
        Self::SshKeys,
        Self::Audit,
        Self::Services,
        Self::Containers,
    ];
}

/// Home directories that hold keys.
fn homes(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("home")).into_iter().flatten().flatten();
    let mut homes: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|home| home.join(".ssh").is_dir()).collect();
    homes.sort();
    homes.truncate(HOMES_MAX);
    homes
}

impl Rule {
    /// Whether the kernel would take it now: a tree must exist, a file's directory too.
    fn is_possible(&self) -> bool {
        match &self.what {
            What::File(path) | What::Connect { path, .. } => path.parent().is_some_and(Path::is_dir),
            What::Tree(path) => path.is_dir(),
            What::Calls { .. } => true,
        }
    }

    /// As the kernel takes it.
    fn encode(&self) -> Vec<u8> {
        let mut mask = [0u32; MASK_WORDS];
        // Field, operator, value; a text's value is its length.
        let mut fields: Vec<(u32, u32, u32)> = Vec::new();
        let mut texts = Vec::new();
        let mut text = |bytes: &[u8]| {
            texts.extend_from_slice(bytes);
            u32::try_from(bytes.len()).unwrap_or(0)
        };
        match &self.what {
            What::File(path) | What::Tree(path) => {
                mask.fill(u32::MAX);
                let field = if matches!(self.what, What::File(_)) { FIELD_WATCH } else { FIELD_DIRECTORY };
                fields.push((field, EQUAL, text(path.as_os_str().as_encoded_bytes())));
                fields.push((FIELD_PERMISSIONS, EQUAL, PERMISSIONS));
            }
            What::Connect { arch: (arch, number), path } => {
                fields.push((FIELD_ARCH, EQUAL, *number));
                set_calls(&mut mask, *arch, &["connect", "socketcall"]);
                fields.push((FIELD_WATCH, EQUAL, text(path.as_os_str().as_encoded_bytes())));
                fields.push((FIELD_LOGIN_UID, NOT_EQUAL, u32::MAX));
            }
            What::Calls { arch: (arch, number), names, by } => {
                fields.push((FIELD_ARCH, EQUAL, *number));
                set_calls(&mut mask, *arch, names);
                if *by == By::LoginUsersAsRoot {
                    fields.push((FIELD_EUID, EQUAL, 0));
                }
                if *by != By::Anybody {
                    fields.push((FIELD_LOGIN_UID, NOT_EQUAL, u32::MAX));
                }
            }
        }
        fields.push((FIELD_KEY, EQUAL, text(self.key.as_bytes())));
        let count = u32::try_from(fields.len()).unwrap_or(0);
        let mut words = vec![FILTER_EXIT, ALWAYS, count];
        words.extend(mask);
        let column = |pick: fn(&(u32, u32, u32)) -> u32| {
            fields.iter().map(pick).chain(std::iter::repeat(0)).take(FIELDS_MAX).collect::<Vec<_>>()
        };
        words.extend(column(|(field, _, _)| *field));
        words.extend(column(|(_, _, value)| *value));
        words.extend(column(|(_, operator, _)| *operator));
        words.push(u32::try_from(texts.len()).unwrap_or(0));
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(texts);
        bytes
    }
}

fn set_calls(mask: &mut [u32; MASK_WORDS], arch: Arch, names: &[&str]) {
    for call in names.iter().filter_map(|name| arch.number(name)) {
        if let Some(word) = usize::try_from(call / 32).ok().and_then(|word| mask.get_mut(word)) {
            *word |= 1 << (call % 32);
        }
    }
}

/// Whether a listed rule is this one. The kernel clears the mask's last word, where it keeps classes of calls.
fn is_same(listed: &[u8], wanted: &[u8]) -> bool {
    let last_word = 4 * (3 + MASK_WORDS - 1)..4 * (3 + MASK_WORDS);
    let parts = |rule: &[u8]| -> Option<(Vec<u8>, Vec<u8>)> {
        let text = rule.get(FIXED_BYTES..)?;
        let length = rule.get(FIXED_BYTES - 4..FIXED_BYTES)?.try_into().ok().map(u32::from_ne_bytes)?;
        let before = rule.get(..last_word.start)?.to_vec();
        let behind = rule.get(last_word.end..FIXED_BYTES)?;
        let text = text.get(..usize::try_from(length).ok()?)?;
        Some((before, [behind, text].concat()))
    };
    parts(listed).is_some_and(|listed| parts(wanted) == Some(listed))
}

/// Whether a listed rule is under a managed key: its key is the last of its texts.
fn is_managed(listed: &[u8]) -> bool {
    let length = listed.get(FIXED_BYTES - 4..FIXED_BYTES).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let text = usize::try_from(length).ok().and_then(|length| listed.get(FIXED_BYTES..)?.get(..length)).unwrap_or_default();
    Set::ALL.into_iter().map(|set| format!("{KEY_PREFIX}{}", set.name())).any(|key| text.ends_with(key.as_bytes()))
}

/// Whether a rule's key is that of a managed set which guards files: what hits it by writing administers the host.
pub fn watches_files(key: &str) -> bool {
    key.strip_prefix(KEY_PREFIX).is_some_and(|set| Set::ALL.iter().any(|known| *known != Set::Privilege && known.name() == set))
}

impl Keeper {
    /// None where no set is to be kept.
    pub fn new(config: &Config) -> Result<Option<Self>, StatusError> {
        if config.sets.is_empty() {
            return Ok(None);
        }
        if architectures().is_empty() {
            tracing::warn!(
                architecture = std::env::consts::ARCH,
                "no system call of this architecture has a name here: the managed sets watch files alone"
            );
        }
        Ok(Some(Self { control: Control::open()?, sets: config.sets.clone(), next_look: 0, said: None }))
    }

    pub fn next_look(&self) -> u64 {
        self.next_look
    }

    /// The kernel told of a change: a removed rule is put back soon.
    pub fn changed(&mut self, text: &str, now: u64) {
        if text.contains("remove_rule") {
            self.next_look = self.next_look.min(now.saturating_add(LOOK_SOON));
        }
    }

    /// Puts back what is missing, if it is time.
    pub fn look(&mut self, now: u64) {
        if now < self.next_look {
            return;
        }
        self.next_look = now.saturating_add(LOOK_EVERY);
        let said = match self.restore() {
            Ok(Restored { locked: true, missing, .. }) if missing > 0 => {
                format!("{missing} managed audit rules are missing and auditing is locked until the next boot")
            }
            Ok(Restored { refused, missing, why: Some(why), .. }) => {
                let cause = std::error::Error::source(&why).map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("{refused} of {missing} managed audit rules could not be put in place, the others are: {why}{cause}")
            }
            Ok(Restored { added, removed, .. }) if added + removed > 0 => {
                tracing::info!(added, removed, "managed audit rules put in place");
                return;
            }
            Ok(_) => return,
            Err(error) => format!("managed audit rules can't be kept: {error}"),
        };
        if self.said.as_ref() != Some(&said) {
            tracing::warn!("{said}");
            self.said = Some(said);
        }
    }

    fn restore(&mut self) -> Result<Restored, StatusError> {
        let wanted: Vec<Rule> = self.sets.iter().flat_map(|set| set.rules(Path::new("/"))).filter(Rule::is_possible).collect();
        let wanted: Vec<Vec<u8>> = wanted.iter().map(Rule::encode).collect();
        let listed = self.control.list(LIST_RULES)?;
        let missing: Vec<&Vec<u8>> = wanted.iter().filter(|rule| !listed.iter().any(|listed| is_same(listed, rule))).collect();
        let locked = self.control.status()?.enabled == 2;
        let mut restored = Restored { missing: missing.len(), locked, ..Restored::default() };
        if locked {
            return Ok(restored);
        }
        restored.add(&missing, |rule| self.control.request(ADD_RULE, rule).map(drop));
        for old in listed.iter().filter(|listed| is_managed(listed) && !wanted.iter().any(|rule| is_same(listed, rule))) {
            self.control.request(DELETE_RULE, old)?;
            restored.removed += 1;
        }
        Ok(restored)
    }
}

#[derive(Debug, Default)]
struct Restored {
    missing: usize,
    added: usize,
    removed: usize,
    /// Rules that the kernel did not take, and what it said of the first.
    refused: usize,
    why: Option<StatusError>,
    /// Nothing may be changed until the next boot.
    locked: bool,
}

impl Restored {
    /// Each rule for itself: one that the kernel does not take keeps none of the others out.
    fn add(&mut self, rules: &[&Vec<u8>], mut install: impl FnMut(&[u8]) -> Result<(), StatusError>) {
        for rule in rules {
            match install(rule) {
                Ok(()) => self.added += 1,
                Err(error) => {
                    self.refused += 1;
                    self.why.get_or_insert(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_encoded_as_the_kernel_lists_them() {
        let rule = Rule { what: What::File("/etc/sudoers".into()), key: "edgetrail-sudoers".to_owned() };
        let encoded = rule.encode();
        assert_eq!(encoded.len(), FIXED_BYTES + "/etc/sudoersedgetrail-sudoers".len());
        let word = |at: usize| u32::from_ne_bytes(encoded[at * 4..at * 4 + 4].try_into().unwrap());
        assert_eq!((word(0), word(1), word(2)), (FILTER_EXIT, ALWAYS, 3));
        let mut listed = encoded.clone();
        listed[4 * (3 + MASK_WORDS - 1)..4 * (3 + MASK_WORDS)].fill(0);
        listed.extend([0; 3]);
        assert!(is_same(&listed, &encoded) && is_managed(&listed));
        listed[FIXED_BYTES + 1] = b'E';
        assert!(!is_same(&listed, &encoded));
        assert!(!is_same(&[], &encoded) && !is_managed(&encoded[..100]));
    }

    #[test]
    fn calls_are_set_in_the_mask_of_their_architecture() {
        let what = What::Calls { arch: (Arch::X86_64, 0xc000_003e), names: &["execve", "stime"], by: By::LoginUsersAsRoot };
        let encoded = Rule { what, key: "k".to_owned() }.encode();
        let word = |at: usize| u32::from_ne_bytes(encoded[at * 4..at * 4 + 4].try_into().unwrap());
        assert_eq!((word(3), word(3 + 1)), (0, 1 << (59 - 32)), "stime is none of x86_64's");
        assert_eq!(word(2), 4);
    }

    #[test]
    fn a_refused_rule_keeps_no_other_out() {
        let rules = [vec![1], vec![2], vec![3]];
        let (mut restored, mut installed) = (Restored::default(), Vec::new());
        restored.add(&rules.iter().collect::<Vec<_>>(), |rule| {
            if rule == [1] {
                return Err(StatusError::Answer);
            }
            installed.push(rule.to_vec());
            Ok(())
        });
        assert_eq!((restored.added, restored.refused, installed), (2, 1, vec![vec![2], vec![3]]));
        assert!(restored.why.is_some());
    }

    #[test]
    fn keys_of_guarded_files_are_those_of_the_sets_alone() {
        assert!(watches_files("edgetrail-sudoers") && watches_files("edgetrail-ssh-keys"));
        assert!(!watches_files("edgetrail-privilege") && !watches_files("edgetrail-") && !watches_files("sudoers"));
    }

    #[test]
    fn only_what_exists_is_watched() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("home/alice/.ssh")).unwrap();
        std::fs::create_dir_all(root.path().join("home/bob")).unwrap();
        let rules: Vec<Rule> = Set::SshKeys.rules(root.path()).into_iter().filter(Rule::is_possible).collect();
        assert_eq!(
            rules.iter().map(|rule| rule.what.clone()).collect::<Vec<_>>(),
            [What::Tree(root.path().join("home/alice/.ssh"))]
        );
    }
}
