//! The netlink sockets: one in the multicast group of all records, one for requests.
//!
//! The group's socket may come from the service manager (`edgetrail-audit.socket`), which needs no capability and keeps
//! what arrives while the agent restarts.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::status::{Control, StatusError, claim};

/// Bit of `AUDIT_NLGRP_READLOG` in a netlink address. Source: linux/audit.h.
const GROUP_READLOG: u32 = 1;

/// Bytes that the kernel keeps while nobody reads: at 5 KiB an event some 3,000. Measured: with the default of 208 KiB
/// half of a busy host's records were lost, with this none.
pub(super) const RECEIVE_BUFFER_BYTES: usize = 16 * 1024 * 1024;

/// Name of the socket in the service manager's list. Source: `FileDescriptorName=` of edgetrail-audit.socket.
const PASSED_NAME: &str = "audit";

/// A socket that receives every audit record.
#[derive(Debug)]
pub struct Listener {
    pub fd: OwnedFd,
    /// It was open before this agent ran: what lies in it is not lost.
    pub passed: bool,
    /// Bytes that the kernel grants as buffer.
    pub buffer_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    #[error("the audit group is closed to this process: give it CAP_AUDIT_READ, or pass it the socket by edgetrail-audit.socket")]
    Denied(#[source] Errno),
    #[error("this kernel has no audit netlink family: it was built without CONFIG_AUDIT, or this is a container's network")]
    Unsupported(#[source] Errno),
    #[error("opening the audit socket failed")]
    Failed(#[source] Errno),
}

/// Why the kernel's stream can't be taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeOverError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the kernel's audit can't be asked")]
    Status(#[from] StatusError),
    #[error("process {owner} has the audit socket: stop auditd, or set sources.audit.mode to \"multicast\"")]
    Owned { owner: u32 },
}

impl From<Errno> for SocketError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::Denied(errno),
            Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::CONNREFUSED => Self::Unsupported(errno),
            other => Self::Failed(other),
        }
    }
}

impl Listener {
    /// The socket that the service manager passed, else a new one.
    pub fn open() -> Result<Self, SocketError> {
        match passed() {
            Some(fd) => Ok(Self::of(fd, true)),
            None => Ok(Self::of(bound(GROUP_READLOG)?, false)),
        }
    }

    /// The socket to which the kernel sends each record instead of to auditd. The kernel has one owner: `Taken` tells who.
    pub fn take_over(control: &mut Control) -> Result<Self, TakeOverError> {
        let status = control.status()?;
        if status.owner != 0 && status.owner != std::process::id() {
            return Err(TakeOverError::Owned { owner: status.owner });
        }
        let listener = Self::of(bound(0).map_err(SocketError::from)?, false);
        // The owner is whichever socket asks: its port is where the kernel sends to.
        claim(&listener.fd)?;
        match control.status()?.owner {
            owner if owner == std::process::id() => Ok(listener),
            owner => Err(TakeOverError::Owned { owner }),
        }
    }

    /// Joins the group once more and leaves it: the kernel writes a record of that.
    pub fn open_another() -> Result<(), SocketError> {
        drop(bound(GROUP_READLOG)?);
        Ok(())
    }

    fn of(fd: OwnedFd, passed: bool) -> Self {
        // Without CAP_NET_ADMIN only up to net.core.rmem_max.
        if sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_BYTES).is_err()
            && let Err(errno) = sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER_BYTES)
        {
            tracing::debug!(%errno, "the audit socket keeps its receive buffer");
        }
        let buffer_bytes = sockopt::socket_recv_buffer_size(&fd).unwrap_or(0);
        Self { fd, passed, buffer_bytes }
    }
}

/// A socket in no group, for requests and their replies.
pub fn requests() -> Result<OwnedFd, SocketError> {
    Ok(bound(0)?)
}

fn bound(groups: u32) -> Result<OwnedFd, Errno> {
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::AUDIT))?;
    rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, groups))?;
    Ok(fd)
}

/// A copy of the descriptor that the service manager passed under [`PASSED_NAME`]. By pidfd_getfd(2) on ourselves,
/// since taking the number itself would need `unsafe`; the unit must allow that system call.
fn passed() -> Option<OwnedFd> {
    let number = sd_notify::listen_fds_with_names().ok()?.find(|(_, name)| name == PASSED_NAME)?.0;
    let own = Pid::from_raw(i32::try_from(std::process::id()).ok()?)?;
    let copy = rustix::process::pidfd_open(own, PidfdFlags::empty())
        .and_then(|pidfd| rustix::process::pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()));
    match copy {
        Ok(fd) if sockopt::socket_domain(&fd) == Ok(AddressFamily::NETLINK) => Some(fd),
        Ok(_) => {
            tracing::warn!(number, "the passed descriptor named audit is no netlink socket: opening one");
            None
        }
        Err(errno) => {
            tracing::warn!(number, %errno, "the passed audit socket can't be taken, allow pidfd_getfd: opening one");
            None
        }
    }
}
