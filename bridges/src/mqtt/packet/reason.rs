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

    /// What a CONNACK of MQTT 3.1.1 says, in the words of MQTT 5.0.
    pub(in crate::mqtt) const fn of_connack_v3(code: u8) -> Self {
        match code {
            0 => Self::SUCCESS,
            1 => Self::UNSUPPORTED_VERSION,
            2 => Self::BAD_CLIENT_ID,
            3 => Self::SERVER_UNAVAILABLE,
            4 => Self::BAD_CREDENTIALS,
            5 => Self::NOT_AUTHORIZED,
            _ => Self::UNSPECIFIED,
        }
    }

    /// In words, where the standard has some that a person is helped with.
    const fn word(self) -> Option<&'static str> {
        Some(match self {
            Self::UNSPECIFIED => "an error that it does not name",
            Self::UNSUPPORTED_VERSION => "it does not speak this version",
            Self::BAD_CLIENT_ID => "the client identifier is not allowed",
            Self::BAD_CREDENTIALS => "the name or the password is wrong",
            Self::NOT_AUTHORIZED => "not authorized",
            Self::SERVER_UNAVAILABLE => "it is not available",
            Self::SERVER_BUSY => "it is busy",
            Self::SERVER_SHUTTING_DOWN => "it stops",
            Self::KEEP_ALIVE_TIMEOUT => "it has not heard of the client for too long",
            Self::SESSION_TAKEN_OVER => "another client of the same identifier is connected",
            Self::TOPIC_INVALID => "it does not take the topic",
            Self::PACKET_TOO_LARGE => "the packet is too large",
            Self::QUOTA_EXCEEDED => "a quota is used up",
            Self::PAYLOAD_INVALID => "the payload is not of the format that it says",
            _ => return None,
        })
    }

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

impl fmt::Display for Reason {
    /// The code, behind words for it where there are some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word() {
            Some(word) => write!(f, "{word} ({self:?})"),
            None => write!(f, "{self:?}"),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X}", self.0)
    }
}
