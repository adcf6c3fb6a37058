//! How long a durable publish takes at a rate that is given, whatever it takes: requests are sent when they are due, and
//! their time runs from then. Beside it, in the same run, a bare handler and a bare loop that appends to a file and syncs.
//!
//! `cargo bench -p integration --bench open_loop [-- RATE [SECONDS]]`, 5,000 a second for 4 s if left out. The goal: the p99
//! of durable publish is at most that of the bare handler plus three times that of the append loop. Median of 5
//! interleaved rounds.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark fails by panic")]

use std::{
    collections::VecDeque,
    env,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use integration::{Gateway, Site};

#[path = "support/bare.rs"]
mod bare;

use bare::{Bare, READING};

const ROUNDS: usize = 5;
const CONNECTIONS: usize = 64;

/// The 50th and the 99th percentile.
#[derive(Clone, Copy)]
struct Times {
    p50: Duration,
    p99: Duration,
}

fn main() {
    bare::serve_if_asked();
    let numbers: Vec<u64> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rate = numbers.first().copied().unwrap_or(5_000);
    let count = rate * numbers.get(1).copied().unwrap_or(4);
    let site = Site::shipped();
    let (bare, gateway) = (Bare::start(), Gateway::start(&site));
    let (mut bares, mut loops, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let floor = http(bare.at, rate, count);
        let append = append_loop(&site, rate, count);
        let durable = http(site.http, rate, count);
        println!(
            "round {round}: bare p50 {:?} p99 {:?}   append loop p50 {:?} p99 {:?}   durable p50 {:?} p99 {:?}",
            floor.p50, floor.p99, append.p50, append.p99, durable.p50, durable.p99
        );
        bares.push(floor.p99);
        loops.push(append.p99);
        ours.push(durable.p99);
    }
    let (floor, append, durable) = (median(bares), median(loops), median(ours));
    let goal = floor + append * 3;
    println!("median p99 at {rate}/s: bare {floor:?}, append loop {append:?}, durable {durable:?}; goal {goal:?}");
    println!("durable / goal: {:.2}", durable.as_secs_f64() / goal.as_secs_f64());
    assert!(gateway.terminate().success());
}

/// Waits until a moment, to within some tens of microseconds.
fn until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// Requests over so many connections, a thread that sends and one a connection that hears the answers.
fn http(at: SocketAddr, rate: u64, count: u64) -> Times {
    let request = format!(
        "POST /telemetry/7/temperature HTTP/1.1\r\nhost: {at}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{READING}",
        READING.len()
    );
    let (mut streams, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(at).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let due = Arc::new(Mutex::new(VecDeque::new()));
        let (heard, waiting) = (stream.try_clone().expect("the other half"), due.clone());
        streams.push((stream, due));
        readers.push(heard_in(heard, waiting));
    }
    let start = Instant::now();
    for n in 0..count {
        let due = start + Duration::from_secs_f64(n as f64 / rate as f64);
        until(due);
        let (stream, waiting) = &mut streams[n as usize % CONNECTIONS];
        waiting.lock().unwrap().push_back(due);
        stream.write_all(request.as_bytes()).expect("a request");
    }
    for (stream, _) in &streams {
        stream.shutdown(std::net::Shutdown::Write).expect("the end of the requests");
    }
    let times: Vec<_> = readers.into_iter().flat_map(|reader| reader.join().expect("answers")).collect();
    assert_eq!(times.len() as u64, count, "every request is answered");
    percentiles(times)
}

/// The times of all answers of a connection.
fn heard_in(stream: TcpStream, due: Arc<Mutex<VecDeque<Instant>>>) -> thread::JoinHandle<Vec<Duration>> {
    thread::spawn(move || {
        let (mut answers, mut times, mut line) = (BufReader::new(stream), Vec::new(), String::new());
        loop {
            line.clear();
            if answers.read_line(&mut line).unwrap_or(0) == 0 {
                return times;
            }
            assert!(line.starts_with("HTTP/1.1 202"), "{line}");
            let mut length = 0;
            while line != "\r\n" {
                line.clear();
                answers.read_line(&mut line).expect("a header");
                let header = line.to_ascii_lowercase();
                length = header.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
            }
            answers.read_exact(&mut vec![0; length]).expect("a body");
            times.push(due.lock().unwrap().pop_front().expect("a request").elapsed());
        }
    })
}

/// The physical limit of an acknowledged append: what has come is written and synced, together.
fn append_loop(site: &Site, rate: u64, count: u64) -> Times {
    let mut file = File::create(site.scratch("append")).expect("a file");
    let (send, receive) = mpsc::sync_channel::<Instant>(65_536);
    let writer = thread::spawn(move || {
        let (mut times, mut group, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        while let Ok(first) = receive.recv() {
            group.clear();
            group.push(first);
            group.extend(receive.try_iter());
            bytes.clear();
            group.iter().for_each(|_| bytes.extend_from_slice(READING.as_bytes()));
            file.write_all(&bytes).expect("an append");
            file.sync_data().expect("a sync");
            times.extend(group.iter().map(Instant::elapsed));
        }
        times
    });
    let start = Instant::now();
    for n in 0..count {
        let due = start + Duration::from_secs_f64(n as f64 / rate as f64);
        until(due);
        send.send(due).expect("the writer");
    }
    drop(send);
    percentiles(writer.join().expect("the writer's times"))
}

fn percentiles(mut times: Vec<Duration>) -> Times {
    times.sort_unstable();
    Times { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
