//! What the test changes on this machine, and puts back: kernel audit, a user, an sshd on a port of its own.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edgetrail_tests::process::{Process, succeed};
use edgetrail_tests::wait;

use crate::journald::Journald;

/// Kernel audit switched on; off again, as a new machine has it, when dropped. One state per kernel: held under a lock.
pub(crate) struct AuditOn {
    _lock: fs::File,
}

impl AuditOn {
    pub(crate) fn now() -> Self {
        let lock = fs::File::options().create(true).append(true).open("/tmp/edgetrail-audit.lock").unwrap();
        lock.lock().unwrap();
        // Made first: should switching on fail halfway, that half is put back.
        let audit = Self { _lock: lock };
        succeed(Command::new("auditctl").args(["-b", "8192"]));
        succeed(Command::new("auditctl").args(["-e", "1"]));
        audit
    }

    /// From now on every such system call is an event where the condition holds, as `auid=1000`.
    pub(crate) fn watch(&self, system_call: &str, condition: &str) {
        succeed(Command::new("auditctl").args(["-a", "always,exit", "-F", "arch=b64", "-S", system_call, "-F", condition]));
    }

    /// From now on every opening for writing, change of attributes, rename and removal below `dir` is an event, whoever does it.
    pub(crate) fn watch_tree(&self, dir: &Path) {
        let tree = format!("dir={}", dir.display());
        succeed(Command::new("auditctl").args(["-a", "always,exit", "-F", &tree, "-F", "perm=wa"]));
    }

    pub(crate) fn forget_rules(&self) {
        succeed(Command::new("auditctl").arg("-D"));
    }
}

impl Drop for AuditOn {
    fn drop(&mut self) {
        for arguments in [["-D", ""], ["--reset-lost", ""], ["-b", "64"], ["-e", "0"]] {
            let arguments = arguments.iter().filter(|argument| !argument.is_empty());
            if let Err(error) = Command::new("auditctl").args(arguments).output() {
                eprintln!("kernel audit could not be restored: {error}");
            }
        }
    }
}

/// A user that may log in by key and use sudo; gone when dropped.
pub(crate) struct Login {
    user: String,
    dir: PathBuf,
    port: u16,
    _sshd: Process,
}

impl Login {
    pub(crate) fn prepare(dir: &Path) -> Self {
        Self::prepare_in(dir, None)
    }

    /// With a journal, sshd and all that it starts write to that one.
    pub(crate) fn prepare_in(dir: &Path, journald: Option<&Journald>) -> Self {
        static USERS: AtomicU32 = AtomicU32::new(0);
        let user = format!("et{}u{}", std::process::id(), USERS.fetch_add(1, Ordering::Relaxed));
        let dir = dir.join(format!("login-{user}"));
        fs::create_dir_all(&dir).unwrap();
        succeed(Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", &user]));
        // An account whose password is locked is refused by PAM-aware sshd; `*` forbids the password alone.
        succeed(Command::new("usermod").args(["-p", "*", &user]));
        for key in ["host", "client"] {
            succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(key)));
        }
        let home = PathBuf::from("/home").join(&user).join(".ssh");
        fs::create_dir_all(&home).unwrap();
        fs::copy(dir.join("client.pub"), home.join("authorized_keys")).unwrap();
        succeed(Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(&home));
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let mut sudoers = fs::File::options().create(true).write(true).truncate(true).mode(0o440).open(sudoers(&user)).unwrap();
        writeln!(sudoers, "{user} ALL=(ALL) NOPASSWD: ALL").unwrap();

        fs::create_dir_all("/run/sshd").unwrap();
        let port = edgetrail_tests::port::free_port();
        let sshd = "/usr/sbin/sshd";
        let mut command = journald.map_or_else(|| Command::new(sshd), |journald| journald.command(sshd));
        // With -e it would write to its log alone.
        command.args(if journald.is_some() { &["-D"][..] } else { &["-D", "-e"] });
        command.args(["-f", "/dev/null", "-p", &port.to_string(), "-h"]).arg(dir.join("host"));
        for option in ["ListenAddress=127.0.0.1", "PidFile=none", "UsePAM=yes"] {
            command.args(["-o", option]);
        }
        let sshd = Process::start("sshd", &mut command, &dir.join("sshd.log"));
        wait::until("sshd to listen", Duration::from_secs(20), || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { user, dir, port, _sshd: sshd }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn uid(&self) -> u32 {
        let output = succeed(Command::new("id").args(["-u", &self.user]));
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    }

    /// Logs in from `address` and runs `command` to its end, which must be a good one.
    pub(crate) fn ssh(&self, address: &str, command: &str) {
        succeed(&mut self.session(address, command));
    }

    /// The same; the script says itself what went wrong.
    pub(crate) fn try_ssh(&self, address: &str, command: &str) -> Output {
        self.session(address, command).output().expect("ssh starts")
    }

    fn session(&self, address: &str, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-b", address, "-p", &self.port.to_string(), "-i"]).arg(self.dir.join("client"));
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"] {
            ssh.args(["-o", option]);
        }
        ssh.arg(format!("{}@127.0.0.1", self.user)).arg(command);
        ssh
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        for mut command in [Command::new("userdel"), Command::new("rm")] {
            if command.get_program() == "userdel" {
                command.args(["--remove", "--force", &self.user]);
            } else {
                command.arg("-f").arg(sudoers(&self.user));
            }
            if let Err(error) = command.output() {
                eprintln!("{command:?} failed, the test's user may remain: {error}");
            }
        }
    }
}

fn sudoers(user: &str) -> PathBuf {
    // sudo passes over files with a dot or tilde in their names; a user made here has neither.
    PathBuf::from("/etc/sudoers.d").join(user)
}
