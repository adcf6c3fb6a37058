//! The harness of the end-to-end tests and benchmarks: the built binary as a child process on private loopback ports,
//! and plain clients of it.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

pub mod client;
pub mod disk;
pub mod gateway;
pub mod mosquitto;
pub mod site;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use client::{Answer, Events, Subscriber};
pub use gateway::Gateway;
pub use site::Site;

/// Asks `condition` until it gives a value. Panics with `what` after `within`.
pub fn eventually<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < within, "after {within:?} still not: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}
