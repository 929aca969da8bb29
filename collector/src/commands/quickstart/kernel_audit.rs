//! Switches the kernel's audit on for the time of a quickstart, and back to what it was.
//!
//! One netlink request and its answer, as `auditctl -e 1` does; rules, owner and backlog are left alone, a locked
//! configuration (`-e 2`) too.

use anyhow::{Context, bail};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

/// Message types, flags and the mask bit. Source: linux/audit.h, linux/netlink.h.
const AUDIT_GET: u16 = 1000;
const AUDIT_SET: u16 = 1001;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const STATUS_ENABLED: u32 = 1;

/// Bytes of a netlink message's header, and of `struct audit_status` as far as it is filled here: mask, enabled.
const HEADER_BYTES: usize = 16;
const STATUS_BYTES: usize = 40;

/// The kernel answers at once; another reader's messages may stand before the answer.
const ANSWERS_READ_MAX: usize = 16;
const ANSWER_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// What was found, and what is to be restored.
pub(super) enum KernelAudit {
    /// It was off and is on for as long as this runs.
    Enabled,
    /// It was on already, or nobody asked.
    AsFound { enabled: Option<bool> },
}

impl KernelAudit {
    /// Enables audit if asked to. Without `enable` only looks, and says nothing about what it may not see.
    pub(super) fn prepare(enable: bool) -> anyhow::Result<Self> {
        let found = enabled();
        if !enable {
            return Ok(Self::AsFound { enabled: found.ok().map(|enabled| enabled != 0) });
        }
        match found.context("the kernel's audit can't be asked: --enable-audit needs root with CAP_AUDIT_CONTROL")? {
            0 => {
                set_enabled(1).context("the kernel's audit can't be enabled: --enable-audit needs CAP_AUDIT_CONTROL")?;
                Ok(Self::Enabled)
            }
            _ => Ok(Self::AsFound { enabled: Some(true) }),
        }
    }

    /// Whether --enable-audit would change something here.
    pub(super) fn is_off(&self) -> bool {
        matches!(self, Self::AsFound { enabled: Some(false) })
    }

    /// Back to what it was.
    pub(super) fn restore(self) {
        if let Self::Enabled = self
            && let Err(error) = set_enabled(0)
        {
            eprintln!("the kernel's audit could not be switched off again ({error:#}): do it by `auditctl -e 0`");
        }
    }
}

fn enabled() -> anyhow::Result<u32> {
    let answer = ask(AUDIT_GET, &[], NLM_F_REQUEST)?;
    let field = answer.get(4..8).and_then(|field| field.try_into().ok());
    field.map(u32::from_ne_bytes).context("the kernel's answer is too short")
}

fn set_enabled(value: u32) -> anyhow::Result<()> {
    let mut status = [0; STATUS_BYTES];
    status[..4].copy_from_slice(&STATUS_ENABLED.to_ne_bytes());
    status[4..8].copy_from_slice(&value.to_ne_bytes());
    ask(AUDIT_SET, &status, NLM_F_REQUEST | NLM_F_ACK).map(|_| ())
}

/// Sends one request; gives the payload of its answer. An error code in it is an error here.
fn ask(kind: u16, payload: &[u8], flags: u16) -> anyhow::Result<Vec<u8>> {
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::AUDIT))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_TIME_MAX))?;
    let length = u32::try_from(HEADER_BYTES + payload.len())?;
    let mut request = Vec::with_capacity(HEADER_BYTES + payload.len());
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&flags.to_ne_bytes());
    request.extend_from_slice(&1u32.to_ne_bytes());
    request.extend_from_slice(&0u32.to_ne_bytes());
    request.extend_from_slice(payload);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    for _ in 0..ANSWERS_READ_MAX {
        let mut buffer = vec![0; 8192];
        let (received, _) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        buffer.truncate(received);
        let found = buffer.get(4..6).and_then(|field| field.try_into().ok()).map_or(0, u16::from_ne_bytes);
        let body = buffer.get(HEADER_BYTES..).unwrap_or_default();
        if found == NLMSG_ERROR {
            let code = body.get(..4).and_then(|field| field.try_into().ok()).map_or(0, i32::from_ne_bytes);
            if code != 0 {
                return Err(std::io::Error::from_raw_os_error(code.saturating_neg()).into());
            }
        }
        if found == kind || (found == NLMSG_ERROR && flags & NLM_F_ACK != 0) {
            return Ok(body.to_vec());
        }
    }
    bail!("the kernel did not answer")
}
