//! Clients of one listener, over memory and a clock that runs ahead: well-formed packets in any order, bytes that are none,
//! connections that come, go and take each other's sessions over, some of them over WebSocket.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use envelope::{Admission, Delivery, RejectKind, Rejection};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    runtime::Builder,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::Script;
use crate::{
    conformance::{Rig, delivery},
    http::ByteStream,
    mqtt::{MqttConfig, connection, source::Shared, websocket::Wire},
};

/// What of it is open.
struct World {
    rig: Rig,
    shared: Arc<Shared>,
    clients: Vec<Client>,
    /// The connections.
    connections: JoinSet<()>,
    /// What reads on the clients' sides.
    readers: JoinSet<()>,
}

/// What a client writes to.
struct Client {
    wire: WriteHalf<DuplexStream>,
    /// Over WebSocket.
    framed: bool,
}

const TOPICS: [&str; 8] = ["a", "b/c", "", "/", "a/#", "$SYS/x", "%", "\u{10FFFF}"];
const FILTERS: [&str; 10] =
    ["#", "a/+", "$share/g/#", "$share//a", "$SYS/#", "+", "a/#/b", "", "plant/+", "$share/h/$SYS/+"];
const CLIENTS: usize = 4;

pub(super) fn run(mut script: Script<'_>) {
    let Ok(runtime) = Builder::new_current_thread().enable_time().start_paused(true).build() else { return };
    runtime.block_on(async {
        let config = config(script.byte());
        let (rig, cx) = Rig::unbound();
        rig.outlet.give((1..6).map(message));
        let shared = Arc::new(Shared::new(cx, config));
        shared.restore().await;
        let mut world =
            World { rig, shared, clients: Vec::new(), connections: JoinSet::new(), readers: JoinSet::new() };
        while let Some(what) = script.next() {
            world.step(what, &mut script).await;
        }
        world.clients.clear();
        world.rig.release();
        world.rig.drain();
        let ended = timeout(Duration::from_secs(600), sound_end(&mut world.connections)).await;
        assert!(ended.is_ok(), "{} connections do not end", world.connections.len());
        world.rig.stop().await;
        world.readers.abort_all();
        sound_end(&mut world.readers).await;
    });
}

fn config(bits: u8) -> MqttConfig {
    let mut config = MqttConfig::new(([127, 0, 0, 1], 0).into());
    config.max_payload_bytes = 32_768;
    config.receive_maximum = if bits & 1 == 0 { 2 } else { 100 };
    config.session.max_subscriptions = 4;
    config.session.max_queued = 2;
    config.prefix = (bits & 2 != 0).then(|| "a".into());
    config
}

fn message(n: u64) -> Delivery {
    let retained = n.is_multiple_of(2);
    Delivery { retained, ..delivery(n, if n < 4 { "a/b" } else { "a" }, Bytes::from(vec![b'x'; n as usize * 9])) }
}

// === impl World ===

impl World {
    async fn step(&mut self, what: u8, script: &mut Script<'_>) {
        let (id, bits) = (u16::from(script.byte() % 5), script.byte());
        let properties: &[u8] = if bits & 0x80 == 0 { &[0] } else { &[] };
        let bytes = match what % 16 {
            0 => return self.connect(bits, script).await,
            1 => return drop(self.clients.pop()),
            2 => {
                if !self.clients.is_empty() {
                    self.clients.rotate_left(1);
                }
                return;
            }
            3 => return sleep(Duration::from_millis(u64::from(bits) * 400)).await,
            4 => {
                if bits & 1 == 0 {
                    self.rig.hold();
                } else {
                    self.rig.release();
                }
                return;
            }
            5 => {
                self.answers(bits);
                return;
            }
            6..=8 => {
                let topic = TOPICS[usize::from(script.byte() % 8)];
                let alias = [3, 0x23, 0, script.byte() % 4];
                let properties = if bits & 0x40 == 0 { properties } else { &alias[..] };
                let id = if bits & 0x06 == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
                let payload = vec![b'p'; if bits & 0x30 == 0x30 { 30_000 } else { usize::from(bits >> 4) }];
                packet(0x30 | bits & 0x0F, &[&text(topic), &id, properties, &payload])
            }
            9 => packet([0x40, 0x50, 0x62, 0x70][usize::from(bits & 3)], &[&id.to_be_bytes(), reason(bits)]),
            10 => {
                let filter = FILTERS[usize::from(script.byte() % 10)];
                packet(0x82, &[&id.to_be_bytes(), properties, &text(filter), &[bits & 0x3F]])
            }
            11 => {
                let filter = FILTERS[usize::from(script.byte() % 10)];
                packet(0xA2, &[&id.to_be_bytes(), properties, &text(filter)])
            }
            12 => vec![0xC0, 0],
            13 => packet(0xE0, &[script.take(usize::from(bits % 9))]),
            14 => packet(bits, &[script.take(usize::from(id) * 3)]),
            _ => script.take(usize::from(bits)).to_vec(),
        };
        if let Some(client) = self.clients.first_mut() {
            client.send(&bytes, bits).await;
        }
        tokio::task::yield_now().await;
    }

    async fn connect(&mut self, bits: u8, script: &mut Script<'_>) {
        let (ours, theirs) = duplex(if bits & 1 == 0 { 64 } else { 65_536 });
        let (read, write) = split(ours);
        let framed = script.byte() & 1 == 1;
        let wire = if framed {
            let (unframed, from) = duplex(65_536);
            self.readers.spawn(unframe(read, unframed));
            self.readers.spawn(heed(from, bits & 2 == 0));
            Wire::MemoryFrames(Box::new(ByteStream::new(theirs, Bytes::new())))
        } else {
            self.readers.spawn(heed(read, bits & 2 == 0));
            Wire::Memory(theirs)
        };
        let peer = [127, 0, 0, 1].into();
        self.connections.spawn(connection::run(self.shared.clone(), wire, peer, None));
        let mut client = Client { wire: write, framed };
        client.send(&hello(bits, script), bits).await;
        self.clients.insert(0, client);
        self.clients.truncate(CLIENTS);
    }

    fn answers(&self, bits: u8) {
        let kind = RejectKind::ALL[usize::from(bits) % RejectKind::ALL.len()];
        let mut left = bits >> 5;
        self.rig.answer(move |_| {
            if left == 0 {
                return Ok(Admission::Filtered);
            }
            left -= 1;
            Err(Rejection::new(kind, "fuzz", "because"))
        });
    }
}

// === impl Client ===

impl Client {
    /// A listener that has closed takes nothing more; one that does not read is not waited for.
    async fn send(&mut self, bytes: &[u8], bits: u8) {
        let framed = if self.framed { frames(bytes, bits) } else { bytes.to_vec() };
        _ = timeout(Duration::from_millis(50), self.wire.write_all(&framed)).await;
    }
}

/// The bytes in frames as a client writes them, which end anywhere; now and then with a ping between them, or in none.
fn frames(bytes: &[u8], bits: u8) -> Vec<u8> {
    if bits == 0xF5 {
        return bytes.to_vec();
    }
    let frame = |first: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let head = if length < 126 { vec![length as u8] } else { [&[126][..], &length.to_be_bytes()].concat() };
        let mask = [bits; 4];
        let masked = payload.iter().map(|byte| byte ^ bits);
        [first, head[0] | 0x80]
            .into_iter()
            .chain(head[1..].iter().copied())
            .chain(mask)
            .chain(masked)
            .collect::<Vec<u8>>()
    };
    let (one, two) = bytes.split_at(usize::from(bits).min(bytes.len()));
    let between = if bits & 8 == 0 { Vec::new() } else { frame(0x89, &[bits; 3]) };
    // a message of two fragments, or two messages
    let (first, second) = if bits & 1 == 0 { (0x02, 0x80) } else { (0x82, 0x82) };
    [frame(first, one), between, frame(second, two)].concat()
}

/// What is in the frames of a server, each of which has to be one.
async fn unframe(mut from: ReadHalf<DuplexStream>, mut to: DuplexStream) {
    loop {
        let (Ok(first), Ok(second)) = (from.read_u8().await, from.read_u8().await) else { return };
        assert!(matches!(first, 0x82 | 0x8A | 0x88) && second <= 127, "no frame of a server: {first:02x} {second:02x}");
        let length = match second {
            126 => from.read_u16().await.map(usize::from),
            127 => from.read_u64().await.map(|length| length as usize),
            length => Ok(length.into()),
        };
        let mut payload = vec![0; length.unwrap_or_default()];
        let read = from.read_exact(&mut payload).await;
        match first {
            // cut within a frame
            _ if read.is_err() => return,
            // who does not heed does not read either
            0x82 => {
                if to.write_all(&payload).await.is_err() {
                    return;
                }
            }
            0x8A => assert!(payload.len() < 126, "a pong has no more than its ping: {}", payload.len()),
            _ => {
                assert!(payload.len() < 126, "a close of {} bytes", payload.len());
                // nothing comes behind it (RFC 6455, section 5.5.1)
                let next = from.read_u8().await;
                return assert!(next.is_err(), "a frame behind a close: {next:02x?}");
            }
        }
    }
}

/// Waits for all, none of which may have failed.
async fn sound_end(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(failed) = ended
            && failed.is_panic()
        {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}

fn hello(bits: u8, script: &mut Script<'_>) -> Vec<u8> {
    let five = bits & 4 != 0;
    let clean = bits >> 3 & 1;
    let with_will = bits & 0x10 != 0;
    let name = ["one", "two", ""][usize::from(bits >> 5) % 3];
    let flags = clean << 1 | u8::from(with_will) << 2 | if with_will { script.byte() & 0x38 } else { 0 };
    let session = [11, 0x11, 0, 0, 0, script.byte(), 0x22, 0, 3, 0x21, 0, 2];
    let properties: &[u8] = match (five, bits & 0x80) {
        (false, _) => &[],
        (true, 0) => &[0],
        (true, _) => &session,
    };
    let mut will = Vec::new();
    if with_will {
        let delay: &[u8] = if five { &[5, 0x18, 0, 0, 0, 9] } else { &[] };
        will = [delay, &text(TOPICS[usize::from(script.byte() % 8)]), &text("bye")].concat();
    }
    let level = if five { 5 } else { 4 };
    packet(0x10, &[&text("MQTT"), &[level, flags, 0, script.byte()], properties, &text(name), &will])
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

fn reason(bits: u8) -> &'static [u8] {
    match bits >> 4 & 3 {
        0 | 1 => &[],
        2 => &[0x10],
        _ => &[0x87],
    }
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let (mut packet, mut length) = (vec![first], body.len());
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Reads what a client is sent, unless it does not read; each packet has to be one that a server sends.
async fn heed(mut from: impl AsyncRead + Unpin, reads: bool) {
    if !reads {
        return std::future::pending().await;
    }
    let mut first = true;
    while let Ok((kind, body)) = read(&mut from).await {
        sound(kind, &body, first);
        first = false;
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let first = from.read_u8().await?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = from.read_u8().await?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        assert!(byte & 0x80 == 0 || shift < 28, "a length of more than four bytes");
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Ok((first, body))
}

fn sound(kind: u8, body: &[u8], first: bool) {
    assert_eq!(kind >> 4 == 2, first, "CONNACK comes first, and once");
    let id = |at: usize| assert!(body[at..at + 2] != [0, 0], "a packet identifier is 0");
    match (kind >> 4, kind & 0x0F) {
        (2, 0) => assert!(body.len() >= 2 && body[0] <= 1),
        (3, flags) => {
            assert!(flags & 0x06 != 0x06 && (flags & 0x06 != 0 || flags & 0x08 == 0), "flags of a PUBLISH");
            let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
            assert!(!body[2..2 + topic].iter().any(|byte| matches!(byte, b'#' | b'+' | 0)), "a topic");
            if flags & 0x06 != 0 {
                id(2 + topic);
            }
        }
        (4 | 5 | 7 | 9 | 11, 0) | (6, 2) => id(0),
        (13, 0) => assert!(body.is_empty()),
        (14, 0) => assert!(!body.is_empty() && body[0] >= 0x80),
        other => panic!("no packet of a server: {other:?}"),
    }
}
