//! User and group names of ids, from the files and systemd's userdb socket.

#[derive(Debug, Default)]
pub struct Names {}
