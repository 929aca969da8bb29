//! User and group names of ids, from the files and systemd's userdb socket.

#[derive(Debug, Default)]
pub struct Names {}

impl Names {
    /// The name of a uid.
    pub fn user(&mut self, uid: u32) -> Option<String> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        let uid = uid.to_string();
        passwd
            .lines()
            .find(|line| line.split(':').nth(2) == Some(&uid))
            .and_then(|line| line.split(':').next())
            .map(str::to_owned)
    }
}
