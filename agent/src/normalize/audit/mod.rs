//! Audit events as records: the actor, the act, its result.
//!
//! What carries from one event to the next is the login sessions with their addresses, kept in a cursor, and a little
//! memory of what the last seconds already said, so that one act is one record. An event that only leads to one is a
//! step, a Data event. Nothing here fails: what no row knows becomes a record of its type.

pub mod account;

pub mod address;

pub mod attempts;

pub mod capabilities;

pub mod catalogue;

pub mod deed;

pub mod errno;

pub mod kernel;

pub mod methods;

pub mod pam;

pub mod processes;

pub mod records;

pub mod sessions;

pub mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use super::act::{self, class};
use super::actor::{Actor, Person};
use super::names::Names;
use super::{Draft, Host};
use crate::observation::Cursor;
use crate::sources::audit::record::is_same_host;
use crate::sources::audit::{Event, RecordType, kinds};
use crate::sources::docker::Images;
use account::Changes;
use attempts::Attempts;
use deed::{Deed, Failure, Kind};
use methods::Methods;
use processes::{Place, Processes};
use sessions::{Saved, Sessions, UNSET};
use view::{Texts, View};

/// Key of the cursor that holds the login sessions.
pub const SESSIONS_KEY: &str = "audit/sessions";

/// Carries login sessions from one event to the next.
#[derive(Debug)]
pub struct Decoder {
    boot: String,
    here: Memory,
    /// Other hosts of an aggregated log: their users, sessions and processes have numbers of their own.
    nodes: BTreeMap<String, Memory>,
    /// No file of this host names another's users.
    strangers: Names,
    processes: Processes,
    /// Whether selection keeps Data events: what it turns away is told no more of than its class.
    wants_data: bool,
}

/// What is carried from one event of a host to the next.
#[derive(Debug, Default)]
struct Memory {
    sessions: Sessions,
    attempts: Attempts,
    changes: Changes,
    methods: Methods,
    /// When it was last needed, Unix seconds.
    used: u64,
}

/// eventName of an execution.
const EXECUTE: &str = "ExecuteProgram";

/// Most nodes of an aggregated log whose sessions are remembered; the one unheard longest gives way.
const NODES_MAX: usize = 256;

/// What decoding one event may use.
struct Context<'a> {
    host: &'a Host,
    names: &'a mut Names,
    event: &'a Event,
    wants_data: bool,
}

impl Context<'_> {
    fn seconds(&self) -> u64 {
        self.event.stamp.seconds
    }
}

impl Default for Decoder {
    fn default() -> Self {
        let (strangers, processes) = (Names::of_nobody(), Processes::default());
        Self { boot: String::new(), here: Memory::default(), nodes: BTreeMap::new(), strangers, processes, wants_data: true }
    }
}

impl Decoder {
    /// Goes on from the cursor of [`SESSIONS_KEY`], if there is one.
    pub fn restore(cursor: Option<&Cursor>) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let mut saved = cursor.map(|cursor| Saved::parse(&cursor.value)).unwrap_or_default();
        let here = Memory { sessions: saved.sessions(&boot), ..Memory::default() };
        let nodes = saved.nodes().take(NODES_MAX);
        let nodes = nodes.map(|(node, sessions)| (node, Memory { sessions, ..Memory::default() })).collect();
        Self { boot, here, nodes, ..Self::default() }
    }

    /// Of the host that this runs on: its processes can be looked at; `images` are those of its containers.
    #[must_use]
    pub fn of_this_host(self, images: Images) -> Self {
        Self { processes: Processes::of_host("/proc".into(), images), ..self }
    }

    /// For a selection that turns away every Data event, whatever else it says.
    #[must_use]
    pub fn without_data(self) -> Self {
        Self { wants_data: false, ..self }
    }

    /// A program's own message told how somebody logged in: for the session, whichever of the two is heard of first.
    pub fn logged_in(&mut self, user: &str, uid: Option<u32>, address: &str, method: &str, time: u64) {
        let Memory { sessions, methods, .. } = &mut self.here;
        match uid.and_then(|uid| Some((uid, sessions.newest(uid, address)?))) {
            Some((uid, id)) if sessions.get(id).is_some_and(|session| session.method.is_none()) => {
                sessions.update(id, uid, time, |session| session.method = Some(method.to_owned()));
            }
            _ => methods.proven(user, address, method, time),
        }
    }

    /// The sessions, where they changed since this was last called: to be committed with the records made since.
    pub fn take_cursor(&mut self) -> Option<Cursor> {
        let mut is_changed = self.here.sessions.take_changed();
        for memory in self.nodes.values_mut() {
            is_changed |= memory.sessions.take_changed();
        }
        if !is_changed {
            return None;
        }
        let mut saved = Saved::new(&self.boot, &self.here.sessions);
        self.nodes.iter().for_each(|(node, memory)| saved.add(node, &memory.sessions));
        Some(Cursor { key: SESSIONS_KEY.to_owned(), value: serde_json::to_vec(&saved).ok()? })
    }

    /// The record of an event; none where it is a step of an act that has one.
    pub fn decode(&mut self, host: &Host, names: &mut Names, event: &Event, event_id: Uuid) -> Option<Draft> {
        let texts = Texts::of(event);
        let view = View::of(&texts);
        let wants_data = self.wants_data;
        if let Some(node) = event.node.as_deref().filter(|node| !is_same_host(node, &host.name)) {
            let mut context = Context { host, names: &mut self.strangers, event, wants_data };
            let memory = memory_of(&mut self.nodes, node, event.stamp.seconds);
            let mut deed = memory.deed(&mut context, &view)?;
            if deed.is_data() && !wants_data {
                return Some(Deed { act: None, ..deed }.refused_draft(host, event, event_id));
            }
            memory.note_session(&view, &mut deed);
            deed.marks.push(("loggedBy", node.into()));
            deed.address.get_or_insert_with(|| node.to_owned());
            // What this host's other sources report is never what another did.
            deed.act = None;
            return Some(deed.draft(host, event, event_id));
        }
        let mut context = Context { host, names, event, wants_data };
        let mut deed = self.here.deed(&mut context, &view)?;
        if deed.is_data() && !wants_data {
            // What a process does next may be recorded when it is gone.
            self.place_of(&view, event.stamp.seconds, &deed);
            return Some(deed.refused_draft(host, event, event_id));
        }
        self.here.note_session(&view, &mut deed);
        if let Some(place) = self.place_of(&view, event.stamp.seconds, &deed).map(Place::describe) {
            deed.marks.push(("process", place));
        }
        Some(deed.draft(host, event, event_id))
    }

    /// Where the process stands: of acts and commands, not of each file access.
    fn place_of(&mut self, view: &View<'_>, now: u64, deed: &Deed) -> Option<&Place> {
        if deed.kind != Kind::Management && deed.name != EXECUTE {
            return None;
        }
        let pid = view.id("pid").filter(|pid| *pid != 0)?;
        if deed.name == EXECUTE {
            let program = view.get("exe").filter(|_| deed.error.is_none());
            self.processes.executed(pid, program.as_deref(), view.id("ppid"), now);
        }
        self.processes.place(pid, view.id("ppid"), now)
    }
}

fn memory_of<'a>(nodes: &'a mut BTreeMap<String, Memory>, node: &str, now: u64) -> &'a mut Memory {
    if !nodes.contains_key(node) && nodes.len() >= NODES_MAX {
        let oldest = nodes.iter().min_by_key(|(_, memory)| memory.used).map(|(node, _)| node.clone());
        oldest.and_then(|oldest| nodes.remove(&oldest));
    }
    let memory = nodes.entry(node.to_owned()).or_insert_with(|| Memory { sessions: Sessions::of_node(), ..Memory::default() });
    memory.used = now;
    memory
}

impl Memory {
    /// The login that the act belongs to. What a timer's session does is the timer's, unless the owner of its table acts
    /// as somebody else.
    fn note_session(&self, view: &View<'_>, deed: &mut Deed) {
        let Some(session) = view.session().and_then(|id| self.sessions.get(id)) else { return };
        if let Some(login) = session.describe() {
            deed.marks.push(("login", login));
        }
        let Some(program) = session.program.as_ref().filter(|_| session.is_timers()) else { return };
        let effective = match &deed.actor {
            Actor::Login { login, effective } if login.uid == effective.uid || login.uid == 0 => effective.clone(),
            Actor::NamedAs { login_uid: Some(0), effective, effective_uid, .. } => {
                Person { uid: effective_uid.unwrap_or(UNSET), name: Some(effective.clone()) }
            }
            _ => return,
        };
        deed.actor = Actor::Daemon { effective, program: format!("{program}.linux") };
    }

    fn deed(&mut self, context: &mut Context<'_>, view: &View<'_>) -> Option<Deed> {
        match view.kind() {
            kinds::SYSCALL => self.system_call(context, view),
            kinds::LOGIN => self.login_user(context, view),
            kinds::SYSTEM_BOOT => {
                self.sessions.forget_before(context.seconds());
                Some(self.kernel(context, view))
            }
            kinds::USER_ACCT if account::is_group_change(view) => Some(self.account(context, view)),
            kinds::USER_AUTH | kinds::USER_ACCT | kinds::CRED_ACQ..=kinds::USER_END => Some(self.pam(context, view)),
            kinds::USER_ERR | kinds::CRED_REFR | kinds::USER_LOGIN | kinds::USER_LOGOUT | kinds::USER_CMD => {
                Some(self.pam(context, view))
            }
            kinds::USER_MGMT | kinds::USER_CHAUTHTOK | kinds::ADD_USER..=kinds::DEL_GROUP => Some(self.account(context, view)),
            kinds::GRP_MGMT | kinds::GRP_CHAUTHTOK | kinds::ACCT_LOCK | kinds::ACCT_UNLOCK => Some(self.account(context, view)),
            kinds::SERVICE_START => Some(self.unit(context, view, "StartUnit", class::START_UNIT)),
            kinds::SERVICE_STOP => Some(self.unit(context, view, "StopUnit", class::STOP_UNIT)),
            // sshd writes a dozen of them in each login.
            kinds::CRYPTO_KEY_USER | kinds::CRYPTO_SESSION if view.program() == "sshd" => Some(self.kernel(context, view).step()),
            _ if context.event.records.is_empty() => None,
            _ => Some(self.kernel(context, view)),
        }
    }

    /// A process was given a login user and session. Worth a record only where it was refused or had one already;
    /// else it is a step of a login.
    fn login_user(&mut self, context: &mut Context<'_>, view: &View<'_>) -> Option<Deed> {
        let fields = view.first(kinds::LOGIN)?;
        let number = |key: &str| fields.number::<u32>(key).unwrap_or(UNSET);
        let had = fields.number::<u32>("old-auid").filter(|auid| *auid != UNSET);
        let succeeded = fields.succeeded() != Some(false);
        if succeeded {
            self.sessions.open(number("ses"), number("auid"), context.seconds());
        }
        let mut deed = self.kernel(context, view);
        // Whoever did it was not yet who the process is from now on.
        if let Some(effective) = view.effective(context.names) {
            let login = had.map(|uid| Person { uid, name: context.names.user(uid) });
            deed.actor = Actor::of(login, effective, "kernel.linux");
        }
        deed.parameter("loginUser", fields.number::<u32>("auid"));
        Some(if had.is_some() || !succeeded { deed } else { deed.step() })
    }

    fn unit(&self, context: &mut Context<'_>, view: &View<'_>, name: &'static str, class: &'static str) -> Deed {
        let unit = view.get("unit").map(|unit| unit.into_owned()).unwrap_or_default();
        // systemd names services only, without their suffix.
        let unit = if unit.is_empty() || unit.contains(".service") { unit } else { format!("{unit}.service") };
        let mut deed = Deed::new("systemd.linux".to_owned(), name, Kind::Service, view.actor(context.names));
        deed.parameter("unit", Some(unit.clone()));
        self.describe(view, &mut deed);
        if view.succeeded() == Some(false) {
            deed.error = Some(Failure { code: "Failed".to_owned(), message: Some(format!("{unit} failed")) });
        } else {
            deed.response = Some(json!({"result": "success"}));
        }
        deed.resource(context.host, "Host::Unit", &format!("unit/{unit}"));
        deed.act = Some(act::unit(class, &unit, context.event.stamp.nanoseconds()));
        deed
    }
}

/// Whether the event is of a type that has no number here.
pub fn is_unnumbered(event: &Event) -> bool {
    event.records.iter().all(|record| matches!(record.kind, RecordType::Name(_)))
}
