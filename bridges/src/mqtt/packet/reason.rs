//! Reason codes of MQTT 5.0 (section 2.4) and what a CONNACK of MQTT 3.1.1 says in their place.

use std::fmt;

/// A reason code as it is on the wire. One that a client made up is no error by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::mqtt) struct Reason(pub(in crate::mqtt) u8);

// === impl Reason ===

impl Reason {
    pub(in crate::mqtt) const SUCCESS: Self = Self(0x00);
    pub(in crate::mqtt) const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    pub(in crate::mqtt) const UNSPECIFIED: Self = Self(0x80);
    pub(in crate::mqtt) const MALFORMED_PACKET: Self = Self(0x81);
    pub(in crate::mqtt) const PROTOCOL_ERROR: Self = Self(0x82);
    pub(in crate::mqtt) const IMPLEMENTATION_SPECIFIC: Self = Self(0x83);
    pub(in crate::mqtt) const UNSUPPORTED_VERSION: Self = Self(0x84);
    pub(in crate::mqtt) const BAD_CLIENT_ID: Self = Self(0x85);
    pub(in crate::mqtt) const BAD_CREDENTIALS: Self = Self(0x86);
    pub(in crate::mqtt) const NOT_AUTHORIZED: Self = Self(0x87);
    pub(in crate::mqtt) const SERVER_UNAVAILABLE: Self = Self(0x88);
    pub(in crate::mqtt) const SERVER_BUSY: Self = Self(0x89);
    pub(in crate::mqtt) const SERVER_SHUTTING_DOWN: Self = Self(0x8B);
    pub(in crate::mqtt) const BAD_AUTHENTICATION_METHOD: Self = Self(0x8C);
    pub(in crate::mqtt) const KEEP_ALIVE_TIMEOUT: Self = Self(0x8D);
    pub(in crate::mqtt) const SESSION_TAKEN_OVER: Self = Self(0x8E);
    pub(in crate::mqtt) const FILTER_INVALID: Self = Self(0x8F);
    pub(in crate::mqtt) const TOPIC_INVALID: Self = Self(0x90);
    pub(in crate::mqtt) const PACKET_ID_NOT_FOUND: Self = Self(0x92);
    pub(in crate::mqtt) const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    pub(in crate::mqtt) const ALIAS_INVALID: Self = Self(0x94);
    pub(in crate::mqtt) const PACKET_TOO_LARGE: Self = Self(0x95);
    pub(in crate::mqtt) const QUOTA_EXCEEDED: Self = Self(0x97);
    pub(in crate::mqtt) const PAYLOAD_INVALID: Self = Self(0x99);
    pub(in crate::mqtt) const QOS_NOT_SUPPORTED: Self = Self(0x9B);

    /// Whether it says no.
    pub(in crate::mqtt) const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The return code of a CONNACK of MQTT 3.1.1 (table 3.1); it has five to say no with.
    pub(in crate::mqtt) const fn connack_v3(self) -> u8 {
        match self {
            Self::SUCCESS => 0,
            Self::UNSUPPORTED_VERSION => 1,
            Self::BAD_CLIENT_ID => 2,
            Self::BAD_CREDENTIALS => 4,
            Self::NOT_AUTHORIZED | Self::BAD_AUTHENTICATION_METHOD => 5,
            _ => 3,
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X}", self.0)
    }
}
