//! The built binary as a child process.

use std::{
    ffi::OsStr,
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::Duration,
};

use crate::{Site, client, eventually, site::repository};

/// A running `openmesh run`; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    /// The gateway itself: the child, or the child's child under a tracer.
    pid: u32,
}

/// How long a start or an orderly end may take.
const PATIENCE: Duration = Duration::from_secs(30);

// === impl Gateway ===

impl Gateway {
    /// Starts it and waits until it is ready.
    pub fn start(site: &Site) -> Self {
        Self::start_under(&[], site)
    }

    /// Starts it below another program, such as a tracer, which runs it as its only child.
    pub fn start_under(tracer: &[&OsStr], site: &Site) -> Self {
        let mut words = tracer.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        words.push(binary().into());
        let log = site.scratch("gateway.log");
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("run")
            .arg("--config")
            .arg(site.config().join("gateway.yaml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file again"))
            .stderr(log)
            .spawn()
            .expect("the gateway to start");
        let mut gateway = Self { pid: child.id(), child };
        eventually("the gateway is ready", PATIENCE, || {
            if let Some(status) = gateway.child.try_wait().expect("the child's state") {
                let log = std::fs::read_to_string(site.scratch("gateway.log")).unwrap_or_default();
                panic!("the gateway ended with {status}:\n{log}");
            }
            (client::get(&site.admin_url("/readyz")).status == 200).then_some(())
        });
        if !tracer.is_empty() {
            let children = format!("/proc/{0}/task/{0}/children", gateway.pid);
            let children = std::fs::read_to_string(children).expect("the tracer's children");
            gateway.pid = children.trim().parse().expect("one child of the tracer");
        }
        gateway
    }

    /// The gateway's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its resident set, in kB.
    pub fn resident_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its resident set");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.signal("KILL");
        self.child.wait().expect("the child's end");
    }

    /// SIGTERM, and waits for the end of the drain.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        eventually("the gateway has ended", PATIENCE, || self.child.try_wait().expect("the child's state"))
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status();
        assert!(status.expect("kill to run").success(), "SIG{name} reached the gateway");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal("KILL");
            self.child.wait().expect("the child's end");
        }
    }
}

/// The `openmesh` binary: the one that `OPENMESH_BIN` names, or else built once with the profile of the test that asks.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("OPENMESH_BIN").map_or_else(build, PathBuf::from)).clone()
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("this test's path");
    let folder = test.ancestors().nth(2).expect("target/<profile>").to_owned();
    let profile = match folder.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "gateway", "--bin", "openmesh", "--profile", profile])
        .arg("--target-dir")
        .arg(folder.parent().expect("target"))
        .current_dir(repository())
        .status();
    assert!(status.expect("cargo to run").success(), "the gateway builds");
    folder.join("openmesh")
}
