//! The sockets of an inlet: UDP, TCP, TLS, Unix streams and datagrams.
//!
//! Connections are bounded; one that says nothing for long is closed. What the kernel dropped of datagrams because
//! nobody read them in time is asked for and declared.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, UdpSocket, UnixDatagram, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Inlet;
use super::frames::{FRAME_BYTES_MAX, Frame, Frames};
use crate::sources::listener::{Certificate, Tls};

/// One socket.
#[derive(Debug)]
pub(in crate::sources) enum Door {
    Udp(UdpSocket),
    Tcp(TcpListener),
    Tls(TcpListener, Arc<Tls>),
    Stream(UnixListener, Place),
    Datagram(UnixDatagram, Place),
}

/// A socket's name in the file system, unlinked when dropped.
#[derive(Debug)]
pub(in crate::sources) struct Place(PathBuf);

/// All sockets of a source.
#[derive(Debug)]
pub(in crate::sources) struct Doors {
    pub(in crate::sources) doors: Vec<Door>,
    pub(in crate::sources) connections_max: usize,
    /// How messages of streams are told apart.
    pub(in crate::sources) frames: fn() -> Frames,
}

/// Largest datagram: UDP's own limit.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Read at once of a stream.
const CHUNK_BYTES: usize = 16 * 1024;

/// A connection without a byte for so long is closed: senders open another.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// A TLS handshake that takes longer is given up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How often the kernel is asked what it dropped.
const DROPS_INTERVAL: Duration = Duration::from_secs(5);

/// Pause after a failed accept: descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Door {
    pub(in crate::sources) async fn udp(address: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        // A burst waits in the kernel: what it grants of this is enough.
        let _granted = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 * 1024 * 1024);
        Ok(Self::Udp(socket))
    }

    pub(in crate::sources) fn stream(path: &Path, mode: u32) -> std::io::Result<Self> {
        let place = Place::free(path)?;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self::Stream(listener, place))
    }

    pub(in crate::sources) fn datagram(path: &Path, mode: u32) -> std::io::Result<Self> {
        let place = Place::free(path)?;
        let socket = UnixDatagram::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self::Datagram(socket, place))
    }

    /// Where it listens, the port that 0 became.
    #[cfg(test)]
    pub(in crate::sources) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr().ok(),
            Self::Tcp(listener) | Self::Tls(listener, _) => listener.local_addr().ok(),
            Self::Stream(..) | Self::Datagram(..) => None,
        }
    }
}

impl Place {
    /// A stale socket makes room; a living one or another file does not.
    fn free(path: &Path) -> std::io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() && std::os::unix::net::UnixStream::connect(path).is_err() => {
                std::fs::remove_file(path)?;
            }
            Ok(_) => return Err(std::io::ErrorKind::AddrInUse.into()),
            Err(_) => {}
        }
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Gone already is as good.
        let _gone = std::fs::remove_file(&self.0);
    }
}

impl Doors {
    /// Reads from all of them until told to stop.
    pub(in crate::sources) async fn serve(self, inlet: &Inlet, stop: &CancellationToken) {
        let seats = Arc::new(Semaphore::new(self.connections_max.max(1)));
        let mut serving = JoinSet::new();
        for door in self.doors {
            let (inlet, stop, seats, frames) = (inlet.clone(), stop.clone(), Arc::clone(&seats), self.frames);
            serving.spawn(async move {
                match door {
                    Door::Udp(socket) => udp(socket, &inlet, &stop).await,
                    Door::Datagram(socket, _place) => datagrams(socket, &inlet, &stop).await,
                    Door::Tcp(listener) => tcp(listener, None, &inlet, &stop, &seats, frames).await,
                    Door::Tls(listener, tls) => tcp(listener, Some(tls), &inlet, &stop, &seats, frames).await,
                    Door::Stream(listener, _place) => unix(listener, &inlet, &stop, &seats, frames).await,
                }
            });
        }
        while serving.join_next().await.is_some() {}
    }
}

async fn udp(socket: UdpSocket, inlet: &Inlet, stop: &CancellationToken) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut drops = Drops::of(&socket);
    let mut look = tokio::time::interval(DROPS_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, peer)) => inlet.offer(datagram(&buffer, length), &format!("udp://{peer}").into()),
                Err(error) => tracing::debug!(%error, "a datagram can't be received"),
            },
            _ = look.tick() => drops.tell(inlet),
        }
    }
    drops.tell(inlet);
}

async fn datagrams(socket: UnixDatagram, inlet: &Inlet, stop: &CancellationToken) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX * 4];
    let peer: Arc<str> = "unix".into();
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv(&mut buffer) => received,
        };
        match received {
            Ok(length) => inlet.offer(datagram(&buffer, length), &peer),
            Err(error) => tracing::debug!(%error, "a datagram can't be received"),
        }
    }
}

fn datagram(buffer: &[u8], length: usize) -> Frame {
    let bytes = buffer.get(..length).unwrap_or_default();
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n' | 0)).map_or(0, |at| at + 1);
    Frame::Whole(bytes::Bytes::copy_from_slice(bytes.get(..end).unwrap_or_default()))
}

async fn tcp(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    inlet: &Inlet,
    stop: &CancellationToken,
    seats: &Arc<Semaphore>,
    frames: fn() -> Frames,
) {
    let mut connections = JoinSet::new();
    while let Some(seat) = seat(seats, stop).await {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (inlet, stop, tls) = (inlet.clone(), stop.clone(), tls.clone());
        connections.spawn(async move {
            let _seat = seat;
            match tls {
                None => read(stream, &format!("tcp://{peer}"), &inlet, &stop, frames()).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE_MAX, tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let chain = stream.get_ref().1.peer_certificates();
                        let shown = chain.and_then(|chain| Certificate::of(chain.first()?)).map(|shown| shown.subject);
                        let peer = shown.map_or_else(|| format!("tls://{peer}"), |subject| format!("tls://{peer} {subject}"));
                        read(stream, &peer, &inlet, &stop, frames()).await;
                    }
                    Ok(Err(error)) => tracing::warn!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => tracing::warn!(%peer, "a TLS handshake took too long"),
                },
            }
        });
        while connections.try_join_next().is_some() {}
    }
    while connections.join_next().await.is_some() {}
}

async fn unix(listener: UnixListener, inlet: &Inlet, stop: &CancellationToken, seats: &Arc<Semaphore>, frames: fn() -> Frames) {
    let mut connections = JoinSet::new();
    while let Some(seat) = seat(seats, stop).await {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (inlet, stop) = (inlet.clone(), stop.clone());
        connections.spawn(async move {
            let _seat = seat;
            read(stream, "unix", &inlet, &stop, frames()).await;
        });
        while connections.try_join_next().is_some() {}
    }
    while connections.join_next().await.is_some() {}
}

async fn seat(seats: &Arc<Semaphore>, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        () = stop.cancelled() => None,
        seat = Arc::clone(seats).acquire_owned() => seat.ok(),
    }
}

/// One connection to its end, what lies in it at a stop included.
async fn read(mut stream: impl AsyncRead + Unpin, peer: &str, inlet: &Inlet, stop: &CancellationToken, mut frames: Frames) {
    let peer: Arc<str> = peer.into();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut found = Vec::new();
    let rest = loop {
        // `None`: it did not end, it broke, fell silent or is left.
        let length = tokio::select! {
            biased;
            read = tokio::time::timeout(IDLE_MAX, stream.read(&mut chunk)) => read.ok().and_then(Result::ok),
            () = stop.cancelled() => None,
        };
        let length = match length {
            None => break frames.broken(),
            Some(0) => break frames.finish(),
            Some(length) => length,
        };
        frames.push(chunk.get(..length).unwrap_or_default(), &mut found);
        for frame in found.drain(..) {
            tokio::select! {
                () = inlet.put(frame, &peer) => {}
                () = stop.cancelled() => return,
            }
        }
    };
    if let Some(frame) = rest {
        inlet.offer(frame, &peer);
    }
}

/// Datagrams that the kernel dropped, as /proc/net/udp counts them for a socket. Source: proc_pid_net(5).
struct Drops {
    inode: Option<u64>,
    seen: u64,
}

impl Drops {
    fn of(socket: &UdpSocket) -> Self {
        let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let inode = std::fs::metadata(path).ok().map(|metadata| metadata.ino());
        let seen = inode.and_then(dropped).unwrap_or(0);
        Self { inode, seen }
    }

    fn tell(&mut self, inlet: &Inlet) {
        let Some(now) = self.inode.and_then(dropped).filter(|now| *now > self.seen) else { return };
        inlet.lose(now - self.seen, "the kernel dropped datagrams that were not read in time (/proc/net/udp)".to_owned());
        self.seen = now;
    }
}

fn dropped(inode: u64) -> Option<u64> {
    ["/proc/self/net/udp", "/proc/self/net/udp6"].iter().find_map(|path| dropped_in(&std::fs::read_to_string(path).ok()?, inode))
}

fn dropped_in(table: &str, inode: u64) -> Option<u64> {
    let row = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_it = columns.get(9)?.parse() == Ok(inode);
        if is_it { columns.last()?.parse().ok() } else { None }
    };
    table.lines().skip(1).find_map(row)
}

/// Frames are bounded by this; a datagram is smaller anyway.
const _: () = assert!(DATAGRAM_BYTES_MAX < FRAME_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_of_a_socket_is_found_by_its_inode() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n 4: 00000000:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n";
        assert_eq!((dropped_in(table, 4711), dropped_in(table, 1)), (Some(17), None));
    }
}
