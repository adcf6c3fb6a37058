//! One connection to a broker: made with CONNECT and CONNACK, read packet by packet, kept alive with PINGREQ.

use std::{fmt, io, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use super::{MqttClientConfig, Server};
use crate::{
    connect::{ConnectError, Stream, Trust, connect_to},
    mqtt::{
        link::{Link, Turn},
        packet::{self, Answer, AnswerDecoder, Broken, Hello, Read, Reason, Version, Welcome},
    },
    standing::shown,
};

/// An open connection. Cancel safe in all it does.
pub(super) struct Broker {
    pub(super) link: Link<Box<dyn Stream>>,
    pub(super) version: Version,
    pub(super) welcome: Welcome,
    decoder: AnswerDecoder,
    keep_alive: Duration,
    /// Since when it stands.
    pub(super) since: Instant,
    sent: Instant,
    heard: Instant,
    /// Since when the answer to a ping is due.
    pinged: Option<Instant>,
    /// A large packet that is being read: how large it will be.
    expected: usize,
}

/// As whom a connection is made, and with which session.
#[derive(Debug, Clone, Copy)]
pub(super) struct As<'c> {
    pub(super) client_id: &'c str,
    /// Nothing of an earlier session is to be left.
    pub(super) clean: bool,
    /// For how long the broker is to keep the session.
    pub(super) session_expiry: Duration,
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no welcome within {0:?}")]
    Timeout(Duration),
    /// The broker says no.
    #[error("{}", refused(*.reason, .detail.as_deref()))]
    Refused { reason: Reason, detail: Option<String> },
    /// It said something that no broker says.
    #[error("the broker broke the protocol: {0}")]
    Broken(#[from] Broken),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("the broker is silent for longer than its keep alive")]
    Silent,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Heard {
    Answer(Answer),
    /// Nothing more was read; a packet of this size is coming, if it is known.
    Nothing(Option<usize>),
}

/// The least time that a broker has for the answer to a ping.
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// After it a connection has lasted.
const LASTED: Duration = Duration::from_secs(5);
/// How long an ended connection may take to send what is written.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Connects, and waits for the broker's welcome.
pub(super) async fn dial(config: &MqttClientConfig, server: &Server, whom: As<'_>) -> Result<Broker, Lost> {
    let within = config.connect_timeout;
    timeout(within, shake(config, server, whom)).await.unwrap_or(Err(Lost::Timeout(within)))
}

async fn shake(config: &MqttClientConfig, server: &Server, whom: As<'_>) -> Result<Broker, Lost> {
    let own = config.certificate.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let trust = server.tls().then_some(Trust { authorities: &config.authorities, own });
    let may = |address| server.may_be_at(address, &config.allow_private);
    let stream = connect_to(server.host(), server.port(), trust, may).await?;
    let version = config.version();
    let mut link = Link::new(stream);
    let hello = Hello {
        version,
        client_id: whom.client_id,
        clean: whom.clean,
        keep_alive: u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX),
        username: config.username.as_deref(),
        password: config.password.as_ref().map(|secret| secret.expose().as_bytes()),
        session_expiry: u32::try_from(whom.session_expiry.as_secs()).unwrap_or(u32::MAX - 1),
        receive_maximum: config.receive_maximum,
    };
    packet::connect(&mut link.out, &hello);
    let mut decoder = AnswerDecoder::new(version, config.max_packet_bytes());
    let welcome = loop {
        match decoder.next(&mut link.input)? {
            Read::Answer(Answer::Welcome(welcome)) => break *welcome,
            // the decoder lets nothing pass before it
            Read::Answer(_) => {}
            Read::Incomplete(_) => {
                if link.turn(true, 0).await? == Turn::Closed {
                    return Err(Lost::Closed);
                }
            }
        }
    };
    if welcome.reason != Reason::SUCCESS {
        let detail = welcome.detail.map(|detail| detail.to_string());
        return Err(Lost::Refused { reason: welcome.reason, detail });
    }
    let keep_alive = welcome.keep_alive.map_or(config.keep_alive, |seconds| Duration::from_secs(seconds.into()));
    let now = Instant::now();
    let (sent, heard) = (now, now);
    Ok(Broker { link, version, welcome, decoder, keep_alive, since: now, sent, heard, pinged: None, expected: 0 })
}

// === impl Broker ===

impl Broker {
    /// The next packet of what was read.
    pub(super) fn next(&mut self) -> Result<Heard, Lost> {
        loop {
            match self.decoder.next(&mut self.link.input)? {
                Read::Answer(Answer::PingResp) => self.pinged = None,
                Read::Answer(Answer::Disconnect { reason, detail }) => {
                    return Err(Lost::Refused { reason, detail: detail.map(|detail| detail.to_string()) });
                }
                Read::Answer(answer) => {
                    self.expected = 0;
                    return Ok(Heard::Answer(answer));
                }
                Read::Incomplete(expected) => {
                    self.expected = expected.unwrap_or_default();
                    return Ok(Heard::Nothing(expected));
                }
            }
        }
    }

    /// Writes what there is to write, and reads if `read`; answers once there is something to do. Pings by itself.
    pub(super) async fn turn(&mut self, read: bool) -> Result<(), Lost> {
        if !self.link.out.is_empty() {
            self.sent = Instant::now();
        }
        if !read {
            // who does not listen hears no answer
            (self.heard, self.pinged) = (Instant::now(), None);
        }
        let asked = !self.keep_alive.is_zero();
        // whoever sends all the time has to know that somebody is there, too
        let ping_at = self.sent.min(self.heard) + self.keep_alive.div_f64(2.0);
        let patience = (self.keep_alive / 2).max(PONG_WITHIN);
        let due = self.pinged.map_or(ping_at, |pinged| pinged + patience);
        tokio::select! {
            biased;
            turn = self.link.turn(read, self.expected) => match turn? {
                Turn::Read => {
                    // whatever it is, somebody is there
                    self.heard = Instant::now();
                    self.pinged = self.pinged.map(|_| self.heard);
                    Ok(())
                }
                Turn::Written => Ok(()),
                Turn::Closed => Err(Lost::Closed),
            },
            () = sleep_until(due), if asked && self.pinged.is_some() => Err(Lost::Silent),
            () = sleep_until(ping_at), if asked && self.pinged.is_none() => {
                packet::pingreq(&mut self.link.out);
                (self.sent, self.pinged) = (Instant::now(), Some(Instant::now()));
                Ok(())
            }
        }
    }

    /// Whether it stood long enough for the next one to be made at once.
    pub(super) fn has_lasted(&self) -> bool {
        self.since.elapsed() >= LASTED
    }

    /// Says goodbye, so that the broker keeps the session and publishes no will.
    pub(super) async fn leave(mut self) {
        packet::goodbye(&mut self.link.out);
        // who is not there any more hears nothing of it
        _ = timeout(CLOSE_WITHIN, self.link.close()).await;
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("welcome", &self.welcome).finish_non_exhaustive()
    }
}

// === impl Lost ===

impl Lost {
    /// Whether the broker says so, and will again.
    pub(super) fn is_refused(&self) -> bool {
        let Self::Refused { reason, .. } = self else {
            return matches!(self, Self::Connect(ConnectError::Forbidden(_)));
        };
        let final_ones = [
            Reason::UNSUPPORTED_VERSION,
            Reason::BAD_CLIENT_ID,
            Reason::BAD_CREDENTIALS,
            Reason::NOT_AUTHORIZED,
            Reason::BAD_AUTHENTICATION_METHOD,
            Reason::SESSION_TAKEN_OVER,
        ];
        final_ones.contains(reason)
    }

    /// Whether the broker ended the connection; what it had not read then makes it a reset.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Closed | Self::Refused { .. } => true,
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            ),
            Self::Connect(_) | Self::Timeout(_) | Self::Broken(_) | Self::Silent => false,
        }
    }
}

fn refused(reason: Reason, detail: Option<&str>) -> String {
    match detail {
        // what a broker says is shown, but not as long as it likes
        Some(detail) => format!("the broker refuses: {reason}: {}", shown(detail)),
        None => format!("the broker refuses: {reason}"),
    }
}
