//! A gateway of a test's own: a copy of the shipped configuration, ephemeral ports, a data folder that goes away; and
//! the plainest clients there are.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use gateway::{App, Running, config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest},
};

/// The most that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Who has no name answers requests.
pub(crate) const MAY_REPLY: &str = "permit (principal == Principal::\"anonymous\", action == Action::\"reply\", resource in Topic::\"$mesh/reply\");\n";

/// A configuration folder and a data folder.
pub(crate) struct Site {
    dir: TempDir,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

/// A WebSocket of `/mesh/v1/ws`.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Site {
    /// The shipped configuration, but for ports and the data folder.
    pub(crate) fn shipped() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config");
        copy(&shipped, &dir.path().join("config")).unwrap();
        let site = Self { dir };
        site.write("gateway.yaml", &site.config_text(""));
        site
    }

    /// `gateway.yaml` with more lines at its end.
    pub(crate) fn config_text(&self, more: &str) -> String {
        format!(
            "domain: plant-a\njurisdictions: [no, eu]\nbackbone: {{ embedded: {{ path: {} }} }}\n\
             admin: {{ listen: 127.0.0.1:0 }}\nbridges:\n  web: {{ http: {{ listen: 127.0.0.1:0 }} }}\n{more}",
            self.dir.path().join("data").display()
        )
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join("config").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Removes a folder of the configuration.
    pub(crate) fn remove(&self, folder: &str) {
        fs::remove_dir_all(self.dir.path().join("config").join(folder)).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("config/gateway.yaml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn load(&self) -> Result<config::Loaded, String> {
        config::load(&self.config()).map_err(|all| all.to_string())
    }

    pub(crate) async fn start(&self) -> Running {
        App::start(self.load().unwrap()).await.unwrap()
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Where the bridge `web` listens.
pub(crate) fn web(running: &Running) -> SocketAddr {
    bridge(running, "web")
}

/// Where a bridge listens.
pub(crate) fn bridge(running: &Running, name: &str) -> SocketAddr {
    running.addresses().bridges.iter().find(|(known, _)| &**known == name).unwrap().1
}

/// Where a bridge listens for MQTT over WebSocket.
pub(crate) fn second(running: &Running, name: &str) -> SocketAddr {
    let mut all = running.addresses().bridges.iter().filter(|(known, _)| &**known == name);
    all.nth(1).unwrap().1
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")).await
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}");
    request(address, &format!("{head}\r\n\r\n{body}")).await
}

/// With this `Authorization`, if there is one.
pub(crate) async fn post_as(address: SocketAddr, authorization: Option<&str>, path: &str, body: &str) -> Answer {
    let length = body.len();
    let authorization = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{authorization}content-length: {length}"
    );
    request(address, &format!("{head}\r\n\r\n{body}")).await
}

/// Sends it as it is and reads to the end of the connection.
pub(crate) async fn request(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), text: text.to_owned() }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Socket {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}/mesh/v1/ws")).await.unwrap();
        Self(socket)
    }

    /// With this `Authorization`, if there is one; the status if it is refused.
    pub(crate) async fn open_as(address: SocketAddr, authorization: Option<&str>) -> Result<Self, u16> {
        Self::open_at(address, "/mesh/v1/ws", authorization).await
    }

    /// At a path, as [`Self::open_as`].
    pub(crate) async fn open_at(address: SocketAddr, path: &str, authorization: Option<&str>) -> Result<Self, u16> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", value.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The next frame, whatever it says.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Publishes JSON text as it is; the answer to it, whatever that says.
    pub(crate) async fn publish(&mut self, path: &str, payload: &str) -> Value {
        self.say(&format!(r#"{{"op":"publish","ref":"p","address":"POST {path}","payload":{payload}}}"#)).await
    }

    /// Sends a text as it is; the next frame.
    pub(crate) async fn say(&mut self, text: &str) -> Value {
        self.0.send(Message::text(text)).await.unwrap();
        self.next().await
    }

    /// Subscribes as `s`.
    pub(crate) async fn subscribe(address: SocketAddr, filter: &str, start: &str, durable: Option<&str>) -> Self {
        let mut socket = Self::open(address).await;
        let mut frame = json!({ "op": "subscribe", "ref": "s", "filters": [filter], "start": start, "credit": 16 });
        if let Some(durable) = durable {
            frame["durable"] = durable.into();
        }
        socket.send(&frame).await;
        socket
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next frame with this `op`.
    pub(crate) async fn frame(&mut self, op: &str) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["op"] == op {
                return frame;
            }
            assert_ne!(frame["op"], "error", "{frame}");
        }
    }

    /// The code and the reason that it is closed with; what comes before is read over.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
            if let Message::Close(Some(frame)) = message {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }

    /// The next envelope, acked.
    pub(crate) async fn envelope(&mut self) -> Value {
        let frame = self.frame("message").await;
        self.send(&json!({ "op": "ack", "sub": "s", "positions": [frame["position"]] })).await;
        frame["envelope"].clone()
    }
}
