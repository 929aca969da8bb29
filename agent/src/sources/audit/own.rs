//! What this agent and its collector do themselves: no events, for writing one would cause the next.
//!
//! This process and the collector that started it (`quickstart`), whatever they do. Other processes of the two programs
//! only where no login user stands behind them and their systemd unit, or their control group, is Edgetrail's: whoever
//! runs `edgetrail-agent buffer export` is recorded, and so is what calls itself so in a container.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::assembler::Event;
use super::fields::Fields;
use super::kinds;
use super::record::{RawRecord, is_same_host};

/// Tells what Edgetrail does from what others do.
#[derive(Debug)]
pub(super) struct Own {
    proc: PathBuf,
    /// This host's name, as a log may have it.
    name: String,
    /// Since when the processes of `pids` run, Unix seconds: before, their numbers were others'.
    since: u64,
    /// ` pid=N ` as the kernel writes it, of this process and of the collector that started it.
    pids: Vec<memmem::Finder<'static>>,
    /// The two programs' paths.
    programs: Vec<String>,
    group: String,
    /// Processes of the two programs, and whether they are Edgetrail's services, with when that was looked up.
    known: HashMap<u32, (bool, u64)>,
}

/// What each of Edgetrail's programs has in its path.
const NAME: &[u8] = b"edgetrail-";

const AGENT: &str = "edgetrail-agent";
const COLLECTOR: &str = "edgetrail-collector";

/// What systemd calls their units' control groups.
const UNITS: &str = "/system.slice/edgetrail-";

/// A process keeps its control group: so long a look-up stands, seconds of the events' clock.
const KNOWN_FOR: u64 = 10;

/// Processes remembered; a full table begins anew.
const KNOWN_MAX: usize = 256;

/// The kernel stamps an event when its call begins, this process reads the clock when it runs, seconds.
const CLOCK_SLACK: u64 = 2;

impl Own {
    /// Of this process.
    pub(super) fn new() -> Self {
        let me = std::process::id();
        let exe = std::env::current_exe().unwrap_or_default();
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        let proc = PathBuf::from("/proc");
        let starter = parent.filter(|pid| {
            let exe = std::fs::read_link(proc.join(pid.to_string()).join("exe")).unwrap_or_default();
            exe.file_name().is_some_and(|name| name == COLLECTOR)
        });
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        Self::of(proc, &name, since, &[Some(me), starter], &exe)
    }

    fn of(proc: PathBuf, name: &str, since: u64, pids: &[Option<u32>], exe: &Path) -> Self {
        let finder = |pid: &u32| memmem::Finder::new(&format!(" pid={pid} ")).into_owned();
        let folder = exe.parent().unwrap_or(Path::new("/usr/bin"));
        let mut programs: Vec<String> = [AGENT, COLLECTOR].map(|name| folder.join(name).to_string_lossy().into_owned()).to_vec();
        programs.push(exe.to_string_lossy().into_owned());
        let group = std::fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let pids = pids.iter().flatten().map(finder).collect();
        Self { proc, name: name.to_owned(), since, pids, programs, group, known: HashMap::new() }
    }

    /// Whether Edgetrail itself did it.
    pub(super) fn did(&mut self, event: &Event) -> bool {
        if event.node.as_deref().is_some_and(|node| !self.is_here(node)) {
            return false;
        }
        let Some(record) = event.records.iter().find(|record| record.is(kinds::SYSCALL) || record.is(kinds::EVENT_LISTENER))
        else {
            return false;
        };
        let is_of_now = event.stamp.seconds.saturating_add(CLOCK_SLACK) >= self.since;
        is_of_now && self.is_process(record) || self.is_service(record, event.stamp.seconds)
    }

    /// Whether auditd's name of a node is this host's.
    pub(super) fn is_here(&self, node: &str) -> bool {
        is_same_host(node, &self.name)
    }

    /// The kernel writes the process before anything that a process could choose.
    fn is_process(&self, record: &RawRecord) -> bool {
        let quote = memchr::memchr(b'"', &record.text).unwrap_or(record.text.len());
        self.pids.iter().any(|pid| {
            pid.find(&record.text).is_some_and(|at| at < quote)
                || record.text.starts_with(pid.needle().strip_prefix(b" ").unwrap_or_default())
        })
    }

    fn is_service(&mut self, record: &RawRecord, now: u64) -> bool {
        if memmem::find(&record.text, NAME).is_none() {
            return false;
        }
        let text = record.text();
        let fields = Fields::parse(&text);
        let is_nobodys = fields.number::<u32>("auid") == Some(u32::MAX);
        let exe = fields.raw("exe").map(|exe| exe.strip_suffix(" (deleted)").unwrap_or(exe));
        let is_ours = exe.is_some_and(|exe| self.programs.iter().any(|program| program == exe));
        match fields.number::<u32>("pid") {
            Some(pid) if is_nobodys && is_ours => self.is_in_group(pid, now),
            _ => false,
        }
    }

    fn is_in_group(&mut self, pid: u32, now: u64) -> bool {
        if let Some((is_it, at)) = self.known.get(&pid)
            && now.abs_diff(*at) <= KNOWN_FOR
        {
            return *is_it;
        }
        let group = std::fs::read_to_string(self.proc.join(pid.to_string()).join("cgroup")).unwrap_or_default();
        let is_unit = |line: &str| {
            line.rsplit(':').next().is_some_and(|path| {
                path.starts_with(UNITS) && path.split('/').nth(2).is_some_and(|unit| unit.ends_with(".service"))
            })
        };
        let is_it = !group.is_empty() && (group == self.group || group.lines().any(is_unit));
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(pid, (is_it, now));
        is_it
    }
}

impl Default for Own {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Assembler, Origin, Stamped};
    use super::*;

    fn event(text: &str) -> Event {
        let (mut assembler, mut out) = (Assembler::new(Origin::Log), Vec::new());
        assembler.push(Stamped::from_line(text.as_bytes()).unwrap(), 0, &mut out);
        assembler.expire(u64::MAX, &mut out);
        out.remove(0)
    }

    fn call(pid: u32, auid: u32, exe: &str) -> Event {
        event(&format!(
            "type=SYSCALL msg=audit(5000.001:1): arch=c000003e syscall=257 success=yes exit=3 a0=0 a1=0 a2=0 a3=0 items=1 ppid=1 pid={pid} auid={auid} uid=990 comm=\"x\" exe=\"{exe}\" key=(null)"
        ))
    }

    /// Processes 7 (this one), 8 (the collector's unit), 9 (a container), 10 (a user's own unit).
    fn own(proc: &Path) -> Own {
        for (pid, group) in [
            ("self", "0::/system.slice/edgetrail-agent.service\n"),
            ("8", "0::/system.slice/edgetrail-collector.service\n"),
            ("9", "0::/system.slice/docker-1234.scope\n"),
            ("10", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/edgetrail-x.service\n"),
        ] {
            std::fs::create_dir_all(proc.join(pid)).unwrap();
            std::fs::write(proc.join(pid).join("cgroup"), group).unwrap();
        }
        Own::of(proc.to_owned(), "web-1", 5000, &[Some(7), None], Path::new("/usr/bin/edgetrail-agent"))
    }

    #[test]
    fn this_process_is_edgetrail_whatever_it_runs_as() {
        let proc = tempfile::tempdir().unwrap();
        let mut own = own(proc.path());
        assert!(own.did(&call(7, 1000, "/usr/bin/edgetrail-agent")));
        assert!(!own.did(&call(77, 1000, "/usr/bin/cat")));
        let listener =
            "type=EVENT_LISTENER msg=audit(5000.001:1): pid=7 uid=0 auid=1000 tty=pts0 ses=1 comm=\"x\" exe=\"/x\" res=1";
        assert!(own.did(&event(listener)));
        assert!(!own.did(&event(&listener.replace("(5000", "(4000"))), "the number was another process's then");
        assert!(!own.did(&event(&format!("node=web-2 {listener}"))), "and is another's on another host");
        assert!(own.did(&event(&format!("node=web-1.example.org {listener}"))));
        let posing = "type=SYSCALL msg=audit(5000.001:1): arch=c000003e syscall=257 ppid=1 pid=70 auid=1000 comm=\" pid=7 \" exe=\"/x\" key=(null)";
        assert!(!own.did(&event(posing)), "a process chooses its name");
    }

    #[test]
    fn the_services_are_edgetrail_and_whoever_runs_the_programs_is_not() {
        let proc = tempfile::tempdir().unwrap();
        let mut own = own(proc.path());
        let collector = "/usr/bin/edgetrail-collector";
        assert!(own.did(&call(8, u32::MAX, collector)));
        assert!(own.did(&call(8, u32::MAX, "/usr/bin/edgetrail-collector (deleted)")), "updated, and not started anew");
        assert!(!own.did(&call(8, 1000, collector)), "somebody ran it");
        assert!(!own.did(&call(9, u32::MAX, collector)), "a container has any path");
        assert!(!own.did(&call(10, u32::MAX, collector)), "so has a user's unit");
        assert!(!own.did(&call(11, u32::MAX, collector)), "a process that is gone is none of ours");
        assert!(!own.did(&call(8, u32::MAX, "/tmp/edgetrail-collector")));
    }
}
