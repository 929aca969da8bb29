//! What the kernel reports: system calls that a rule selected, and events of its own.

use std::borrow::Cow;

use edgetrail_proto::limits::PARAMETERS_BYTES_MAX;
use serde_json::{Map, Value, json};

use super::address::Address;
use super::deed::{Deed, Failure, Kind};
use super::sessions::UNSET;
use super::view::{self, View};
use super::{Context, Memory, capabilities, catalogue, errno, records};
use crate::normalize::actor::Actor;
use crate::sources::audit::fields::{Field, Fields, Part, decode_hex};
use crate::sources::audit::syscall::Arch;
use crate::sources::audit::{kinds, rules};

/// PATH records. Source: linux/audit.h.
const PATH: u16 = 1302;

/// How a file name is used in PATH records that are not the object itself.
const PARENT: &str = "PARENT";

/// Most arguments kept of one command; beyond them only their number is told. The record's own limit cuts by bytes.
const ARGUMENTS_MAX: usize = PARAMETERS_BYTES_MAX / 16;

/// A system call as its record names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub arch: Cow<'static, str>,
    pub name: Cow<'static, str>,
    /// Arguments 0 to 3.
    pub arguments: [u64; 4],
    pub exit: i64,
    pub succeeded: Option<bool>,
}

impl Call {
    pub fn of(fields: &Fields<'_>) -> Self {
        // Interpreted logs name what raw ones number.
        let arch = fields.hex("arch").and_then(Arch::of).or_else(|| Arch::named(fields.raw("arch")?));
        let number = fields.raw("syscall").unwrap_or_default();
        let named = arch.zip(number.parse().ok()).and_then(|(arch, number)| arch.syscall(number)).map(Cow::Borrowed);
        let told = || fields.get("SYSCALL").map(|name| Cow::Owned(name.into_owned()));
        let name = named.or_else(told).unwrap_or_else(|| Cow::Owned(number.to_owned()));
        let unknown = || Cow::Owned(fields.raw("arch").unwrap_or_default().to_owned());
        let arch = arch.map_or_else(unknown, |arch| Cow::Borrowed(arch.name()));
        let argument = |key| fields.hex(key).unwrap_or(0);
        Self {
            arch,
            name,
            arguments: [argument("a0"), argument("a1"), argument("a2"), argument("a3")],
            exit: fields.number("exit").unwrap_or(0),
            succeeded: fields.succeeded(),
        }
    }

    fn failure(&self) -> Option<Failure> {
        if self.succeeded != Some(false) {
            return None;
        }
        let number = u32::try_from(self.exit.unsigned_abs()).unwrap_or(0);
        Some(Failure { code: errno::error_code(number), message: Some(errno::message(number)) })
    }
}

impl Memory {
    /// An event whose main record is a system call.
    pub(super) fn system_call(&self, context: &mut Context<'_>, view: &View<'_>) -> Option<Deed> {
        let call = Call::of(view.first(kinds::SYSCALL)?);
        let address = view.first(kinds::SOCKADDR).and_then(|fields| Address::parse(fields.raw("saddr")?));
        let creates = view.all(PATH).any(|path| matches!(path.raw("nametype").or_else(|| path.raw("objtype")), Some("CREATE")));
        let (name, kind) = catalogue::system_call(&call, address.as_ref(), creates, view);
        let key = view.first(kinds::SYSCALL).and_then(|fields| fields.get("key")).map(|key| key.into_owned()).unwrap_or_default();
        // Whoever writes what a managed rule guards administers the host.
        let is_guarded = kind == Kind::Data && key.split('\u{1}').any(rules::watches_files);
        let is_told = is_guarded && catalogue::is_told(&key, &view.exe().unwrap_or_default());
        let kind = if is_guarded && !is_told { Kind::Management } else { kind };
        if matches!(kind, Kind::Data | Kind::DataRead) && !context.wants_data {
            return Some(Deed::new(String::new(), name, kind, Actor::Unknown));
        }
        let paths = paths(view);
        let mut deed = self.kernel_deed(context, view, name, kind, Some(call), &paths);
        if let Some(address) = address {
            deed.parameter("target", Some(address.describe()));
        }
        for (path, is_object) in &paths {
            if *is_object && path.starts_with('/') {
                deed.resource(context.host, "Host::File", &format!("file{path}"));
            }
        }
        Some(if is_told { deed.step() } else { deed })
    }

    /// Any other kernel record, with the system call it was written in, if any.
    pub(super) fn kernel(&self, context: &mut Context<'_>, view: &View<'_>) -> Deed {
        let (name, kind) = records::event(view);
        let call = view.first(kinds::SYSCALL).map(Call::of);
        let mut deed = self.kernel_deed(context, view, name, kind, call, &paths(view));
        let own = view.primary().into_iter().flat_map(Fields::iter);
        let details: Map<String, Value> = own
            .filter(|field| !is_of_process(field) && field.raw != "?" && field.raw != "(null)")
            .map(|field| (field.key.clone().into_owned(), Value::from(field.decoded())))
            .collect();
        deed.parameter("record", Some(view.kind_name()));
        deed.parameter("details", (!details.is_empty()).then_some(details));
        let words = view.primary().map(|fields| fields.words().join(" ")).unwrap_or_default();
        deed.parameter("text", (!words.is_empty()).then_some(words));
        if deed.error.is_none() && view.succeeded() == Some(false) {
            deed.error = Some(Failure { code: "Failed".to_owned(), message: None });
        }
        if records::is_denied(view) {
            deed.error = Some(Failure::denied("the security module denied it"));
        }
        if let Some(module) = view.first(kinds::KERN_MODULE).and_then(|fields| fields.get("name")) {
            deed.resource(context.host, "Host::KernelModule", &format!("module/{module}"));
        }
        if let Some(filtered) = view.primary().filter(|fields| view.kind() == kinds::SECCOMP && fields.raw("syscall").is_some()) {
            let call = Call::of(filtered);
            deed.parameter("systemCall", Some(call.name));
            deed.parameter("arch", Some(call.arch));
        }
        // pam_faillock and its like name whom they locked by id.
        if matches!(view.kind(), 2100..2300)
            && let Some(user) = view.primary().and_then(|fields| told_number(fields, "uid"))
        {
            let name = context.names.user(user).unwrap_or_else(|| user.to_string());
            deed.resource(context.host, "Host::User", &format!("user/{name}"));
            deed.parameter("userName", Some(name));
        }
        deed
    }

    /// What all of the kernel's events have in common: process, call, command, directory, files.
    fn kernel_deed(
        &self,
        context: &mut Context<'_>,
        view: &View<'_>,
        name: &'static str,
        kind: Kind,
        call: Option<Call>,
        paths: &[(String, bool)],
    ) -> Deed {
        // What a program reports is its own act; the rest is the kernel's.
        let is_programs = matches!(view.kind(), 1100..1300 | 2100..3000) && view.exe().is_some();
        let source = if is_programs { view.event_source() } else { "kernel.linux".to_owned() };
        let mut deed = Deed::new(source, name, kind, view.actor(context.names));
        if let Some((fields, call)) = view.first(kinds::SYSCALL).zip(call) {
            let arguments = call.arguments.map(|argument| Value::from(format!("{argument:x}")));
            deed.error = call.failure();
            deed.parameter("systemCall", Some(call.name));
            deed.parameter("arch", Some(call.arch));
            deed.parameter("systemCallArguments", Some(arguments.to_vec()));
            deed.parameter("ruleKey", fields.get("key").map(|key| key.replace('\u{1}', ",")));
            deed.parameter("command", fields.get("comm").map(|comm| comm.into_owned()));
            deed.parameter("parentPid", fields.number::<u32>("ppid"));
            if deed.error.is_none() {
                deed.response = Some(json!({"exit": call.exit}));
            }
        }
        deed.parameter("program", view.exe().map(Cow::into_owned));
        let (arguments, count) = arguments(view);
        if !arguments.is_empty() {
            deed.parameter("arguments", Some(arguments));
            deed.parameter("argumentCount", count);
        }
        deed.parameter("cwd", view.first(kinds::CWD).and_then(|fields| fields.get("cwd")).map(|cwd| cwd.into_owned()));
        let names: Vec<&str> = paths.iter().map(|(path, _)| path.as_str()).collect();
        deed.parameter("paths", (!names.is_empty()).then_some(names));
        deed.parameter("files", files(context, view));
        deed.parameter("capabilities", capabilities_of(view));
        for (kind, name) in FURTHER {
            if let Some(fields) = view.first(*kind) {
                let members: Map<String, Value> =
                    fields.iter().map(|field| (field.key.clone().into_owned(), Value::from(field.decoded()))).collect();
                deed.parameter(name, Some(members));
            }
        }
        deed.parameter("processes", processes(context, view));
        for pid in view.all(kinds::OBJ_PID).filter_map(|fields| fields.number::<u32>("opid")).take(PROCESSES_MAX) {
            deed.resource(context.host, "Host::Process", &format!("process/{pid}"));
        }
        deed.parameter(
            "commandLine",
            view.first(kinds::PROCTITLE).and_then(|fields| fields.get("proctitle")).map(|title| title.replace('\0', " ")),
        );
        self.describe(view, &mut deed);
        deed
    }
}

/// Records that say more of a call, and where: System V objects, message queues, a pair of descriptors, a mapping.
const FURTHER: &[(u16, &str)] = &[
    (1303, "ipc"),
    (1311, "ipcSet"),
    (1312, "messageQueue"),
    (1313, "messageQueue"),
    (1314, "messageQueue"),
    (1315, "messageQueue"),
    (1317, "descriptors"),
    (kinds::MMAP, "mapping"),
];

/// Most processes told of one signal to many.
const PROCESSES_MAX: usize = 64;

/// The processes that were signalled or traced.
fn processes(context: &mut Context<'_>, view: &View<'_>) -> Option<Vec<Value>> {
    let mut processes = Vec::new();
    for fields in view.all(kinds::OBJ_PID).take(PROCESSES_MAX) {
        let mut user = |key: &str, enriched: &str| {
            let uid = fields.number::<u32>(key).filter(|uid| *uid != UNSET)?;
            let name = view::named(fields, enriched).or_else(|| context.names.user(uid));
            Some(name.unwrap_or_else(|| uid.to_string()))
        };
        let members = [
            ("pid", fields.number::<u32>("opid").map(Value::from)),
            ("user", user("ouid", "OUID").map(Value::from)),
            ("loginUser", user("oauid", "OAUID").map(Value::from)),
            ("session", fields.number::<u32>("oses").filter(|session| *session != UNSET).map(Value::from)),
            ("program", fields.get("ocomm").map(|program| program.into_owned().into())),
        ];
        let members: Map<String, Value> = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        processes.push(Value::Object(members));
    }
    (!processes.is_empty()).then_some(processes)
}

/// Whether a field describes the process, which the record has elsewhere. What a program says in its own words is of
/// something else, but for its own path.
fn is_of_process(field: &Field<'_>) -> bool {
    let key = field.key.as_ref();
    if field.part == Part::Message { matches!(key, "exe" | "comm" | "tty") } else { PROCESS_KEYS.contains(&key) }
}

/// A number in a program's own words.
fn told_number(fields: &Fields<'_>, key: &str) -> Option<u32> {
    fields.iter().find(|field| field.part == Part::Message && field.key == key)?.raw.parse().ok()
}

/// Members of a kernel record that describe the process, which the record has elsewhere.
const PROCESS_KEYS: &[&str] = &[
    "pid", "ppid", "uid", "gid", "auid", "ses", "euid", "suid", "fsuid", "egid", "sgid", "fsgid", "comm", "exe", "tty", "UID",
    "GID", "AUID", "ARCH", "SYSCALL", "EUID", "SUID", "FSUID", "EGID", "SGID", "FSGID",
];

/// The command line of an execution, chunks of long arguments joined; and how many arguments it had.
pub fn arguments(view: &View<'_>) -> (Vec<String>, Option<u64>) {
    let mut arguments: Vec<String> = Vec::new();
    let count = view.first(kinds::EXECVE).and_then(|fields| fields.number("argc"));
    for field in view.all(kinds::EXECVE).flat_map(Fields::iter) {
        let Some(index) = field.key.strip_prefix('a') else { continue };
        let index = index.split_once('[').map_or(index, |(index, _)| index);
        // `argc` and `a1_len` are no arguments.
        let Ok(index) = index.parse::<usize>() else { continue };
        if index >= ARGUMENTS_MAX || index > arguments.len() + 1 {
            continue;
        }
        if arguments.len() <= index {
            arguments.resize(index + 1, String::new());
        }
        let value = if field.quoted {
            field.raw.clone().into_owned()
        } else {
            decode_hex(&field.raw).unwrap_or_else(|| field.raw.clone().into_owned())
        };
        if let Some(argument) = arguments.get_mut(index) {
            argument.push_str(&value);
        }
    }
    (arguments, count)
}

/// The files of the event, absolute where the working directory is known, and whether each is the object itself.
pub fn paths(view: &View<'_>) -> Vec<(String, bool)> {
    let cwd = view.first(kinds::CWD).and_then(|fields| fields.get("cwd")).map(|cwd| cwd.into_owned());
    let execution = view.first(kinds::EXECVE).is_some();
    let mut paths = Vec::new();
    for path in view.all(PATH) {
        let Some(name) = path.get("name") else { continue };
        let parent = path.raw("nametype").or_else(|| path.raw("objtype")) == Some(PARENT);
        // The interpreter and the loader of a command are not what was run.
        let further = execution && !paths.is_empty();
        paths.push((absolute(cwd.as_deref(), &name), !parent && !further));
    }
    paths
}

/// Inode, mode and owner of each file that exists, in the order of `paths`.
fn files(context: &mut Context<'_>, view: &View<'_>) -> Option<Vec<Value>> {
    let mut files = Vec::new();
    for path in view.all(PATH).filter(|path| path.raw("inode").is_some()) {
        let mut file = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                file.insert(key.to_owned(), value);
            }
        };
        put("inode", path.number::<u64>("inode").map(Value::from));
        put("device", path.get("dev").map(|device| device.into_owned().into()));
        put("mode", path.raw("mode").map(|mode| mode.trim_start_matches('0')).map(|mode| format!("0{mode}").into()));
        let owner = view::named(path, "OUID");
        let owner =
            owner.or_else(|| path.number("ouid").map(|uid: u32| context.names.user(uid).unwrap_or_else(|| uid.to_string())));
        put("owner", owner.map(Value::from));
        put("use", path.raw("nametype").or_else(|| path.raw("objtype")).map(Value::from));
        let granted = path.hex("cap_fp").filter(|mask| *mask != 0);
        put("capabilities", granted.map(|mask| capabilities::names(mask).into()));
        files.push(Value::Object(file));
    }
    (!files.is_empty()).then_some(files)
}

/// What a process was given, by capset or by the file that it runs; the one that a security module refused.
fn capabilities_of(view: &View<'_>) -> Option<Value> {
    let mut sets = Map::new();
    let fields = view.first(kinds::CAPSET).or_else(|| view.first(kinds::BPRM_FCAPS));
    for (name, keys) in [("permitted", ["cap_pp", "pp"]), ("effective", ["cap_pe", "pe"]), ("inheritable", ["cap_pi", "pi"])] {
        let mask = fields.and_then(|fields| keys.into_iter().find_map(|key| fields.hex(key)));
        if let Some(mask) = mask.filter(|mask| *mask != 0) {
            sets.insert(name.to_owned(), capabilities::names(mask).into());
        }
    }
    let refused = view.first(kinds::AVC).and_then(|fields| fields.number::<u32>("capability"));
    if let Some(number) = refused {
        sets.insert("requested".to_owned(), vec![Value::from(capabilities::name(number))].into());
    }
    (!sets.is_empty()).then_some(Value::Object(sets))
}

fn absolute(cwd: Option<&str>, name: &str) -> String {
    match cwd {
        Some(cwd) if !name.starts_with('/') => {
            format!("{}/{}", cwd.trim_end_matches('/'), name.strip_prefix("./").unwrap_or(name))
        }
        _ => name.to_owned(),
    }
}
