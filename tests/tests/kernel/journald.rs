//! A journald of our own in its own mount namespace: its /run is private, its files lie in the test's directory.
//!
//! Who is to write to it (sshd and all it starts) runs in that namespace too. Programs find it by /dev/log, which all
//! namespaces share: a link that leads nowhere outside, taken away again when dropped.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::process::{Process, succeed};
use edgetrail_tests::wait;
use serde_json::Value;

const DEV_LOG: &str = "/dev/log";

pub(crate) struct Journald {
    process: Process,
    files: PathBuf,
    _link: Link,
}

/// /dev/log, if it was not there before.
struct Link {
    is_ours: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(DEV_LOG)
        {
            eprintln!("{DEV_LOG} remains: {error}");
        }
    }
}

impl Journald {
    pub(crate) fn start(dir: &Path) -> Self {
        let files = dir.join("journal");
        fs::create_dir_all(&files).unwrap();
        let is_ours = fs::symlink_metadata(DEV_LOG).is_err();
        if is_ours {
            symlink("/run/systemd/journal/dev-log", DEV_LOG).unwrap();
        }
        let link = Link { is_ours };
        // Unless told otherwise, Debian's journald switches kernel audit off when it starts.
        let script = "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal /run/sshd \
                      && printf '[Journal]\\nAudit=yes\\n' >/run/systemd/journald.conf.d/audit.conf \
                      && mount --bind \"$1\" /run/log/journal && exec /lib/systemd/systemd-journald";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "journald"]).arg(&files).env("SYSTEMD_LOG_TARGET", "null");
        let process = Process::start("journald", &mut command, &dir.join("journald.log"));
        let socket = format!("/proc/{}/root/run/systemd/journal/dev-log", process.id());
        wait::until("journald to listen", Duration::from_secs(20), || fs::symlink_metadata(&socket).ok());
        Self { process, files, _link: link }
    }

    /// Directories named by machine id, as the agent expects below /run/log/journal.
    pub(crate) fn files(&self) -> &Path {
        &self.files
    }

    /// A command that runs where this journal is the system's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process.id().to_string(), "--mount", program]);
        command
    }

    /// Identifier and text of every message, as journalctl reads them.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        let output = succeed(Command::new("journalctl").arg("--directory").arg(&self.files).args(["--output", "json"]));
        let entries = String::from_utf8_lossy(&output.stdout).into_owned();
        let entries = entries.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        entries.map(|entry| (text(&entry, "SYSLOG_IDENTIFIER"), text(&entry, "MESSAGE"))).collect()
    }
}
