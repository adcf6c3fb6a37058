//! Servers that the gateway connects to: a feed, and one that is sent webhooks.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use integration::eventually;
use tungstenite::{Message, WebSocket};

use crate::PATIENCE;

/// A WebSocket server that says what it is told to.
pub(crate) struct Feed {
    at: SocketAddr,
    client: Arc<Mutex<Option<WebSocket<TcpStream>>>>,
}

/// Path, headers with names in lower case, and body.
type Request = (String, Vec<(String, String)>, String);

/// An HTTP server that takes everything.
pub(crate) struct Hook {
    at: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

// === impl Feed ===

impl Feed {
    /// Its thread ends with the test's process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (at, client) = (listener.local_addr().expect("its address"), Arc::default());
        let connected: Arc<Mutex<Option<_>>> = Arc::clone(&client);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let accepted = tungstenite::accept(stream).expect("a WebSocket");
                *connected.lock().expect("the client") = Some(accepted);
            }
        });
        Self { at, client }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/feed", self.at)
    }

    pub(crate) fn say(&self, text: &str) {
        eventually("the gateway is connected", PATIENCE, || {
            let mut client = self.client.lock().expect("the client");
            client.as_mut()?.send(Message::text(text)).ok()
        });
    }
}

// === impl Hook ===

impl Hook {
    /// Its threads end with the test's process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (at, requests) = (listener.local_addr().expect("its address"), Arc::default());
        let all = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                thread::spawn(move || serve(stream, &all));
            }
        });
        Self { at, requests }
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("the requests").clone()
    }
}

/// Answers the requests of a connection until it ends.
fn serve(mut stream: TcpStream, all: &Mutex<Vec<Request>>) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let path = lines.first()?.split(' ').nth(1)?.to_owned();
        let header = |line: &String| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
        let headers: Vec<_> = lines.iter().skip(1).filter_map(header).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().expect("a length");
        let mut body = vec![0; length];
        input.read_exact(&mut body).ok()?;
        all.lock().expect("the requests").push((path, headers, String::from_utf8(body).expect("text")));
        stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}
