//! Where a process stands: its ancestors, its systemd unit, its container.
//!
//! From /proc, as long as the process still lives there; a process that is gone leaves what was last known of it, for
//! [`KNOWN_FOR`]. Only of this host's own events: an agent that reads another host's log looks at nothing. Bounded; what
//! is not known is absent.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::sources::docker::Images;

/// What is known of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `ssh.service`.
    pub unit: Option<String>,
    pub container: Option<String>,
    /// What the container was made of, where its engine is followed.
    pub image: Option<String>,
    /// Parent first.
    pub ancestors: Vec<Ancestor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    pub pid: u32,
    pub program: Arc<str>,
}

#[derive(Debug, Default)]
pub struct Processes {
    /// None where events are not this host's.
    proc: Option<PathBuf>,
    images: Images,
    known: HashMap<u32, Known>,
    /// Those that others have come from of late.
    parents: HashMap<u32, Parent>,
}

/// What others have of a process that they come from.
#[derive(Debug)]
struct Parent {
    /// None where /proc has it no more.
    program: Option<Arc<str>>,
    parent: Option<u32>,
    /// What its control group says; none where nobody asked yet.
    group: Option<Place>,
    /// As of [`Known`].
    since: u64,
}

#[derive(Debug)]
struct Known {
    parent: Option<u32>,
    place: Place,
    /// When it was looked up, Unix seconds of the event's clock.
    since: u64,
}

/// A process moves between control groups seldom, and a pid returns late: so long a look-up stands, seconds.
const KNOWN_FOR: u64 = 10;

/// A shell runs many commands a second: so long its program and its parent stand, seconds, unless it is heard to execute
/// another.
const PARENT_FOR: u64 = 1;

/// Ancestors told: shell, sudo, session, server.
const ANCESTORS_MAX: usize = 4;

/// Processes remembered; a full table begins anew.
const KNOWN_MAX: usize = 4096;

/// Longest file of /proc that is read, bytes.
const FILE_BYTES_MAX: usize = 4096;

impl Processes {
    /// Of the host that this runs on.
    pub fn of_host(proc: PathBuf, images: Images) -> Self {
        Self { proc: Some(proc), images, known: HashMap::new(), parents: HashMap::new() }
    }

    /// Where a process stands; `parent` is what the event says of it. None where nothing is known.
    pub fn place(&mut self, pid: u32, parent: Option<u32>, now: u64) -> Option<&Place> {
        self.proc.as_ref()?;
        let is_known = self.known.get(&pid).is_some_and(|known| {
            now.saturating_sub(known.since) <= KNOWN_FOR && (parent.is_none() || known.parent.is_none() || known.parent == parent)
        });
        if !is_known {
            let mut found = self.look(pid, parent, now);
            found.image = found.container.as_deref().and_then(|container| self.images.of(container));
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(pid, Known { parent, place: found, since: now });
        }
        self.known.get(&pid).map(|known| &known.place).filter(|place| **place != Place::default())
    }

    /// A process has executed another program: those that come from it are told so even where it is gone when they are heard of.
    pub fn executed(&mut self, pid: u32, program: Option<&str>, parent: Option<u32>, now: u64) {
        match program {
            Some(program) if self.proc.is_some() => {
                self.remember(pid, Parent { program: Some(program.into()), parent, group: None, since: now });
            }
            _ => drop(self.parents.remove(&pid)),
        }
    }

    fn look(&mut self, pid: u32, parent: Option<u32>, now: u64) -> Place {
        // A short process is gone before its event is read: its parent stands in the same place.
        let own = self.read(pid, "cgroup").map(|group| of_cgroup(&group));
        let mut place = own.or_else(|| self.group(parent?, now)).unwrap_or_default();
        let mut next = parent.or_else(|| parent_of(&self.read(pid, "stat")?));
        while let Some(ancestor) = next.filter(|pid| *pid > 0 && place.ancestors.len() < ANCESTORS_MAX) {
            let Some(Parent { program: Some(program), parent, .. }) = self.parent(ancestor, now) else { break };
            place.ancestors.push(Ancestor { pid: ancestor, program: program.clone() });
            next = *parent;
        }
        place
    }

    /// Where a parent stands.
    fn group(&mut self, pid: u32, now: u64) -> Option<Place> {
        if let Some(known) = self.parent(pid, now).and_then(|parent| parent.group.clone()) {
            return Some(known);
        }
        let group = of_cgroup(&self.read(pid, "cgroup")?);
        if let Some(parent) = self.parents.get_mut(&pid) {
            parent.group = Some(group.clone());
        }
        Some(group)
    }

    fn parent(&mut self, pid: u32, now: u64) -> Option<&Parent> {
        let is_known = self.parents.get(&pid).is_some_and(|parent| now.saturating_sub(parent.since) <= PARENT_FOR);
        if !is_known {
            let exe = std::fs::read_link(self.file(pid, "exe")?).ok().and_then(|exe| exe.to_str().map(Arc::from));
            let program = exe.or_else(|| Some(self.read(pid, "comm")?.trim_end().into()));
            let stat = program.is_some().then(|| self.read(pid, "stat")).flatten();
            let parent = stat.as_deref().and_then(parent_of);
            self.remember(pid, Parent { program, parent, group: None, since: now });
        }
        self.parents.get(&pid)
    }

    fn remember(&mut self, pid: u32, parent: Parent) {
        if self.parents.len() >= KNOWN_MAX {
            self.parents.clear();
        }
        self.parents.insert(pid, parent);
    }

    fn file(&self, pid: u32, name: &str) -> Option<PathBuf> {
        Some(self.proc.as_ref()?.join(format!("{pid}/{name}")))
    }

    /// A file of a process, in as few calls as it takes.
    fn read(&self, pid: u32, name: &str) -> Option<String> {
        let mut file = std::fs::File::open(self.file(pid, name)?).ok()?;
        let (mut bytes, mut length) = ([0; FILE_BYTES_MAX], 0);
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            let wanted = rest.len();
            let more = file.read(rest).ok()?;
            length += more;
            // /proc gives less than it is asked for only at the end.
            if more < wanted {
                break;
            }
        }
        std::str::from_utf8(bytes.get(..length)?).ok().map(str::to_owned)
    }
}

impl Place {
    pub fn describe(&self) -> Value {
        let mut members = serde_json::Map::new();
        if let Some(unit) = &self.unit {
            members.insert("unit".to_owned(), unit.clone().into());
        }
        if let Some(container) = &self.container {
            members.insert("container".to_owned(), container.clone().into());
        }
        if let Some(image) = &self.image {
            members.insert("image".to_owned(), image.clone().into());
        }
        if !self.ancestors.is_empty() {
            let list = self.ancestors.iter().map(|ancestor| json!({"pid": ancestor.pid, "program": *ancestor.program}));
            members.insert("ancestors".to_owned(), list.collect::<Vec<_>>().into());
        }
        Value::Object(members)
    }
}

/// The fourth field of `stat`; the second is in parentheses and may hold anything.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// `0::/system.slice/ssh.service`; under cgroup v1 one line a controller, of which the longest says most.
fn of_cgroup(text: &str) -> Place {
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let path = paths.max_by_key(|path| path.len()).unwrap_or_default();
    let is_unit = |part: &&str| [".service", ".scope", ".mount", ".socket", ".swap"].iter().any(|end| part.ends_with(end));
    let unit = path.split('/').rfind(is_unit).map(str::to_owned);
    Place { unit, container: path.split('/').rev().find_map(container), ..Place::default() }
}

/// `docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, `/docker/ID`, `crio-ID`: 64 hex digits;
/// `machine-NAME.scope`, `lxc.payload.NAME`: the name.
fn container(part: &str) -> Option<String> {
    let plain = part.strip_suffix(".scope").or_else(|| part.strip_suffix(".service")).unwrap_or(part);
    let id = plain.rsplit(['-', ':']).next().unwrap_or(plain);
    if id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(id.to_owned());
    }
    let machine =
        plain.strip_prefix("lxc.payload.").or_else(|| plain.strip_prefix("machine-").filter(|_| part.ends_with(".scope")));
    machine.map(|name| name.replace("\\x2d", "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_are_read_from_the_control_group() {
        let of = |text: &str| {
            let Place { unit, container, .. } = of_cgroup(text);
            (unit.unwrap_or_default(), container.unwrap_or_default())
        };
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(of("0::/system.slice/ssh.service\n"), ("ssh.service".into(), String::new()));
        assert_eq!(of("0::/user.slice/user-1000.slice/session-5.scope"), ("session-5.scope".into(), String::new()));
        assert_eq!(of(&format!("0::/system.slice/docker-{id}.scope")), (format!("docker-{id}.scope"), id.clone()));
        assert_eq!(of(&format!("12:pids:/docker/{id}\n1:name=systemd:/docker/{id}")).1, id);
        assert_eq!(of(&format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope")).1, id);
        assert_eq!(of("0::/machine.slice/machine-web\\x2d1.scope").1, "web-1");
        assert_eq!(of("0::/"), (String::new(), String::new()));
    }

    #[test]
    fn a_process_is_known_with_its_ancestors_and_after_its_end() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: u32, parent: u32, comm: &str, group: &str| {
            let folder = proc.path().join(pid.to_string());
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("stat"), format!("{pid} (a) b) S {parent} 1")).unwrap();
            std::fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
            std::fs::write(folder.join("cgroup"), format!("0::{group}\n")).unwrap();
        };
        process(1, 0, "systemd", "/init.scope");
        process(50, 1, "sshd", "/system.slice/ssh.service");
        process(60, 50, "bash", "/user.slice/session-5.scope");
        let (id, images) = ("c".repeat(64), Images::default());
        process(80, 50, "sh", &format!("/system.slice/docker-{id}.scope"));
        images.learn(&id, "nginx:1");
        let mut processes = Processes::of_host(proc.path().to_owned(), images);
        assert_eq!(processes.place(80, None, 100).unwrap().image.as_deref(), Some("nginx:1"));
        let place = processes.place(60, None, 100).unwrap().clone();
        assert_eq!(place.unit.as_deref(), Some("session-5.scope"));
        assert_eq!(place.ancestors.iter().map(|it| &*it.program).collect::<Vec<_>>(), ["sshd", "systemd"]);
        std::fs::remove_dir_all(proc.path().join("60")).unwrap();
        assert_eq!(processes.place(60, Some(50), 105).unwrap().unit.as_deref(), Some("session-5.scope"), "it was known before");
        assert_eq!(processes.place(70, Some(50), 105).unwrap().unit.as_deref(), Some("ssh.service"), "by its parent");
        processes.executed(72, Some("/usr/bin/env"), Some(60), 105);
        let ancestors = |place: &Place| place.ancestors.iter().map(|it| it.program.to_string()).collect::<Vec<_>>();
        assert_eq!(ancestors(processes.place(73, Some(72), 105).unwrap()), ["/usr/bin/env"], "gone, and heard of");
        processes.executed(72, None, Some(60), 105);
        assert_eq!(processes.place(71, Some(72), 105), None);
        assert_eq!(Processes::default().place(60, None, 100), None, "another host's log");
    }
}
