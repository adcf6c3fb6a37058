//! Shared subscriptions with members that others wrote, some of which die in the middle.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use integration::{Gateway, eventually, site::repository};

use crate::{Floor, PATIENCE, paho::Paho};

/// A member that is mqtt.js, and the lines that it printed.
struct Js {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

// === impl Js ===

impl Js {
    fn start(floor: &Floor, version: &str, filter: &str) -> Self {
        let mut child = Command::new("node")
            .arg(repository().join("integration/tests/mqtt/member.mjs"))
            .args([&format!("mqtt://{}", floor.mqtt), version, &format!("js-{version}"), "1", filter])
            .env("NODE_PATH", repository().join("target/tools/node_modules"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("node to run");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (output, into) = (child.stdout.take().expect("its output"), lines.clone());
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| into.lock().expect("lines").push(line));
        });
        Self { child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("lines").clone()
    }
}

impl Drop for Js {
    fn drop(&mut self) {
        // it may have ended by itself
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The numbers that a member printed.
fn numbers(lines: &[String]) -> Vec<u32> {
    let number = |line: &String| line.strip_prefix("{\"n\":")?.strip_suffix('}')?.parse().ok();
    lines.iter().filter_map(number).collect()
}

#[test]
fn of_members_of_paho_and_mqtt_js_two_die_and_the_others_get_what_they_had_not_acknowledged() {
    const COUNT: u32 = 600;
    let floor = Floor::new();
    let _gateway = Gateway::start(&floor.site);
    let share = "$share/workers/floor/#";
    let pahos = ["4", "5"].map(|version| Paho::start(&floor, &["subscribe", version, "1", share]));
    let scripts = ["4", "5"].map(|version| Js::start(&floor, version, share));
    let is_ready = |lines: &[String]| lines.iter().any(|line| line == "ready");
    eventually("all are members", PATIENCE, || {
        let paho = pahos.iter().all(|member| is_ready(&member.lines()));
        (paho && scripts.iter().all(|member| is_ready(&member.lines()))).then_some(())
    });
    let publisher = Paho::start(&floor, &["publish", "5", "1", &COUNT.to_string()]);
    let ([survives, dies], [dies_too, survives_too]) = (pahos, scripts);
    // one of each library and of each version
    eventually("those that will die have had some", PATIENCE, || {
        let enough = |lines: &[String]| numbers(lines).len() >= 20;
        (enough(&dies.lines()) && enough(&dies_too.lines())).then_some(())
    });
    let printed = [dies.lines.clone(), dies_too.lines.clone()];
    drop((dies, dies_too));
    // what they have printed may still be on its way here
    let dead = || printed.iter().flat_map(|lines| numbers(&lines.lock().expect("lines"))).collect::<BTreeSet<_>>();
    eventually("all are acknowledged", PATIENCE, || (publisher.lines().len() as u32 == COUNT).then_some(()));
    let living = || [numbers(&survives.lines()), numbers(&survives_too.lines())];
    eventually("each message has reached a member", PATIENCE, || {
        let had: BTreeSet<_> = living().concat().into_iter().chain(dead()).collect();
        (had == (0..COUNT).collect()).then_some(())
    });
    floor.assert_balanced();
    let [one, other] = living();
    assert!(!one.is_empty() && !other.is_empty(), "both take part");
    let both: BTreeSet<_> = one.iter().chain(&other).collect();
    assert_eq!(both.len(), one.len() + other.len(), "no living member gets what another has");
    let again = dead().iter().filter(|number| both.contains(number)).count();
    // what was in flight to the two when they died
    assert!(again <= 128, "{again} again");
}
