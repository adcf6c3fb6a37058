//! Mosquitto as a child process: the remote broker.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::{eventually, site::free_port};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker of its own port and folder, which can be ended and started again.
#[derive(Debug)]
pub struct Mosquitto {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

/// `mosquitto_sub`, and what it printed.
#[derive(Debug)]
pub struct Heard {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

// === impl Mosquitto ===

impl Mosquitto {
    /// Anonymous, with what it has in its sessions on disk after every change.
    pub fn start() -> Self {
        Self::with("allow_anonymous true\n")
    }

    /// With these further lines of its configuration; `DIR` stands for its folder.
    pub fn with(more: &str) -> Self {
        let mut broker = Self::prepared(more, &[]);
        broker.up();
        broker
    }

    /// Not started yet; `files` by name are in its folder.
    pub fn prepared(more: &str, files: &[(&str, &str)]) -> Self {
        let (folder, address) = (tempfile::tempdir().expect("a folder"), free_port());
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let path = folder.path().display().to_string();
        let text = format!(
            "per_listener_settings false\nlistener {} 127.0.0.1\nuser root\npersistence true\npersistence_location {path}/\n\
             autosave_on_changes true\nautosave_interval 1\nlog_dest file {path}/log\nlog_type all\n\
             max_queued_messages 0\nqueue_qos0_messages true\n{}",
            address.port(),
            more.replace("DIR", &path),
        );
        fs::write(folder.path().join("conf"), text).expect("a configuration");
        Self { address, folder, child: None }
    }

    /// Starts it, and waits until it listens.
    pub fn up(&mut self) {
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(self.path("conf")).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("mosquitto to start"));
        eventually("mosquitto listens", PATIENCE, || TcpStream::connect(self.address).ok());
    }

    /// Up, if it is not.
    pub fn again(&mut self) {
        if self.child.is_none() {
            self.up();
        }
    }

    /// SIGTERM: it writes down what it has.
    pub fn end(&mut self) {
        self.signal("TERM");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.signal("KILL");
    }

    fn signal(&mut self, name: &str) {
        let mut child = self.child.take().expect("it runs");
        let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        assert!(sent.expect("kill to run").success());
        child.wait().expect("its end");
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// `mqtt://<address>`
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Publishes one message, and waits until the broker has it.
    pub fn publish(&self, arguments: &[&str]) {
        let port = self.address.port().to_string();
        let output = Command::new("mosquitto_pub").args(["-h", "127.0.0.1", "-p", &port]).args(arguments).output();
        let output = output.expect("mosquitto_pub to run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Publishes `count` messages `{"n":0}` and on, over one connection.
    pub fn publish_many(&self, topic: &str, qos: &str, count: usize) {
        let lines: String = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let (port, file) = (self.address.port().to_string(), self.path("lines"));
        fs::write(&file, lines).expect("a file");
        let input = fs::File::open(file).expect("the file");
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &port, "-q", qos, "-t", topic, "-l"]).stdin(input);
        assert!(command.status().expect("mosquitto_pub to run").success());
    }

    /// Subscribes in a session of its own that outlives restarts of the broker.
    pub fn subscribe(&self, name: &str, topic: &str, format: &str) -> Heard {
        self.subscribe_at("2", name, topic, format)
    }

    /// The same at another QoS.
    pub fn subscribe_at(&self, qos: &str, name: &str, topic: &str, format: &str) -> Heard {
        let port = self.address.port().to_string();
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-i", name]);
        command.args(["-c", "-q", qos, "-x", "3600", "-t", topic, "-F", format, "-d"]);
        Heard::of(&mut command)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

// === impl Heard ===

impl Heard {
    /// Runs `mosquitto_sub` with `-d`, and waits for its SUBACK.
    pub fn of(command: &mut Command) -> Self {
        use std::io::BufRead;
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("mosquitto_sub to run");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (output, into) = (child.stdout.take().expect("its output"), lines.clone());
        thread::spawn(move || {
            let all = std::io::BufReader::new(output).lines().map_while(Result::ok);
            all.for_each(|line| into.lock().expect("lines").push(line));
        });
        let heard = Self { child, lines };
        eventually("a subscription", PATIENCE, || {
            heard.lines.lock().expect("lines").iter().any(|line| line.starts_with("Subscribed")).then_some(())
        });
        heard
    }

    /// What came, as the format says; `> ` is what its lines begin with.
    pub fn messages(&self) -> Vec<String> {
        let lines = self.lines.lock().expect("lines");
        lines.iter().filter_map(|line| line.strip_prefix("> ")).map(str::to_owned).collect()
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
