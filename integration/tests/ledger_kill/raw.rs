//! Frames of a WebSocket that are messages themselves, at a path that a mapping takes; its mapping names them.

use std::{collections::VecDeque, thread, time::Duration};

use integration::Subscriber;
use serde_json::json;

use crate::Stage;

pub(crate) const MAPPINGS: &[(&str, &str)] = &[(
    "kill-raw",
    "from: { bridge: web, address: \"WEBSOCKET /raw/{sender}\" }\nidentity: payload.name\n\
     envelope: { topic: many/raw, data: { name: \"${payload.name}\" } }\nack: durable\n",
)];

/// How many frames wait for their answers.
const WINDOW: usize = 4;

/// Sends a few frames ahead of the answers, which come in order; those without one are sent again when the connection breaks.
pub(crate) fn send(stage: &Stage, sender: usize) {
    let (mut next, mut waiting, mut last) = (0, VecDeque::new(), String::new());
    while !(stage.is_over() && waiting.is_empty()) {
        let Some(mut socket) = Subscriber::connect_at(stage.site.http, &format!("/raw/{sender}")) else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        let name = |n: usize| format!("r{sender}-{n}");
        let mut is_open = waiting.iter().all(|n| socket.send(&json!({ "name": name(*n) })).is_some());
        while is_open && !(stage.is_over() && waiting.is_empty()) {
            while is_open && waiting.len() < WINDOW && !stage.is_over() {
                is_open = socket.send(&json!({ "name": name(next) })).is_some();
                waiting.push_back(next);
                next += 1;
            }
            let Some(answer) = socket.frame() else { break };
            let n = waiting.pop_front().expect("a frame without an answer");
            let position = answer["position"].as_str().unwrap_or_else(|| panic!("{}: {answer}", name(n))).to_owned();
            assert!(last < position, "{} is stored at {position}, before {last}", name(n));
            last = position;
            stage.many.tell(answer["id"].as_str().expect("an id").to_owned(), name(n));
        }
    }
}
