//! CONNECT: who it is, which session it gets, and CONNACK.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use bytestring::ByteString;
use envelope::{Credentials, Principal, Rejection};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Link;
use crate::{
    BridgeConfig,
    mqtt::{
        MqttConfig,
        keeper::Keeper,
        link::Turn,
        packet::{self, Broken, ConnAck, Connect, Decoder, Next, Packet, Reason, Version},
        reject,
        sessions::{Held, Key},
        source::Shared,
        will::Testament,
    },
    tls::ClientCertificate,
};

/// A client that was let in.
pub(super) struct Accepted {
    pub(super) decoder: Decoder,
    pub(super) connect: Connect,
    pub(super) principal: Arc<Principal>,
    pub(super) held: Held,
    pub(super) will: Option<Testament>,
    pub(super) expiry: Duration,
    /// `None`: of MQTT 3.1.1, and it wants none.
    pub(super) keep_alive: Option<Duration>,
}

/// The topic aliases that either side may have.
pub(super) const ALIAS_MAXIMUM: u16 = 64;
/// The most bytes of a CONNECT, whatever a PUBLISH may have.
const MAX_CONNECT: usize = 131_072;
/// The longest client identifier, in bytes.
const MAX_CLIENT_ID: usize = 256;

/// Reads CONNECT and answers it. `None`: the client is not let in, and was told so where its protocol has a word for it.
pub(super) async fn accept(
    shared: &Arc<Shared>,
    link: &mut Link,
    peer: IpAddr,
    certificate: Option<&ClientCertificate>,
) -> Option<Accepted> {
    let deadline = Instant::now() + shared.config.connect_timeout;
    let mut decoder = Decoder::new(shared.config.max_packet_bytes().min(MAX_CONNECT));
    let connect = match timeout_at(deadline, read(&mut decoder, link)).await {
        Ok(Ok(Some(connect))) => connect,
        Ok(Ok(None)) => return None,
        Ok(Err(broken)) => {
            shared.unconnected.broken(&broken);
            // the version is not known: level 4 for who asks for another one, nothing for who does not speak MQTT
            if broken.reason == Reason::UNSUPPORTED_VERSION {
                packet::connack(&mut link.out, Version::V3, broken.reason, &ConnAck::default());
            }
            refused(shared, &reject::broken(&broken), None, peer);
            return None;
        }
        Err(_) => {
            shared.unconnected.late();
            tracing::debug!(%peer, "no CONNECT in time");
            return None;
        }
    };
    decoder.limit(shared.config.max_packet_bytes());
    let (version, problem_information) = (connect.version, !connect.properties.no_problem_information);
    let maximum_packet = connect.properties.maximum_packet;
    let no = |link: &mut Link, reason, detail: &str| {
        let detail = Some(detail).filter(|_| problem_information);
        // who takes less than that hears nothing
        _ = packet::within(&mut link.out, maximum_packet, detail, |out, detail| {
            packet::connack(out, version, reason, &ConnAck { detail, ..ConnAck::default() });
        });
    };
    if let Some(method) = &connect.properties.authentication_method {
        tracing::debug!(%peer, %method, "enhanced authentication is not spoken");
        no(link, Reason::BAD_AUTHENTICATION_METHOD, "enhanced authentication is not spoken here");
        return None;
    }
    let verified = shared.cx.authenticator.verify(credentials(&connect, certificate), Some(peer)).await;
    let principal = match verified {
        Ok(principal) => principal,
        Err(rejection) => {
            refused(shared, &rejection, None, peer);
            no(link, reject::connack(rejection.kind), &reject::detail(&rejection));
            return None;
        }
    };
    match enter(shared, link, connect, decoder, (principal.clone(), peer)).await {
        Ok(accepted) => Some(accepted),
        Err(broken) => {
            refused(shared, &reject::broken(&broken), Some(&principal), peer);
            no(link, broken.reason, &broken.detail);
            None
        }
    }
}

async fn read(decoder: &mut Decoder, link: &mut Link) -> Result<Option<Box<Connect>>, Broken> {
    loop {
        match decoder.next(&mut link.input)? {
            Next::Packet(Packet::Connect(connect)) => return Ok(Some(connect)),
            Next::Packet(_) => return Err(Broken::new(Reason::PROTOCOL_ERROR, "the first packet is not CONNECT")),
            Next::Incomplete(_) => match link.turn(true, 0).await {
                Ok(Turn::Read | Turn::Written) => {}
                Ok(Turn::Closed) | Err(_) => return Ok(None),
            },
        }
    }
}

/// Gives the client its session, and says so.
async fn enter(
    shared: &Arc<Shared>,
    link: &mut Link,
    mut connect: Box<Connect>,
    decoder: Decoder,
    (principal, peer): (Arc<Principal>, IpAddr),
) -> Result<Accepted, Broken> {
    let config = &shared.config;
    let assigned = assign(&mut connect)?.then(|| connect.client_id.clone());
    // in MQTT 3.1.1 it can't know, and of a will nobody hears
    let will = connect.will.as_ref().filter(|_| connect.version == Version::V5);
    if will.is_some_and(|will| will.qos > config.max_qos) {
        return Err(packet::over(config.max_qos));
    }
    let (version, clean) = (connect.version, connect.clean_start);
    let asked = match version {
        Version::V5 => connect.properties.session_expiry.unwrap_or(0),
        // not clean: it is to stay for as long as the server keeps any
        Version::V3 => {
            if clean {
                0
            } else {
                u32::MAX
            }
        }
    };
    let expiry = expiry(asked, config);
    let (keep_alive, told) = keep_alive(&connect, config);
    let seconds = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
    let says = ConnAck {
        session_present: false,
        session_expiry: (version == Version::V5 && seconds != asked).then_some(seconds),
        receive_maximum: config.receive_maximum,
        maximum_qos: (!config.takes_exactly_once()).then(|| packet::level(config.max_qos)),
        maximum_packet: u32::try_from(config.max_packet_bytes()).unwrap_or(u32::MAX),
        assigned_client_id: assigned.as_deref(),
        alias_maximum: ALIAS_MAXIMUM,
        server_keep_alive: told,
        detail: None,
    };
    let fits = packet::within(&mut BytesMut::new(), connect.properties.maximum_packet, None, |out, _| {
        packet::connack(out, version, Reason::SUCCESS, &says);
    });
    if !fits {
        return Err(Broken::new(Reason::PACKET_TOO_LARGE, "CONNACK is larger than the client takes"));
    }
    let key = Key::new(&principal.id, &connect.client_id);
    let (held, ended) = shared.sessions.take(key, clean).await?;
    if let Some(ended) = ended {
        tracing::debug!(session = %ended.id(), "a clean start ends the session before");
        shared.end(ended).await;
    }
    let session = held.session.id();
    let will = connect.will.take().map(|will| Testament::new(shared, will, session, principal.clone(), peer));
    // one that the client left the last time is not published any more
    let no_more = shared.wills.waiting(session).into_iter().map(Keeper::no_will);
    let kept = will.as_ref().filter(|will| will.may_be_kept);
    let writes = no_more.chain(kept.map(|will| Keeper::will(will, None)));
    if held.is_kept(expiry)
        && let Err(rejection) = shared.keeper.keep(held.key(), &held.session, expiry, true, writes).await
    {
        let detail = reject::detail(&rejection);
        // a session that was there stays: nobody was let in to end it; of one that was not nobody has heard
        let stays = if held.present { config.session.max_expiry } else { Duration::ZERO };
        if let Some(ended) = shared.sessions.leave(held, stays) {
            shared.end(ended).await;
        }
        return Err(Broken::new(Reason::SERVER_UNAVAILABLE, detail));
    }
    // not before it is off the disk: a client that is not let in is not back
    shared.wills.back(session);
    let says = ConnAck { session_present: held.present, ..says };
    packet::connack(&mut link.out, version, Reason::SUCCESS, &says);
    Ok(Accepted { decoder, connect: *connect, principal, held, will, expiry, keep_alive })
}

/// Gives a client without an identifier one; whether it did.
fn assign(connect: &mut Connect) -> Result<bool, Broken> {
    let id = &connect.client_id;
    if id.len() > MAX_CLIENT_ID {
        let detail = format!("a client identifier has at most {MAX_CLIENT_ID} bytes, this has {}", id.len());
        return Err(Broken::new(Reason::BAD_CLIENT_ID, detail));
    }
    if !id.is_empty() {
        return Ok(false);
    }
    if connect.version == Version::V3 && !connect.clean_start {
        let detail = "a session that stays needs a client identifier (MQTT-3.1.3-8)";
        return Err(Broken::new(Reason::BAD_CLIENT_ID, detail));
    }
    connect.client_id = ByteString::from(format!("openmesh-{}", Uuid::now_v7().simple()));
    Ok(true)
}

/// What a client asked for, as far as it gets it.
pub(super) fn expiry(asked: u32, config: &MqttConfig) -> Duration {
    Duration::from_secs(asked.into()).min(config.session.max_expiry)
}

/// What is kept to, and what the client is told of it: only MQTT 5.0 can be told of another one than it asked for.
fn keep_alive(connect: &Connect, config: &MqttConfig) -> (Option<Duration>, Option<u16>) {
    let asked = Duration::from_secs(connect.keep_alive.into());
    let most = config.max_keep_alive;
    if !asked.is_zero() && asked <= most {
        return (Some(asked), None);
    }
    match connect.version {
        Version::V5 => (Some(most), Some(u16::try_from(most.as_secs()).unwrap_or(u16::MAX))),
        // who asks for none keeps silent as long as it wants (MQTT 3.1.1, section 3.1.2.10)
        Version::V3 => (Some(asked).filter(|asked| !asked.is_zero()), None),
    }
}

/// A name or a password counts before the certificate, as at every listener.
fn credentials(connect: &Connect, certificate: Option<&ClientCertificate>) -> Credentials {
    match (&connect.username, &connect.password, certificate) {
        (None, None, None) => Credentials::None,
        (None, None, Some(certificate)) => Credentials::Certificate(certificate.der().clone()),
        (name, password, _) => Credentials::Password {
            name: name.as_deref().unwrap_or_default().into(),
            password: password.clone().unwrap_or_default(),
        },
    }
}

fn refused(shared: &Shared, rejection: &Rejection, principal: Option<&Arc<Principal>>, peer: IpAddr) {
    tracing::debug!(%rejection, %peer, "an MQTT client is not let in");
    shared.cx.audit.refused(rejection, principal, Some(peer));
}
