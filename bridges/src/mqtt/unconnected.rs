//! Counts the connections that the listener closed because they brought no CONNECT that it can read.

use std::io;

use metrics::{Counter, counter, describe_counter};

use super::packet::{Broken, Reason};

/// Of one bridge, by reason.
pub(super) struct Unconnected {
    /// Not in time.
    timeout: Counter,
    /// Of a version that is not spoken.
    version: Counter,
    /// Something else.
    malformed: Counter,
    /// No handshake of TLS before it.
    tls: Counter,
}

const NAME: &str = "openmesh_bridge_mqtt_unconnected_total";

// === impl Unconnected ===

impl Unconnected {
    pub(super) fn new(bridge: &str) -> Self {
        describe_counter!(
            NAME,
            "connections closed because they brought no CONNECT in time (timeout), none of a known version (version), \
             something else (malformed), or no handshake of TLS (tls)"
        );
        let of = |reason: &'static str| counter!(NAME, "bridge" => bridge.to_owned(), "reason" => reason);
        Self { timeout: of("timeout"), version: of("version"), malformed: of("malformed"), tls: of("tls") }
    }

    pub(super) fn late(&self) {
        self.timeout.increment(1);
    }

    pub(super) fn broken(&self, broken: &Broken) {
        let counter = if broken.reason == Reason::UNSUPPORTED_VERSION { &self.version } else { &self.malformed };
        counter.increment(1);
    }

    /// There is no TLS with the peer. One that has closed is not counted.
    pub(super) fn unsecured(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::TimedOut => self.timeout.increment(1),
            io::ErrorKind::InvalidData => self.tls.increment(1),
            _ => {}
        }
    }
}
