//! paho-mqtt as a child process; what it does is in `exactly_once.py`.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use integration::site::repository;

use crate::Floor;

/// A client, and the lines that it printed.
pub(crate) struct Paho {
    child: Child,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
}

/// A script of this folder, with the Python that has paho.
pub(crate) fn script(name: &str) -> Command {
    let venv = repository().join("target/tools/bin/python");
    let mut python = Command::new(if venv.exists() { venv } else { PathBuf::from("python3") });
    python.arg(repository().join("integration/tests/mqtt").join(name));
    python
}

impl Paho {
    /// Over TCP.
    pub(crate) fn start(floor: &Floor, arguments: &[&str]) -> Self {
        Self::over("tcp", floor.mqtt.port(), arguments)
    }

    /// Over `tcp` or `websockets`.
    pub(crate) fn over(transport: &str, port: u16, arguments: &[&str]) -> Self {
        let (first, rest) = arguments.split_first().expect("what to do");
        let mut child = script("exactly_once.py")
            .args([first, "127.0.0.1", &port.to_string()])
            .args(rest)
            .env("TRANSPORT", transport)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("paho to run");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (output, into) = (child.stdout.take().expect("its output"), lines.clone());
        thread::spawn(move || {
            BufReader::new(output)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| into.lock().expect("lines").push(line));
        });
        Self { child, lines }
    }

    /// Ends its standard input.
    pub(crate) fn finish(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("lines").clone()
    }
}

impl Drop for Paho {
    fn drop(&mut self) {
        // it may have ended by itself
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
