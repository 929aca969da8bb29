//! Who posts, as the kernel says.
//!
//! Read once a connection, when it is accepted: a peer that changes its program afterwards is still the one that
//! connected. What can't be read is unknown, never guessed.

use std::os::fd::AsFd;

use super::Peer;

/// The kernel's value of "no login" in loginuid and sessionid. Source: proc(5), (uid_t) -1.
const UNSET: u32 = u32::MAX;

impl Peer {
    /// The process that connected `socket`.
    pub fn of(socket: impl AsFd) -> rustix::io::Result<Self> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        let pid = credentials.pid.as_raw_nonzero().get().unsigned_abs();
        Ok(Self {
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
            pid,
            exe: executable(pid),
            login_uid: number(pid, "loginuid"),
            session: number(pid, "sessionid"),
        })
    }

    /// The last component of the program's path.
    pub fn program(&self) -> Option<&str> {
        self.exe.as_deref().and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty())
    }
}

/// `/proc/PID/exe`: needs CAP_SYS_PTRACE for another user's process.
fn executable(pid: u32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = path.to_string_lossy();
    // A program whose file was replaced while it runs.
    Some(text.strip_suffix(" (deleted)").unwrap_or(&text).to_owned())
}

fn number(pid: u32, file: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    text.trim().parse().ok().filter(|number| *number != UNSET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_this_process() {
        let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&left).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::getuid().as_raw());
        assert_eq!(peer.exe.as_deref().map(std::path::Path::new), std::env::current_exe().ok().as_deref());
    }
}
