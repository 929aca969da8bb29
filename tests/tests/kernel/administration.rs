//! What administrators do on a host, by script and in numbers: each act is found in the delivered trail, as the act of the
//! human who did it, with the address that its login came from.
//!
//! Three users work beside one another, each through sshd. `EDGETRAIL_ACTS` says how many acts there are in all; sources
//! and selection are as shipped, with all of the managed audit rules.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use edgetrail_tests::chance::number;
use edgetrail_tests::process::text;
use serde_json::Value;

use crate::acts::{Acts, login_user};
use crate::machine::{AuditOn, Login};
use crate::skipped;

/// Acts where nothing says how many.
const ACTS: u64 = 300;

/// Users, each from an address of its own.
const ADDRESSES: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

/// Rounds of one login, after which its user logs in again.
const ROUNDS_OF_A_LOGIN: u64 = 20;

const SETTINGS: &str = r#"[sources.audit]
enabled = true
[sources.audit.rules]
sets = ["identity", "privilege", "time", "modules", "mounts", "sudoers", "ssh-keys", "audit", "services", "containers"]
"#;

/// Where a container engine would listen. Source: the set `containers`.
const ENGINE_SOCKETS: [&str; 2] = ["/run/docker.sock", "/run/podman/podman.sock"];

/// Which records tell of acts: one for each.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expected {
    /// Any of these eventNames.
    names: &'static [&'static str],
    /// A word of the request's parameters; with none, the user's acts of that name are counted.
    mark: String,
}

/// A user's script, and what must come of it.
#[derive(Debug, Default)]
struct Script {
    lines: Vec<String>,
    acts: BTreeMap<Expected, u64>,
}

impl Script {
    fn expect(&mut self, names: &'static [&'static str], mark: &str) {
        *self.acts.entry(Expected { names, mark: mark.to_owned() }).or_default() += 1;
    }

    /// A line of the user itself.
    fn own(&mut self, line: String, names: &'static [&'static str], mark: &str) {
        self.lines.push(line);
        self.expect(names, mark);
    }

    /// A command by sudo, which is an act itself, and what it does, where that is one besides.
    fn sudo(&mut self, before: &str, command: &str, names: &'static [&'static str], mark: &str) {
        self.lines.push(format!("{before}sudo -n {command}"));
        self.expect(&["RunCommand"], mark);
        if !names.is_empty() {
            self.expect(names, mark);
        }
    }

    /// The acts of one round; `n` begins words that nothing else on the host has.
    fn round(&mut self, n: &str, home: &Path, engine: &Path) {
        let word = |kind: char| format!("{n}{kind}");
        let (user, group, rule, unit, module) = (word('u'), word('g'), word('s'), word('d'), word('o'));
        self.sudo("", &format!("/usr/sbin/useradd --no-create-home {user}"), &["CreateUser"], &user);
        self.sudo(&format!("echo {user}:Quite.long-7 | "), "/usr/sbin/chpasswd", &[], "chpasswd");
        self.expect(&["ChangePassword"], &user);
        self.sudo("", &format!("/usr/sbin/usermod --append --groups adm {user}"), &["AddUserToGroup", "ModifyUser"], &user);
        self.sudo("", &format!("/usr/bin/passwd --lock {user}"), &["ChangePassword", "LockUser", "ModifyUser"], &user);
        self.sudo("", &format!("/usr/sbin/groupadd {group}"), &["CreateGroup"], &group);
        self.sudo("", &format!("/usr/bin/install -m 0440 /dev/null /etc/sudoers.d/{rule}"), &["ModifyFile", "CreateFile"], &rule);
        self.sudo("", &format!("/usr/bin/chmod 0400 /etc/sudoers.d/{rule}"), &["ChangeFileMode"], &rule);
        self.sudo("", &format!("/usr/bin/rm /etc/sudoers.d/{rule}"), &["DeleteFile"], &rule);
        let (mount, point) = (word('m'), home.join(word('m')));
        let point = point.display();
        let make = format!("mkdir {point} && ");
        self.sudo(&make, &format!("/usr/bin/mount -t tmpfs -o size=64k none {point}"), &["MountFileSystem"], &mount);
        self.sudo("", &format!("/usr/bin/umount {point}"), &["UnmountFileSystem"], &mount);
        // No such module; then what is none is handed to the kernel (finit_module, x86-64).
        self.sudo("! ", &format!("/usr/sbin/modprobe {module} 2>&1"), &[], &module);
        self.sudo("", &format!("/usr/bin/perl -e 'my $none = q(); syscall(313, 0, $none, 0)' {module}"), &[], &module);
        self.expect(&["LoadKernelModule"], "");
        let path = format!("/etc/systemd/system/{unit}.service");
        self.sudo("", &format!("/usr/bin/install -m 0644 /dev/null {path}"), &["ModifyFile", "CreateFile"], &unit);
        self.sudo("", &format!("/usr/bin/rm {path}"), &["DeleteFile"], &unit);
        self.sudo("", &format!("/usr/bin/su --shell /bin/true {user}"), &["SwitchUser"], &user);
        self.sudo("", &format!("/usr/sbin/groupdel {group}"), &["DeleteGroup"], &group);
        self.sudo("", &format!("/usr/sbin/userdel {user}"), &["DeleteUser"], &user);
        let (key, file) = (word('k'), home.join(".ssh").join(word('k')));
        self.own(format!("echo 'ssh-ed25519 AAAA {n}' >{}", file.display()), &["ModifyFile", "CreateFile"], &key);
        self.own(format!("rm {}", file.display()), &["DeleteFile"], &key);
        let url = format!("http://engine/containers/create?name={n}");
        let call = format!("curl --silent --fail --output /dev/null --unix-socket {} -X POST {url}", engine.display());
        self.own(call, &["ConnectSocket"], "");
    }

    fn acts(&self) -> u64 {
        self.acts.values().sum()
    }
}

/// A container engine's socket with nothing behind it: answers each request as done. Gone when dropped.
struct Engine {
    path: PathBuf,
}

impl Engine {
    fn start() -> Self {
        let path = ENGINE_SOCKETS.iter().map(PathBuf::from).find(|path| !path.exists()).expect("no container engine runs here");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                drop(stream.get_mut().write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"));
            }
        });
        Self { path }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("{} may remain: {error}", self.path.display());
        }
    }
}

/// How many records there are of each name and word, of one user at one address.
fn told<'a>(records: &'a [Value], user: &str, address: &str) -> BTreeMap<(&'a str, String), u64> {
    let mut told = BTreeMap::new();
    for record in records.iter().filter(|record| login_user(record) == user && record["sourceIPAddress"] == address) {
        let name = record["eventName"].as_str().unwrap_or_default();
        let parameters = record["requestParameters"].to_string();
        let mut words: Vec<&str> = parameters.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        words.push("");
        words.sort_unstable();
        words.dedup();
        for word in words {
            *told.entry((name, word.to_owned())).or_default() += 1;
        }
    }
    told
}

#[test]
fn every_act_of_administrators_is_found_as_its_humans() {
    if skipped() {
        return;
    }
    let _audit = AuditOn::now();
    let engine = Engine::start();
    // Made first: the agent watches the keys of homes that it finds.
    let dir = tempfile::tempdir().unwrap();
    let logins: Vec<Login> = ADDRESSES.iter().map(|_| Login::prepare(dir.path())).collect();
    let asked = number("EDGETRAIL_ACTS", ACTS);
    let acts = Acts::captured_by(SETTINGS);
    acts.wait_for_rule(&format!("/home/{}/.ssh", logins[2].user()));

    let scripts: Vec<Script> = std::thread::scope(|scope| {
        let work = logins.iter().zip(ADDRESSES).map(|(login, address)| {
            let engine = &engine.path;
            scope.spawn(move || {
                let mut all = Script::default();
                let home = Path::new("/home").join(login.user());
                let mut number = 0;
                while all.acts() * (ADDRESSES.len() as u64) < asked {
                    let first = all.lines.len();
                    for _ in 0..ROUNDS_OF_A_LOGIN {
                        all.round(&format!("{}x{number}", login.user()), &home, engine);
                        number += 1;
                        if all.acts() * (ADDRESSES.len() as u64) >= asked {
                            break;
                        }
                    }
                    let script = all.lines[first..].join("\n");
                    let done = login.try_ssh(address, &format!("set -e\n{script}\necho all done"));
                    assert!(text(&done).contains("all done"), "{}: {}", login.user(), text(&done));
                }
                all
            })
        });
        let work: Vec<_> = work.collect();
        work.into_iter().map(|work| work.join().unwrap()).collect()
    });
    for login in &logins {
        acts.wait_for("Logout", login.user());
    }

    let records = acts.delivered("et");
    let (mut done, mut found, mut missing) = (0, 0, Vec::new());
    let mut by_name: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for ((login, address), script) in logins.iter().zip(ADDRESSES).zip(&scripts) {
        let told = told(&records, login.user(), address);
        for (Expected { names, mark }, times) in &script.acts {
            let there: u64 = names.iter().filter_map(|name| told.get(&(name, mark.clone()))).sum();
            let there = there.min(*times);
            done += times;
            found += there;
            let of_name = by_name.entry(names[0]).or_default();
            (of_name.0, of_name.1) = (of_name.0 + there, of_name.1 + times);
            if there < *times {
                missing.push(format!("{} {names:?} {mark}: {there} of {times}", login.user()));
            }
        }
    }
    for (name, (found, of)) in by_name {
        println!("{name:<20} {found:>6} of {of:>6}");
    }
    println!("{:<20} {found:>6} of {done:>6} acts, each by its human", "together");
    missing.truncate(40);
    assert!(missing.is_empty(), "{found} of {done}: {missing:#?}");
}
