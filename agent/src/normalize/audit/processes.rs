//! Where a process stands: its ancestors, its systemd unit, its container.
//!
//! From /proc, as long as the process still lives there; a process that is gone leaves what was last known of it, for
//! [`KNOWN_FOR`]. Only of this host's own events: an agent that reads another host's log looks at nothing. Bounded; what
//! is not known is absent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

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
    pub program: String,
}

#[derive(Debug, Default)]
pub struct Processes {
    /// None where events are not this host's.
    proc: Option<PathBuf>,
    images: Images,
    /// In which unit and container each stands.
    standing: HashMap<u32, Standing>,
    /// What each was as an ancestor: shells and servers, which many short processes have in common.
    steps: HashMap<u32, Step>,
}

#[derive(Clone, Debug)]
struct Standing {
    parent: Option<u32>,
    /// Without ancestors.
    place: Place,
    /// When it was looked up, Unix seconds of the event's clock.
    since: u64,
}

#[derive(Clone, Debug)]
struct Step {
    program: Option<String>,
    parent: Option<u32>,
    since: u64,
}

/// A process moves between control groups seldom, and a pid returns late: so long a look-up stands, seconds.
const KNOWN_FOR: u64 = 10;

/// Ancestors told: shell, sudo, session, server.
const ANCESTORS_MAX: usize = 4;

/// Processes remembered; a full table begins anew.
const KNOWN_MAX: usize = 4096;

/// Longest file of /proc that is read, bytes.
const FILE_BYTES_MAX: u64 = 4096;

impl Processes {
    /// Of the host that this runs on.
    pub fn of_host(proc: PathBuf, images: Images) -> Self {
        Self { proc: Some(proc), images, ..Self::default() }
    }

    /// Where a process stands; `parent` is what the event says of it. None where nothing is known.
    pub fn place(&mut self, pid: u32, parent: Option<u32>, now: u64) -> Option<Place> {
        let proc = self.proc.clone()?;
        let standing = self.standing(&proc, pid, parent, now);
        let (mut place, mut next) = (standing.place, parent.or(standing.parent));
        while let Some(ancestor) = next.filter(|pid| *pid > 0 && place.ancestors.len() < ANCESTORS_MAX) {
            let step = self.step(&proc, ancestor, now);
            let Some(program) = step.program.clone() else { break };
            next = step.parent;
            place.ancestors.push(Ancestor { pid: ancestor, program });
        }
        (place != Place::default()).then_some(place)
    }

    fn standing(&mut self, proc: &Path, pid: u32, parent: Option<u32>, now: u64) -> Standing {
        let known = self.standing.get(&pid).filter(|known| {
            now.saturating_sub(known.since) <= KNOWN_FOR && (parent.is_none() || known.parent.is_none() || known.parent == parent)
        });
        if let Some(known) = known {
            return known.clone();
        }
        // A short process is gone before its event is read: its parent stands in the same place.
        let mut place = match (read(proc, pid, "cgroup"), parent.filter(|parent| *parent != pid)) {
            (Some(group), _) => of_cgroup(&group),
            (None, Some(parent)) => {
                self.standing.get(&parent).filter(|known| now.saturating_sub(known.since) <= KNOWN_FOR).map_or_else(
                    || read(proc, parent, "cgroup").as_deref().map(of_cgroup).unwrap_or_default(),
                    |known| known.place.clone(),
                )
            }
            (None, None) => Place::default(),
        };
        place.image = place.container.as_deref().and_then(|container| self.images.of(container));
        let parent = parent.or_else(|| parent_of(&read(proc, pid, "stat")?));
        let found = Standing { parent, place, since: now };
        remember(&mut self.standing, pid, found.clone());
        found
    }

    fn step(&mut self, proc: &Path, pid: u32, now: u64) -> &Step {
        let is_known = self.steps.get(&pid).is_some_and(|step| now.saturating_sub(step.since) <= KNOWN_FOR);
        if !is_known {
            let exe = std::fs::read_link(proc.join(pid.to_string()).join("exe")).ok();
            let exe = exe.and_then(|exe| exe.to_str().map(str::to_owned));
            let program = exe.or_else(|| Some(read(proc, pid, "comm")?.trim_end().to_owned()));
            let parent = read(proc, pid, "stat").as_deref().and_then(parent_of);
            remember(&mut self.steps, pid, Step { program, parent, since: now });
        }
        self.steps.entry(pid).or_insert(Step { program: None, parent: None, since: now })
    }
}

fn remember<T>(known: &mut HashMap<u32, T>, pid: u32, found: T) {
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(pid, found);
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
            let list = self.ancestors.iter().map(|ancestor| json!({"pid": ancestor.pid, "program": ancestor.program}));
            members.insert("ancestors".to_owned(), list.collect::<Vec<_>>().into());
        }
        Value::Object(members)
    }
}

fn read(proc: &Path, pid: u32, file: &str) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(proc.join(pid.to_string()).join(file)).ok()?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut text).ok()?;
    Some(text)
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
        let place = processes.place(60, None, 100).unwrap();
        assert_eq!(place.unit.as_deref(), Some("session-5.scope"));
        assert_eq!(place.ancestors.iter().map(|it| &*it.program).collect::<Vec<_>>(), ["sshd", "systemd"]);
        std::fs::remove_dir_all(proc.path().join("60")).unwrap();
        assert_eq!(processes.place(60, Some(50), 105).unwrap().unit.as_deref(), Some("session-5.scope"), "it was known before");
        assert_eq!(processes.place(70, Some(50), 105).unwrap().unit.as_deref(), Some("ssh.service"), "by its parent");
        assert_eq!(processes.place(71, Some(72), 105), None);
        assert_eq!(Processes::default().place(60, None, 100), None, "another host's log");
    }
}
