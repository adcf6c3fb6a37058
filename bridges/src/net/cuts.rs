//! What a listener does about peers that take nothing or are gone: for how long it waits, and that it is told of.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use metrics::Counter;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Of one listener.
#[derive(Debug)]
pub(crate) struct Cuts {
    bridge: Arc<str>,
    /// A peer takes something of what is written within it, or is cut.
    pub(super) write_timeout: Duration,
    unread: Counter,
    vanished: Counter,
}

/// Why a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its peer reads nothing.
    Unread,
    /// Its peer does not answer any more.
    Vanished,
}

/// The kernel counts these times in seconds.
const LEAST: Duration = Duration::from_secs(1);
/// A peer that says nothing is asked so often in a write timeout.
const PROBES: u32 = 3;

// === impl Cuts ===

impl Cuts {
    pub(crate) fn new(bridge: &str, write_timeout: Duration) -> Self {
        metrics::describe_counter!(
            "openmesh_bridge_connections_cut_total",
            "connections that were cut because their peer read nothing (unread) or did not answer (vanished)"
        );
        let counter = |reason: &'static str| metrics::counter!("openmesh_bridge_connections_cut_total", "bridge" => bridge.to_owned(), "reason" => reason);
        Self { bridge: bridge.into(), write_timeout, unread: counter("unread"), vanished: counter("vanished") }
    }

    /// Has the kernel end a connection whose peer takes nothing of what was written, or does not answer while nothing is:
    /// little fits into the kernel's buffers for long, and nobody else would notice.
    pub(super) fn watch(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        // with a user timeout one probe without an answer is enough once the time is over: the first is asked early. A crowd
        // that came at once is not asked at once: the kernel drops what it can't queue, and who is not heard is given up
        let between = (self.write_timeout / PROBES).max(LEAST);
        let first = fastrand::u64((between / 2).max(LEAST).as_secs()..=between.as_secs());
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(first)).with_interval(between))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.write_timeout))?;
        Ok(())
    }

    /// Tells of one.
    pub(crate) fn tell(&self, peer: SocketAddr, cut: Cut) {
        match cut {
            Cut::Unread => self.unread.increment(1),
            Cut::Vanished => self.vanished.increment(1),
        }
        tracing::info!(bridge = %self.bridge, %peer, why = cut.as_str(), within = ?self.write_timeout, "connection cut");
    }
}

// === impl Cut ===

impl Cut {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unread => "its peer read nothing",
            Self::Vanished => "its peer did not answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn peers_that_come_at_once_are_not_asked_at_once_and_each_in_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (write_timeout, expected) in [(30, 5..=10), (1, 1..=1)] {
            let cuts = Cuts::new("web", Duration::from_secs(write_timeout));
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let asked = (0..200).map(|_| {
                cuts.watch(&stream).unwrap();
                SockRef::from(&stream).tcp_keepalive_time().unwrap().as_secs()
            });
            let asked: std::collections::BTreeSet<_> = asked.collect();
            assert!(asked.iter().copied().eq(expected), "{asked:?} seconds of {write_timeout}");
        }
    }
}
