//! Names of user and group ids: from the files, without NSS, then from systemd's userdb socket.
//!
//! An agent must not load the host's NSS modules nor wait for a directory server: a file is read again when it changed,
//! the socket is given [`USERDB_MAX`], and what it did not know it is not asked again for [`UNKNOWN_FOR`]. Bounded caches.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Names of ids and ids of names.
#[derive(Debug)]
pub struct Names {
    users: Table,
    groups: Table,
    userdb: Userdb,
}

/// One colon-separated file with name and id in its first and third field.
#[derive(Debug)]
struct Table {
    path: PathBuf,
    /// Of the file that the caches are of.
    changed: Option<(SystemTime, u64)>,
    checked: Option<Instant>,
    names: HashMap<u32, Option<String>>,
    ids: HashMap<String, Option<u32>>,
    /// Of ids that former files had, or that a tool reported: who deletes one may name it by its id alone.
    former: HashMap<u32, String>,
}

#[derive(Debug)]
struct Userdb {
    socket: PathBuf,
    users: HashMap<u32, (Option<String>, Instant)>,
    groups: HashMap<u32, (Option<String>, Instant)>,
}

/// The one user that every Linux host has.
const ROOT: (u32, &str) = (0, "root");

/// Most entries of each cache; a full one begins anew.
const ENTRIES_MAX: usize = 4096;

/// A file is looked at for changes at most this often.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Longest wait for the userdb socket, each for connecting's reply and reading.
const USERDB_MAX: Duration = Duration::from_millis(50);

/// What userdb did not know is not asked again for so long.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Longest answer read from userdb, bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Largest user or group file that is read, bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A file up to this size is read whole when it changed, so that what is deleted from it next has a name: 5,000 users.
const WHOLE_BYTES_MAX: u64 = 256 * 1024;

impl Default for Names {
    fn default() -> Self {
        Self::of_files(Path::new("/etc"), Path::new("/run/systemd/userdb/io.systemd.Multiplexer"))
    }
}

impl Names {
    /// `etc` holds `passwd` and `group`.
    pub fn of_files(etc: &Path, userdb: &Path) -> Self {
        let userdb = Userdb { socket: userdb.to_owned(), users: HashMap::new(), groups: HashMap::new() };
        Self { users: Table::new(etc.join("passwd")), groups: Table::new(etc.join("group")), userdb }
    }

    /// Of a host whose files are not at hand: only root is known.
    pub fn of_nobody() -> Self {
        Self::of_files(Path::new("/nonexistent"), Path::new("/nonexistent"))
    }

    /// The name of a uid.
    pub fn user(&mut self, uid: u32) -> Option<String> {
        self.groups.refresh();
        self.users.name(uid).or_else(|| self.userdb.user(uid)).or_else(|| (uid == ROOT.0).then(|| ROOT.1.to_owned()))
    }

    /// The name of a uid that may be gone from the file already.
    pub fn former_user(&mut self, uid: u32) -> Option<String> {
        self.users.former_name(uid).or_else(|| self.user(uid))
    }

    /// The name of a gid that may be gone from the file already.
    pub fn former_group(&mut self, gid: u32) -> Option<String> {
        self.groups.former_name(gid).or_else(|| self.group(gid))
    }

    /// A user was just made, and may be gone before the file is looked at.
    pub fn learn_user(&mut self, uid: u32, name: &str) {
        self.users.learn(uid, name);
    }

    pub fn learn_group(&mut self, gid: u32, name: &str) {
        self.groups.learn(gid, name);
    }

    /// The files have just been rewritten: looks at them anew, however recently it did.
    pub fn look_anew(&mut self) {
        self.users.checked = None;
        self.groups.checked = None;
    }

    /// The uid of a name, from the file alone.
    pub fn uid(&mut self, name: &str) -> Option<u32> {
        self.users.id(name).or_else(|| (name == ROOT.1).then_some(ROOT.0))
    }

    /// The name of a gid.
    pub fn group(&mut self, gid: u32) -> Option<String> {
        self.groups.name(gid).or_else(|| self.userdb.group(gid))
    }
}

impl Table {
    fn new(path: PathBuf) -> Self {
        Self { path, changed: None, checked: None, names: HashMap::new(), ids: HashMap::new(), former: HashMap::new() }
    }

    /// What a tool says is newer than the file as it was read last: there the id may be another's, who is gone.
    fn learn(&mut self, id: u32, name: &str) {
        remember(&mut self.former, id, name.to_owned());
        remember(&mut self.names, id, Some(name.to_owned()));
    }

    /// By the file as it was read last, then by the ones before; what a change took away is there still.
    fn former_name(&mut self, id: u32) -> Option<String> {
        let known = self.names.get(&id).cloned().flatten().or_else(|| self.former.get(&id).cloned());
        known.or_else(|| self.name(id))
    }

    fn name(&mut self, id: u32) -> Option<String> {
        self.refresh();
        if let Some(known) = self.names.get(&id) {
            return known.clone();
        }
        let name = self.find(|_, entry| entry == id).map(|(name, _)| name);
        remember(&mut self.names, id, name.clone());
        name
    }

    fn id(&mut self, name: &str) -> Option<u32> {
        self.refresh();
        if let Some(known) = self.ids.get(name) {
            return *known;
        }
        let id = self.find(|entry, _| entry == name).map(|(_, id)| id);
        remember(&mut self.ids, name.to_owned(), id);
        id
    }

    /// Forgets everything when the file is another than it was. A name that was found stays until then; a deleted user's
    /// last acts are named still, since the deletion is heard of before the file is looked at again.
    fn refresh(&mut self) {
        if self.checked.is_some_and(|checked| checked.elapsed() < CHECK_INTERVAL) {
            return;
        }
        self.checked = Some(Instant::now());
        let changed = std::fs::metadata(&self.path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
        if changed != self.changed {
            self.changed = changed;
            for (id, name) in self.names.drain() {
                if let Some(name) = name {
                    remember(&mut self.former, id, name);
                }
            }
            self.ids.clear();
            if changed.is_some_and(|(_, bytes)| bytes <= WHOLE_BYTES_MAX) {
                self.read_whole();
            }
        }
    }

    fn read_whole(&mut self) {
        let mut names = std::mem::take(&mut self.names);
        let more = |name: &str, id: u32| {
            // The first line of an id counts, as it does for everybody who asks the file.
            names.entry(id).or_insert_with(|| Some(name.to_owned()));
            names.len() >= ENTRIES_MAX
        };
        self.find(more);
        self.names = names;
    }

    fn find(&self, mut wanted: impl FnMut(&str, u32) -> bool) -> Option<(String, u32)> {
        let mut text = String::new();
        std::fs::File::open(&self.path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
            wanted(name, id).then(|| (name.to_owned(), id))
        })
    }
}

fn remember<K: Eq + Hash, V>(cache: &mut HashMap<K, V>, key: K, value: V) {
    if cache.len() >= ENTRIES_MAX {
        cache.clear();
    }
    cache.insert(key, value);
}

impl Userdb {
    fn user(&mut self, uid: u32) -> Option<String> {
        let ask = || ask(&self.socket, "io.systemd.UserDatabase.GetUserRecord", "uid", uid, "userName");
        cached(&mut self.users, uid, ask)
    }

    fn group(&mut self, gid: u32) -> Option<String> {
        let ask = || ask(&self.socket, "io.systemd.UserDatabase.GetGroupRecord", "gid", gid, "groupName");
        cached(&mut self.groups, gid, ask)
    }
}

fn cached(cache: &mut HashMap<u32, (Option<String>, Instant)>, id: u32, ask: impl Fn() -> Option<String>) -> Option<String> {
    if let Some((name, asked)) = cache.get(&id)
        && (name.is_some() || asked.elapsed() < UNKNOWN_FOR)
    {
        return name.clone();
    }
    let name = ask();
    remember(cache, id, (name.clone(), Instant::now()));
    name
}

/// One varlink call: a JSON object and a NUL each way. Source: systemd's USER_GROUP_API.
fn ask(socket: &Path, method: &str, key: &str, id: u32, name: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(USERDB_MAX)).ok()?;
    stream.set_write_timeout(Some(USERDB_MAX)).ok()?;
    let call = serde_json::json!({"method": method, "parameters": {key: id, "service": "io.systemd.Multiplexer"}});
    let mut bytes = serde_json::to_vec(&call).ok()?;
    bytes.push(0);
    stream.write_all(&bytes).ok()?;
    let answer = read_answer(&mut stream)?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
    Some(answer.get("parameters")?.get("record")?.get(name)?.as_str()?.to_owned())
}

fn read_answer(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let (mut answer, mut buffer, asked) = (Vec::new(), [0; 4096], Instant::now());
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    loop {
        let length = limited.read(&mut buffer).ok().filter(|length| *length > 0)?;
        answer.extend_from_slice(buffer.get(..length)?);
        if let Some(end) = memchr::memchr(0, &answer) {
            answer.truncate(end);
            return Some(answer);
        }
        if asked.elapsed() > USERDB_MAX {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_files_and_follow_them() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("passwd"), "root:x:0:0::/:/bin/sh\nbroken\nalice:x:1000:1000::/home/alice:/bin/sh\n")
            .unwrap();
        std::fs::write(etc.path().join("group"), "adm:x:4:alice\n").unwrap();
        let mut names = Names::of_files(etc.path(), Path::new("/nonexistent"));
        assert_eq!(names.user(1000).as_deref(), Some("alice"));
        assert_eq!((names.uid("alice"), names.group(4).as_deref(), names.user(7)), (Some(1000), Some("adm"), None));
        std::fs::write(etc.path().join("passwd"), "bob:x:1000:1000::/home/bob:/bin/sh\n").unwrap();
        names.look_anew();
        assert_eq!((names.user(1000).as_deref(), names.uid("alice")), (Some("bob"), None));
    }

    #[test]
    fn userdb_is_asked_once_for_what_it_does_not_know() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("userdb");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            for answer in [&b"{\"parameters\":{\"record\":{\"userName\":\"dyn\"}}}\0"[..], b"{\"error\":\"none\"}\0"] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut call = [0; 512];
                let length = stream.read(&mut call).unwrap();
                assert!(call[..length].ends_with(b"\0"));
                stream.write_all(answer).unwrap();
            }
        });
        let mut names = Names::of_files(directory.path(), &socket);
        assert_eq!(names.user(61184).as_deref(), Some("dyn"));
        assert_eq!(names.user(61184).as_deref(), Some("dyn"));
        assert_eq!((names.user(61185), names.user(61185)), (None, None));
        server.join().unwrap();
    }

    #[test]
    fn a_silent_userdb_holds_nothing_up() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("userdb");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let asked = Instant::now();
        assert_eq!(Names::of_files(directory.path(), &socket).user(5), None);
        assert!(asked.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn what_was_just_deleted_or_made_is_named_still() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("passwd"), "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n").unwrap();
        std::fs::write(etc.path().join("group"), "adm:x:4:alice\nproject:x:1200:\n").unwrap();
        let mut names = Names::of_files(etc.path(), Path::new("/nonexistent"));
        // Nobody has asked for the group before it goes.
        assert_eq!(names.user(0).as_deref(), Some("root"));
        std::fs::write(etc.path().join("group"), "adm:x:4:alice\n").unwrap();
        std::fs::write(etc.path().join("passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        names.look_anew();
        assert_eq!((names.group(1200), names.user(1000)), (None, None), "who asks what there is now");
        assert_eq!(names.former_group(1200).as_deref(), Some("project"));
        assert_eq!(names.former_user(1000).as_deref(), Some("alice"));
        names.learn_group(1201, "short");
        assert_eq!((names.former_group(1201).as_deref(), names.former_group(1202)), (Some("short"), None));

        // A new group has the id of one that went, and went itself before anybody looked at the file.
        std::fs::write(etc.path().join("group"), "adm:x:4:alice\nold:x:1300:\n").unwrap();
        names.look_anew();
        assert_eq!(names.group(1300).as_deref(), Some("old"));
        names.learn_group(1300, "new");
        assert_eq!(names.former_group(1300).as_deref(), Some("new"));
        std::fs::write(etc.path().join("group"), "adm:x:4:alice\n").unwrap();
        names.look_anew();
        assert_eq!((names.group(1300), names.former_group(1300).as_deref()), (None, Some("new")));
    }
}
