//! A TCP connection in the middle, which the test cuts or holds.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

/// Between a gateway and its broker.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    rules: Arc<Rules>,
}

#[derive(Default)]
struct Rules {
    /// Connections are cut on packets that begin with this byte, so many times, before the packet is passed on.
    cut_on: Mutex<Option<(u8, usize)>>,
    cut: AtomicUsize,
    held: Mutex<bool>,
    released: Condvar,
}

// === impl Proxy ===

impl Proxy {
    pub(super) fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let rules: Arc<Rules> = Arc::default();
        let shared = rules.clone();
        thread::spawn(move || {
            for inward in listener.incoming().map_while(Result::ok) {
                let Ok(outward) = TcpStream::connect(broker) else { continue };
                for (from, to) in [(&inward, &outward), (&outward, &inward)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let rules = shared.clone();
                    thread::spawn(move || pass(from, to, &rules));
                }
            }
        });
        Self { address, rules }
    }

    /// The next `times` packets of this kind never arrive, nor does anything behind them.
    pub(super) fn cut_on(&self, first: u8, times: usize) {
        self.rules.cut.store(0, SeqCst);
        *self.rules.cut_on.lock().expect("rules") = Some((first, times));
    }

    /// How often a connection was cut.
    pub(super) fn cuts(&self) -> usize {
        self.rules.cut.load(SeqCst)
    }

    /// Nothing passes any more, in either direction, until it is released.
    pub(super) fn hold(&self, held: bool) {
        *self.rules.held.lock().expect("rules") = held;
        self.rules.released.notify_all();
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, rules: &Rules) {
    let mut pending = Vec::new();
    let mut chunk = [0; 16_384];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        pending.extend_from_slice(&chunk[..read]);
        let held = rules.held.lock().expect("rules");
        drop(rules.released.wait_while(held, |held| *held).expect("rules"));
        while let Some(length) = whole(&pending) {
            let packet: Vec<u8> = pending.drain(..length).collect();
            let mut cut_on = rules.cut_on.lock().expect("rules");
            let cut = matches!(&*cut_on, Some((first, times)) if *first == packet[0] && *times > 0);
            if let (true, Some((_, times))) = (cut, cut_on.as_mut()) {
                *times -= 1;
            }
            drop(cut_on);
            if cut {
                rules.cut.fetch_add(1, SeqCst);
            }
            if cut || to.write_all(&packet).is_err() {
                _ = from.shutdown(Shutdown::Both);
                _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
    _ = to.shutdown(Shutdown::Both);
    _ = from.shutdown(Shutdown::Both);
}

/// The length of the MQTT packet at the start, if it is all there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let total = 2 + at + length;
            return (bytes.len() >= total).then_some(total);
        }
    }
    None
}
