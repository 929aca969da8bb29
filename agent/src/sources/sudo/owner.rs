//! Who owns the other end of a connection from this host, as the kernel says: sudo is root, and nobody else is believed.
//!
//! Source: proc(5), /proc/net/tcp and tcp6: addresses in hexadecimal, words in the machine's order, and the uid of the
//! socket's owner.

use std::net::{IpAddr, SocketAddr};

/// The uid that owns the socket at `peer` which is connected to `own`; `None` where the kernel knows none.
pub(super) fn owner(peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|path| find(&std::fs::read_to_string(path).ok()?, peer, own))
}

fn find(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
        let is_it = is_same(local, peer) && is_same(remote, own);
        is_it.then(|| fields.nth(4)?.parse().ok()).flatten()
    })
}

fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

/// `0100007F:1F90`, or 32 digits of IPv6.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = hex::decode(ip).ok()?;
    // Each word is a number of the machine's order.
    for word in bytes.chunks_exact_mut(4) {
        if cfg!(target_endian = "little") {
            word.reverse();
        }
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernel_names_the_owner_of_the_other_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let uid = owner(peer, accepted.local_addr().unwrap());
        assert_eq!(uid, Some(rustix::process::getuid().as_raw()));
        assert_eq!(owner("127.0.0.1:1".parse().unwrap(), accepted.local_addr().unwrap()), None);
        drop(client);
    }

    proptest! {
        #[test]
        fn any_table_is_read(table in "\\PC{0,60}\n[0-9A-F: ]{0,120}") {
            let any = "127.0.0.1:1".parse().unwrap();
            let _unread = find(&table, any, any);
        }
    }
}
