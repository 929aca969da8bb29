//! The state of the kernel's audit system: whether it is on, and how many records it lost by itself.
//!
//! Needs CAP_AUDIT_CONTROL. `lost` counts what the kernel could not queue; what overran a multicast socket is not in it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::message::{self, Message};
use super::socket::{self, SocketError};

/// The members of the kernel's `struct audit_status` that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked until the next boot.
    pub enabled: u32,
    /// Process that owns the unicast stream (auditd), 0 where none does.
    pub owner: u32,
    pub backlog_limit: u32,
    /// Records lost since boot or the last reset.
    pub lost: u32,
    pub backlog: u32,
}

/// What to tell where [`Status::enabled`] is 0: the source listens, and the kernel says nothing.
pub const AUDITING_IS_OFF: &str = "the kernel's auditing is off, so that nothing is captured: switch it on with `auditctl -e 1`, and for each boot with the kernel's option audit=1";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the kernel refused: give this process CAP_AUDIT_CONTROL, outside of any PID namespace")]
    Denied,
    #[error("no understandable answer came from the kernel")]
    Answer,
    #[error("the request failed")]
    Failed(#[source] std::io::Error),
}

/// A socket for requests, kept open between them.
#[derive(Debug)]
pub struct Control {
    fd: OwnedFd,
    sequence: u32,
}

/// Longest wait for the kernel's answer, which it gives at once.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Messages read in search of an answer: the reply and its acknowledgement, with room for strays.
const ANSWERS_MAX: usize = 8;

/// `AUDIT_STATUS_ENABLED` in `audit_status.mask`. Source: linux/audit.h.
const MASK_ENABLED: u32 = 1;

/// What the kernel answers to a process without the capability, or inside a PID namespace. Source: asm-generic/errno.h.
const PERM: i32 = 1;
const CONNREFUSED: i32 = 111;

/// Size of `struct audit_status` up to its version 3 member, bytes; older kernels take and give less.
const STATUS_BYTES: usize = 40;

impl Control {
    pub fn open() -> Result<Self, StatusError> {
        let fd = socket::requests()?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER_MAX)).map_err(failed)?;
        Ok(Self { fd, sequence: 0 })
    }

    pub fn status(&mut self) -> Result<Status, StatusError> {
        self.exchange(message::GET, &[], |message| {
            (message.kind == message::GET).then(|| Status::parse(message.payload)).flatten()
        })
    }

    /// Switches auditing on or off. Never locks it.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<(), StatusError> {
        let mut payload = [0; STATUS_BYTES];
        let (mask, rest) = payload.split_at_mut(4);
        mask.copy_from_slice(&MASK_ENABLED.to_ne_bytes());
        let (value, _) = rest.split_at_mut(4);
        value.copy_from_slice(&u32::from(enabled).to_ne_bytes());
        self.exchange(message::SET, &payload, |message| (message.errno() == Some(0)).then_some(()))
    }

    fn exchange<T>(&mut self, kind: u16, payload: &[u8], read: impl Fn(&Message<'_>) -> Option<T>) -> Result<T, StatusError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = message::request(kind, self.sequence, payload);
        let kernel = rustix::net::netlink::SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.fd, &request, SendFlags::empty(), &kernel).map_err(failed)?;
        let mut buffer = [0; 1024];
        for _ in 0..ANSWERS_MAX {
            let (length, _) = match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let Some(message) = buffer.get(..length).and_then(Message::of_datagram) else { continue };
            if let Some(answer) = read(&message) {
                return Ok(answer);
            }
            match message.errno() {
                None | Some(0) => {}
                Some(PERM | CONNREFUSED) => return Err(StatusError::Denied),
                // Not `Errno`, which panics on numbers that are none.
                Some(errno) => return Err(StatusError::Failed(std::io::Error::from_raw_os_error(errno))),
            }
        }
        Err(StatusError::Answer)
    }
}

fn failed(errno: Errno) -> StatusError {
    StatusError::Failed(errno.into())
}

impl Status {
    /// Members in order: mask, enabled, failure, pid, rate_limit, backlog_limit, lost, backlog; u32 each.
    fn parse(payload: &[u8]) -> Option<Self> {
        let member = |index: usize| payload.get(index * 4..index * 4 + 4)?.try_into().ok().map(u32::from_ne_bytes);
        Some(Self { enabled: member(1)?, owner: member(3)?, backlog_limit: member(5)?, lost: member(6)?, backlog: member(7)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_member_by_member() {
        let payload: Vec<u8> = (0u32..10).flat_map(u32::to_ne_bytes).collect();
        assert_eq!(Status::parse(&payload), Some(Status { enabled: 1, owner: 3, backlog_limit: 5, lost: 6, backlog: 7 }));
        assert_eq!(Status::parse(&payload[..31]), None);
    }
}
