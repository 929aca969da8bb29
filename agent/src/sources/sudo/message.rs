//! The messages of sudo's log server protocol, by their field numbers, and their frame: a length as u32, big-endian.
//!
//! Source: sudo_logsrv.proto(5), sudo 1.9.

use bytes::Bytes;

/// `TimeSpec`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanoseconds: i32,
}

/// `ClientMessage`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ClientMessage {
    #[prost(oneof = "Client", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub(super) kind: Option<Client>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Client {
    #[prost(message, tag = "1")]
    Accept(Accept),
    #[prost(message, tag = "2")]
    Reject(Reject),
    #[prost(message, tag = "3")]
    Exit(Exit),
    /// Goes on with an I/O log.
    #[prost(bytes = "bytes", tag = "4")]
    Restart(Bytes),
    /// Of the same shape as a rejection: when, why, and what is known.
    #[prost(message, tag = "5")]
    Alert(Reject),
    #[prost(bytes = "bytes", tag = "6")]
    TerminalInput(Bytes),
    #[prost(bytes = "bytes", tag = "7")]
    TerminalOutput(Bytes),
    #[prost(bytes = "bytes", tag = "8")]
    StandardInput(Bytes),
    #[prost(bytes = "bytes", tag = "9")]
    StandardOutput(Bytes),
    #[prost(bytes = "bytes", tag = "10")]
    StandardError(Bytes),
    #[prost(bytes = "bytes", tag = "11")]
    WindowSize(Bytes),
    #[prost(bytes = "bytes", tag = "12")]
    Suspend(Bytes),
    #[prost(message, tag = "13")]
    Hello(ClientHello),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ClientHello {
    #[prost(string, tag = "1")]
    pub(super) client_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Accept {
    #[prost(message, optional, tag = "1")]
    pub(super) submit_time: Option<Time>,
    #[prost(message, repeated, tag = "2")]
    pub(super) info: Vec<Info>,
    /// Whether what the command reads and writes follows.
    #[prost(bool, tag = "3")]
    pub(super) expects_io: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Reject {
    #[prost(message, optional, tag = "1")]
    pub(super) time: Option<Time>,
    #[prost(string, tag = "2")]
    pub(super) reason: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) info: Vec<Info>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exit {
    #[prost(message, optional, tag = "1")]
    pub(super) run_time: Option<Time>,
    #[prost(int32, tag = "2")]
    pub(super) exit_value: i32,
    #[prost(bool, tag = "3")]
    pub(super) dumped_core: bool,
    #[prost(string, tag = "4")]
    pub(super) signal: String,
    #[prost(string, tag = "5")]
    pub(super) error: String,
}

/// `InfoMessage`: a key and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(oneof = "Value", tags = "2, 3, 4, 5")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Value {
    #[prost(int64, tag = "2")]
    Number(i64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "4")]
    Texts(Texts),
    #[prost(message, tag = "5")]
    Numbers(Numbers),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub(super) list: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Numbers {
    #[prost(int64, repeated, tag = "1")]
    pub(super) list: Vec<i64>,
}

/// `ServerMessage`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerMessage {
    #[prost(oneof = "Server", tags = "1, 2, 3, 4, 5")]
    pub(super) kind: Option<Server>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Server {
    #[prost(message, tag = "1")]
    Hello(ServerHello),
    /// How much of the I/O log is stored.
    #[prost(message, tag = "2")]
    CommitPoint(Time),
    #[prost(string, tag = "3")]
    LogId(String),
    #[prost(string, tag = "4")]
    Error(String),
    /// The command is to be killed.
    #[prost(string, tag = "5")]
    Abort(String),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerHello {
    #[prost(string, tag = "1")]
    pub(super) server_id: String,
    /// Whether commands that a command runs may be told, too.
    #[prost(bool, tag = "4")]
    pub(super) subcommands: bool,
}
