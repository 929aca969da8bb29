//! A TCP proxy that cuts its connections after a given number of bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;

/// Lives until the test's process ends.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    port: u16,
    /// Bytes that may still pass towards the collector and back; below zero: any number.
    allowed: [Arc<AtomicI64>; 2],
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    pub(super) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let proxy = Self {
            port: listener.local_addr().expect("a bound socket has an address").port(),
            allowed: [Arc::new(AtomicI64::new(-1)), Arc::new(AtomicI64::new(-1))],
            cuts: Arc::default(),
        };
        let serving = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (Ok(from), Ok(to)) = (client.try_clone(), server.try_clone()) else { continue };
                let (there, back) = (serving.clone(), serving.clone());
                thread::spawn(move || there.pass(from, to, 0));
                thread::spawn(move || back.pass(server, client, 1));
            }
        });
        proxy
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were cut.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// Cuts the connection once this many more bytes went towards the collector, or back from it.
    pub(super) fn cut_after(&self, bytes: u64, towards: bool) {
        let bytes = i64::try_from(bytes).expect("a small number");
        self.allowed[usize::from(!towards)].store(bytes, Ordering::SeqCst);
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, direction: usize) {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let allowed = &self.allowed[direction];
            let left = allowed.load(Ordering::SeqCst);
            let most = if left < 0 { read } else { read.min(usize::try_from(left).expect("not negative")) };
            if to.write_all(&bytes[..most]).is_err() {
                break;
            }
            if left >= 0 {
                allowed.store(left - i64::try_from(most).expect("a small number"), Ordering::SeqCst);
                if most < read {
                    allowed.store(-1, Ordering::SeqCst);
                    self.cuts.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
        // Either end may be gone already.
        drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    }
}
