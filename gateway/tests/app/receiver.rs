//! A webhook of somebody's: keeps what it is posted, and answers what a test says.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::support::PATIENCE;

/// The server, for as long as it lives.
pub(crate) struct Hook {
    pub(crate) at: SocketAddr,
    answers: Arc<Mutex<VecDeque<String>>>,
    seen: watch::Sender<Vec<Post>>,
    task: JoinHandle<()>,
}

/// What was posted.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Hook {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// On this port, which another one may have had.
    pub(crate) async fn at(at: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(at).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let at = listener.local_addr().unwrap();
        let (answers, seen) = (Arc::default(), watch::Sender::new(Vec::new()));
        let (script, posts) = (Arc::clone(&answers), seen.clone());
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&script), posts.clone()));
            }
        });
        Self { at, answers, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Answers these, one after the other; then 200.
    pub(crate) fn answers(&self, statuses: &[u16]) {
        let with_body = |status: &u16| format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        self.answers.lock().unwrap().extend(statuses.iter().map(with_body));
    }

    /// Answers this next, as it is.
    pub(crate) fn answers_with(&self, text: &str) {
        self.answers.lock().unwrap().push_back(text.to_owned());
    }

    /// Waits until so many posts have come.
    pub(crate) async fn until(&self, count: usize) -> Vec<Post> {
        let mut seen = self.seen.subscribe();
        let found = timeout(PATIENCE, seen.wait_for(|seen| seen.len() >= count)).await;
        found.unwrap_or_else(|_| panic!("only {:?} came", self.seen.borrow())).unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.borrow().len()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Post {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Mutex<VecDeque<String>>>, seen: watch::Sender<Vec<Post>>) {
    loop {
        let mut bytes = Vec::new();
        let post = loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = |line: &str| line.strip_prefix("content-length: ")?.parse().ok();
                if body.len() >= head.lines().find_map(length).unwrap_or(0) {
                    break Post { head: head.to_owned(), body: body.to_owned() };
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let answer = answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| "HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n".to_owned());
        seen.send_modify(|seen| seen.push(post));
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
