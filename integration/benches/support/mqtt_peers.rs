//! The servers that are compared: the gateway, Mosquitto and nats-server, each with a port and a folder of its own.

use std::{
    env,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use integration::{
    Gateway, Site, eventually,
    site::{free_port, repository},
};

/// A server that runs; ended when dropped.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    running: Running,
}

enum Running {
    Gateway { gateway: Gateway, _site: Site },
    Child { child: Child, _folder: tempfile::TempDir },
}

const PATIENCE: Duration = Duration::from_secs(30);

// === impl Peer ===

impl Peer {
    /// The shipped policy, and a listener whose topics go through one to one.
    pub(crate) fn gateway() -> Self {
        let (site, address) = (Site::shipped(), free_port());
        let text = format!(
            "domain: plant-a\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: {}, min_free: {{ percent: 1 }} }} }}\nadmin: {{ listen: {} }}\n\
             bridges:\n  web: {{ http: {{ listen: '{}' }} }}\n  \
             floor: {{ mqtt: {{ listen: '{address}', prefix: devices, max_connections: 19000, max_connections_per_address: 19000 }} }}\nmappings: mappings/\npolicy: policy.yaml\n",
            site.data().display(),
            site.admin,
            site.http,
        );
        site.write("gateway.yaml", &text);
        let gateway = Gateway::start(&site);
        Self { name: "openmesh", address, running: Running::Gateway { gateway, _site: site } }
    }

    /// From memory: no persistence, no log, no limit of what waits. `at_once`: it does not wait for more to send, which makes it
    /// answer sooner, and do less.
    pub(crate) fn mosquitto(at_once: bool) -> Self {
        let (folder, address) = (tempfile::tempdir().expect("a folder"), free_port());
        let text = format!(
            "listener {} 127.0.0.1\nuser root\nallow_anonymous true\npersistence false\nlog_type none\nmax_queued_messages 0\nset_tcp_nodelay {at_once}\n",
            address.port()
        );
        Self::child("mosquitto", address, folder, text, PathBuf::from("mosquitto"))
    }

    /// JetStream that syncs each message. `None`: there is no nats-server.
    pub(crate) fn nats() -> Option<Self> {
        let paths = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&paths).chain([repository().join("target/tools/bin")]);
        let program = folders.map(|folder| folder.join("nats-server")).find(|program| program.exists())?;
        let (folder, client, address) = (tempfile::tempdir().expect("a folder"), free_port(), free_port());
        let text = format!(
            "server_name: bench\nlisten: \"{client}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\nmqtt {{ listen: \"{address}\" }}\n",
            folder.path().display()
        );
        Some(Self::child("nats-server", address, folder, text, program))
    }

    fn child(
        name: &'static str,
        address: SocketAddr,
        folder: tempfile::TempDir,
        text: String,
        program: PathBuf,
    ) -> Self {
        let path = folder.path().join("conf");
        std::fs::write(&path, text).expect("a configuration");
        let mut command = Command::new(program);
        command.arg("-c").arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        eventually("it listens", PATIENCE, || TcpStream::connect(address).ok());
        Self { name, address, running: Running::Child { child, _folder: folder } }
    }

    /// Its resident set, in kB.
    pub(crate) fn resident_kb(&self) -> u64 {
        let pid = match &self.running {
            Running::Gateway { gateway, .. } => return gateway.resident_kb(),
            Running::Child { child, .. } => child.id(),
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its resident set");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Running::Child { child, .. } = &mut self.running {
            // it may have ended by itself
            _ = child.kill();
            _ = child.wait();
        }
    }
}
