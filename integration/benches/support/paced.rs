//! Requests at a rate that is given, whatever they take: sent when they are due, and their time runs from then.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

const CONNECTIONS: usize = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What requests took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The 50th percentile.
    pub(crate) p50: Duration,
    /// The 99th.
    pub(crate) p99: Duration,
    /// The longest of all.
    #[allow(dead_code, reason = "not every benchmark asks for it")]
    pub(crate) longest: Duration,
}

// === impl Times ===

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let longest = times.last().copied().unwrap_or_default();
        Self { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100], longest }
    }
}

/// Waits until a moment, to within some tens of microseconds.
pub(crate) fn until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// Requests over so many connections, a thread that sends and one a connection that hears the answers. `body`: of the
/// request that is due then.
pub(crate) fn http(at: SocketAddr, path: &str, body: impl Fn(Instant) -> String, rate: u64, count: u64) -> Times {
    let request = |body: String| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: {at}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let (mut streams, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(at).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
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
        stream.write_all(request(body(due)).as_bytes()).expect("a request");
    }
    // a server may take the end of the requests for the end of the connection: the answers come first
    let patience = Instant::now() + PATIENCE;
    while streams.iter().any(|(_, due)| !due.lock().unwrap().is_empty()) && Instant::now() < patience {
        thread::park_timeout(Duration::from_millis(1));
    }
    for (stream, _) in &streams {
        stream.shutdown(std::net::Shutdown::Write).expect("the end of the requests");
    }
    let times: Vec<_> = readers.into_iter().flat_map(|reader| reader.join().expect("answers")).collect();
    assert_eq!(times.len() as u64, count, "every request is answered");
    Times::of(times)
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
