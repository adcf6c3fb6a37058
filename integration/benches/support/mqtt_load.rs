//! Clients of MQTT 3.1.1 that do as little as they can, in a process of their own with one thread. The benchmark runs itself
//! with `--load WHAT ADDRESS NUMBER...` for it; it prints a line when it is ready, and one with what it measured.

use std::{
    cell::Cell,
    env,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    task::{JoinSet, LocalSet},
    time::{sleep_until, timeout},
};

/// Runs the load, and does not come back, if this process was started for that.
pub(crate) fn run_if_asked() {
    let arguments: Vec<_> = env::args().collect();
    let Some(at) = arguments.iter().position(|argument| argument == "--load") else { return };
    let address: SocketAddr = arguments[at + 2].parse().expect("an address");
    let numbers: Vec<u64> = arguments[at + 3..].iter().filter_map(|number| number.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        match (arguments[at + 1].as_str(), &numbers[..]) {
            ("acks", [clients, window, bytes, seconds]) => acks(address, *clients, *window, *bytes, *seconds).await,
            ("fan", [subscribers, ahead, bytes, seconds]) => fan(address, *subscribers, *ahead, *bytes, *seconds).await,
            ("latency", [rate, bytes, seconds]) => latency(address, *rate, *bytes, *seconds).await,
            ("idle", [clients]) => idle(address, *clients).await,
            ("connects", [rate, seconds]) => connects(address, *rate, *seconds).await,
            (what, numbers) => panic!("no such load: {what} {numbers:?}"),
        }
    });
    std::process::exit(0);
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 128 {
        packet.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A clean session.
async fn connect(address: SocketAddr, name: &str) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(&packet(0x10, &[&text("MQTT"), &[4, 2, 0x02, 0x58], &text(name)])).await?;
    let mut connack = [0; 4];
    socket.read_exact(&mut connack).await?;
    if connack == [0x20, 2, 0, 0] { Ok(socket) } else { Err(std::io::Error::other(format!("CONNACK {connack:?}"))) }
}

async fn subscribe(address: SocketAddr, name: &str, filter: &str) -> TcpStream {
    let mut socket = connect(address, name).await.expect("to connect");
    socket.write_all(&packet(0x82, &[&[0, 1], &text(filter), &[0]])).await.expect("to write");
    let mut suback = [0; 5];
    socket.read_exact(&mut suback).await.expect("SUBACK");
    assert_eq!(suback, [0x90, 3, 0, 1, 0]);
    socket
}

/// Publishers at QoS 1 that keep a window full: PUBACKs a second.
async fn acks(address: SocketAddr, clients: u64, window: u64, bytes: u64, seconds: u64) {
    let (acked, over) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(false)));
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let mut socket = connect(address, &format!("load-{number}")).await.expect("to connect");
        let (acked, over) = (acked.clone(), over.clone());
        let mut publish = packet(0x32, &[&text(&format!("load/{number}")), &[0, 0], &vec![b'x'; bytes as usize]]);
        let id_at = publish.len() - bytes as usize - 2;
        tasks.spawn_local(async move {
            let (mut next, mut read, mut held) = (1_u16, vec![0; 4_096], 0);
            let mut due = window;
            let mut out = Vec::with_capacity(window as usize * publish.len());
            while !over.get() {
                out.clear();
                for _ in 0..due {
                    publish[id_at..id_at + 2].copy_from_slice(&next.to_be_bytes());
                    out.extend_from_slice(&publish);
                    next = next.checked_add(1).unwrap_or(1);
                }
                socket.write_all(&out).await.expect("to write");
                let count = socket.read(&mut read[held..]).await.expect("to read");
                assert!(count > 0, "the server has closed");
                let whole = (held + count) / 4;
                assert!(read.chunks_exact(4).take(whole).all(|ack| ack[..2] == [0x40, 2]), "only PUBACKs");
                read.copy_within(whole * 4..held + count, 0);
                held = (held + count) % 4;
                due = whole as u64;
                acked.set(acked.get() + due);
            }
        });
    }
    println!("ready");
    // the first second is to warm up
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, before) = (Instant::now(), acked.get());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    println!("{:.0}", (acked.get() - before) as f64 / began.elapsed().as_secs_f64());
}

/// One publisher at QoS 0 that is so many messages ahead of all its subscribers at most: deliveries a second.
async fn fan(address: SocketAddr, subscribers: u64, ahead: u64, bytes: u64, seconds: u64) {
    let publish = packet(0x30, &[&text("load/fan"), &vec![b'x'; bytes as usize]]);
    let size = publish.len() as u64;
    let (received, moved) = (Rc::new(Cell::new(0_u64)), Rc::new(Notify::new()));
    let mut tasks = JoinSet::new();
    for number in 0..subscribers {
        let mut socket = subscribe(address, &format!("fan-{number}"), "load/fan").await;
        let (received, moved) = (received.clone(), moved.clone());
        tasks.spawn_local(async move {
            let mut read = vec![0; 65_536];
            while let Ok(count @ 1..) = socket.read(&mut read).await {
                received.set(received.get() + count as u64);
                moved.notify_one();
            }
        });
    }
    let mut publisher = connect(address, "publisher").await.expect("to connect");
    println!("ready");
    let (mut sent, mut began, mut before) = (0_u64, Instant::now(), 0);
    let warm = Duration::from_secs(1);
    let mut is_warm = false;
    loop {
        if !is_warm && began.elapsed() > warm {
            (is_warm, began, before) = (true, Instant::now(), received.get());
        }
        if is_warm && began.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        let slowest = received.get() / (size * subscribers);
        if sent < slowest + ahead {
            let count = slowest + ahead - sent;
            publisher.write_all(&publish.repeat(count as usize)).await.expect("to write");
            sent += count;
        }
        let more = timeout(Duration::from_secs(10), moved.notified()).await;
        more.expect("a message was dropped, so that nothing goes on");
    }
    println!("{:.0}", (received.get() - before) as f64 / size as f64 / began.elapsed().as_secs_f64());
}

/// Messages at QoS 0 that are due whatever happens: microseconds to the subscriber, p50 and p99.
async fn latency(address: SocketAddr, rate: u64, bytes: u64, seconds: u64) {
    let mut subscriber = subscribe(address, "subscriber", "load/time").await;
    let mut publisher = connect(address, "publisher").await.expect("to connect");
    let mut publish = packet(0x30, &[&text("load/time"), &vec![b'x'; bytes as usize]]);
    let (size, stamp) = (publish.len(), publish.len() - 8);
    let count = (rate * seconds) as usize;
    let start = Instant::now();
    println!("ready");
    let sending = tokio::task::spawn_local(async move {
        for number in 0..count as u64 {
            let due = start + Duration::from_nanos(1_000_000_000 / rate * number);
            sleep_until(due.into()).await;
            publish[stamp..].copy_from_slice(&(start.elapsed().as_nanos() as u64).to_be_bytes());
            publisher.write_all(&publish).await.expect("to write");
        }
        publisher
    });
    let (mut delays, mut read) = (Vec::with_capacity(count), vec![0; size]);
    for _ in 0..count {
        let whole = timeout(Duration::from_secs(10), subscriber.read_exact(&mut read)).await;
        whole.expect("a message in time").expect("to read");
        let sent = u64::from_be_bytes(read[stamp..].try_into().expect("eight bytes"));
        delays.push((start.elapsed().as_nanos() as u64).saturating_sub(sent) / 1_000);
    }
    sending.await.expect("the publisher");
    delays.sort_unstable();
    let at = |percent: usize| delays[delays.len() * percent / 100];
    println!("{} {}", at(50), at(99));
}

/// Connections that say nothing, until the process is ended.
async fn idle(address: SocketAddr, clients: u64) {
    let mut open = Vec::new();
    for number in 0..clients {
        open.push(connect(address, &format!("idle-{number}")).await.expect("to connect"));
    }
    println!("ready");
    std::future::pending::<()>().await;
}

/// Connections that are due whatever happens; each ends once it is let in. How many failed, and microseconds to CONNACK.
async fn connects(address: SocketAddr, rate: u64, seconds: u64) {
    let start = Instant::now();
    println!("ready");
    let mut tasks = JoinSet::new();
    for number in 0..rate * seconds {
        let due = start + Duration::from_nanos(1_000_000_000 / rate * number);
        sleep_until(due.into()).await;
        tasks.spawn_local(async move {
            let socket = timeout(Duration::from_secs(10), connect(address, &format!("connect-{number}"))).await;
            let mut socket = socket.map_err(std::io::Error::other)??;
            let took = Instant::now().duration_since(due).as_micros() as u64;
            socket.write_all(&[0xE0, 0]).await?;
            Ok::<_, std::io::Error>(took)
        });
    }
    let (mut failed, mut took) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        match done.expect("a connection") {
            Ok(micros) => took.push(micros),
            Err(error) => {
                failed += 1;
                eprintln!("{error}");
            }
        }
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    println!("{failed} {} {}", at(50), at(99));
}
