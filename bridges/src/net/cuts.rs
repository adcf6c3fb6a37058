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
        // with a user timeout one probe without an answer is enough once the time is over: the first is asked early
        let between = (self.write_timeout / PROBES).max(LEAST);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(between).with_interval(between))?;
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
