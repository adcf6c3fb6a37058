//! The built `openmesh` as a user meets it.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, sync_channel},
};

use crate::support::{PATIENCE, Site};

pub(crate) fn openmesh(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openmesh")).args(args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The lines of a child's output, read in a thread so that waiting for one can end.
fn lines(out: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = sync_channel(64);
    std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

/// `openmesh run` as a child; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    lines: Receiver<String>,
}

impl Gateway {
    pub(crate) fn run(site: &Site) -> Self {
        Self::run_with(site, Stdio::inherit())
    }

    /// Its log goes to `log`.
    pub(crate) fn run_with(site: &Site, log: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_openmesh"))
            .args(["run", "--config", site.config().to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = lines(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// What it prints when it has started, to the last of the two lines to try.
    fn banner(&self) -> Vec<String> {
        self.said_until(" tail ")
    }

    /// What it prints, to the first line with `what` in it.
    pub(crate) fn said_until(&self, what: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.contains(what)) {
            let line = self.lines.recv_timeout(PATIENCE);
            lines.push(line.unwrap_or_else(|error| panic!("{error} after {lines:#?}")));
        }
        lines
    }

    /// Where its admin API listens, once it does.
    pub(crate) fn admin(&self) -> SocketAddr {
        let banner = self.banner();
        let line = banner.iter().find_map(|line| line.trim().strip_prefix("admin")).unwrap();
        line.trim().strip_prefix("http://").unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let ended = std::time::Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if std::time::Instant::now() > ended => panic!("it does not end"),
                None => std::thread::park_timeout(std::time::Duration::from_millis(5)),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_a_usage_error() {
    assert_eq!(openmesh(&["fly"]).status.code(), Some(2));
    assert_eq!(openmesh(&["tail", "a//b"]).status.code(), Some(2));
    assert_eq!(openmesh(&["--help"]).status.code(), Some(0));
}

#[test]
fn check_says_what_there_is_and_what_makes_a_retry_a_duplicate() {
    let site = Site::shipped();
    let done = openmesh(&["check", "--config", site.config().to_str().unwrap()]);
    let said = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(said.contains("mapping plant-temperature: web POST /telemetry/{line}/temperature"), "{said}");
    let mappings = said.lines().filter(|line| line.starts_with("mapping ")).count();
    assert_eq!(said.matches("a sender's retry is a duplicate by").count(), mappings, "once for each mapping:\n{said}");
    assert!(said.contains("\n  envelope.data.celsius: proven\n  envelope.data.line: proven\n"), "{said}");
    assert!(said.contains("Idempotency-Key") && said.contains("payload.batch"), "{said}");
}

#[test]
fn check_says_of_each_part_of_what_is_sent_or_answered_whether_it_is_proven() {
    let site = Site::shipped();
    let chat = "  chat: { webhook: { url: \"https://chat.example.org\" } }\n";
    site.write("gateway.yaml", &site.config_text(chat));
    let allows = "permit (principal == Principal::\"$bridge:chat\", action == Action::\"subscribe\", resource);\n";
    site.write("policies/chat.cedar", allows);
    let tells = "mapping: tell-oven\nfrom: { topic: ovens/+, schema: schemas/machine-status.json }\nto:\n  bridge: chat\n  \
                 address: POST /hooks/${payload.state}\n  headers: { x-site: \"${payload.site}\" }\n  \
                 body: { text: \"${payload.site} is ${payload.state}\" }\n";
    site.write("mappings/tell.yaml", tells);
    let answers = "mapping: answers\nfrom: { bridge: web, address: POST /answers }\nenvelope: { topic: t }\n\
                   reply: { on: accepted, status: 201, body: { id: \"${receipt.id}\" } }\n";
    site.write("mappings/answers.yaml", answers);
    let config = site.config();
    let done = openmesh(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let text = text(&done.stdout);
    let manual = "mapping tell-oven: ovens/+  ->  chat POST /hooks/${payload.state}\n  to.address: proven\n  \
                  to.headers.x-site: checked at run time: payload.site: may have control characters\n  \
                  to.body.text: always there, held to no schema\n";
    assert!(text.contains(manual), "docs/mapping.md shows the same:\n{text}");
    assert!(text.contains("\n  reply.body.id: always there, held to no schema\n"), "{text}");
    let checked = said(&openmesh(&["check", "--format", "json", "--config", config.to_str().unwrap()]));
    let sender = &checked["senders"][0];
    assert_eq!((&sender["mapping"], &sender["fields"][0]["verdict"]), (&"tell-oven".into(), &"proven".into()));
    let mappings = checked["mappings"].as_array().unwrap();
    let answers = mappings.iter().find(|mapping| mapping["mapping"] == "answers").unwrap();
    assert_eq!(answers["replies"][0]["field"], "reply.body.id");
}

#[test]
fn check_fails_with_every_error_and_their_number() {
    let site = Site::shipped();
    site.write("policy.yaml", "anonymus: true\n");
    site.write("mappings/broken.yaml", "mapping: broken\n");
    let done = openmesh(&["check", "--config", site.config().to_str().unwrap()]);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("policy.yaml:1:1") && said.contains("broken.yaml"), "{said}");
    assert!(said.trim_end().ends_with("errors"), "{said}");
}

#[test]
fn test_runs_what_is_asked_for() {
    let site = Site::shipped();
    let config = site.config();
    let done = openmesh(&["test", "--config", config.to_str().unwrap(), "plant-temperature"]);
    let said = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains("ok    plant-temperature: fahrenheit becomes celsius"), "{said}");
    assert!(!said.contains("machine-status") && said.contains(" passed, 0 failed"), "{said}");
    assert_eq!(openmesh(&["test", "--config", config.to_str().unwrap(), "nobody"]).status.code(), Some(1));
}

fn said(done: &Output) -> serde_json::Value {
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

#[test]
fn machines_are_told_the_same_with_stable_codes() {
    let site = Site::shipped();
    let config = site.config();
    let json =
        |command: &[&str]| openmesh(&[command, &["--format", "json", "--config", config.to_str().unwrap()]].concat());
    let checked = said(&json(&["check"]));
    let mappings = checked["mappings"].as_array().unwrap();
    let temperature = mappings.iter().find(|mapping| mapping["mapping"] == "plant-temperature").unwrap();
    let field = |name: &str| {
        let mut fields = temperature["fields"].as_array().unwrap().iter();
        fields.find(|field| field["field"] == name).unwrap_or_else(|| panic!("{name} is not in {temperature}"))
    };
    for proven in ["envelope.data.celsius", "envelope.performative", "envelope.schema"] {
        assert_eq!(field(proven)["verdict"], "proven", "{temperature}");
    }
    assert_eq!(field("envelope.topic")["verdict"], "at-run-time", "{temperature}");
    let why = "address.line: may have characters that are not allowed in what is put into a topic";
    assert_eq!(field("envelope.topic")["why"][0], why, "{temperature}");
    let tested = said(&json(&["test", "--fuzz=50", "--seed", "7"]));
    assert_eq!((&tested["ok"], &tested["failed"], &tested["fuzz"]["seed"]), (&true.into(), &0.into(), &7.into()));
    let input = site.config().with_file_name("input.json");
    std::fs::write(&input, r#"{"f": "hot", "unit": "F"}"#).unwrap();
    let tried =
        ["try", "plant-temperature", "--input", input.to_str().unwrap(), "--address", "POST /telemetry/7/temperature"];
    let done = json(&tried);
    assert_eq!((done.status.code(), &done.stderr[..]), (Some(1), &b""[..]));
    let refused = &said(&done)["refused"];
    assert_eq!((&refused["code"], &refused["pointer"]), (&"M1004".into(), &"/f".into()), "{refused}");
    std::fs::write(&input, r#"{"f": 50, "unit": "F"}"#).unwrap();
    assert_eq!(said(&json(&tried))["envelopes"][0]["subject"], "telemetry/7/temperature");

    site.write("mappings/broken.yaml", "mapping: broken\nfrm: 1\n");
    let done = json(&["check"]);
    let errors = said(&done)["errors"].as_array().unwrap().clone();
    assert_eq!(done.status.code(), Some(1));
    let unknown = errors.iter().find(|error| error["code"] == "M0201").unwrap_or_else(|| panic!("{errors:?}"));
    assert_eq!((&unknown["line"], &unknown["column"], &unknown["name"]), (&2.into(), &1.into(), &"unknown-key".into()));
    assert!(unknown["shown"].as_str().unwrap().contains("^^^"), "{unknown}");
}

#[test]
fn schema_prints_what_editors_find() {
    let shipped = Site::shipped();
    for (args, name) in [
        (&["schema"][..], "mapping"),
        (&["schema", "mapping"], "mapping"),
        (&["schema", "policy"], "policy"),
        (&["schema", "gateway"], "gateway"),
    ] {
        let done = openmesh(args);
        let checked_in = std::fs::read(shipped.config().with_file_name(format!("formats/{name}.json"))).unwrap();
        assert_eq!((done.status.code(), done.stdout == checked_in), (Some(0), true), "{args:?}");
    }
}

#[test]
fn made_up_messages_are_told_with_their_seed() {
    let site = Site::shipped();
    let done =
        openmesh(&["test", "--config", site.config().to_str().unwrap(), "--fuzz", "--seed", "3", "plant-temperature"]);
    let said = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains("ok    plant-temperature: ") && said.contains("made-up messages mapped"), "{said}");
    assert!(said.contains("--seed 3"), "{said}");
}

#[test]
fn tail_says_when_nobody_answers() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done = openmesh(&["tail", "telemetry/#", "--url", &format!("ws://{free}/mesh/v1/ws")]);
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("no gateway answers at ws://127.0.0.1:"), "{}", text(&done.stderr));
}

#[test]
fn every_command_that_run_prints_works_and_sigterm_ends_it_with_zero() {
    let site = Site::shipped();
    let mut gateway = Gateway::run(&site);
    let banner = gateway.banner();
    assert!(banner.iter().any(|line| line.contains("plant-temperature")), "{banner:#?}");
    let commands: Vec<_> = banner.iter().skip_while(|line| *line != "try").skip(1).map(|line| line.trim()).collect();
    let [curl, tail] = commands[..] else { panic!("not two lines to try: {banner:#?}") };
    let posted = Command::new("sh").args(["-c", &format!("{curl} -s -S")]).output().unwrap();
    assert!(text(&posted.stdout).starts_with("HTTP/1.1 202"), "{curl}: {posted:?}");
    let shown = Command::new("sh").args(["-c", &format!("{tail} --count 1")]).output().unwrap();
    let line = text(&shown.stdout);
    assert!(shown.status.success() && line.contains("  telemetry/"), "{tail}: {shown:?}");

    let config = site.config();
    let second = openmesh(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another process has it open"), "{}", text(&second.stderr));

    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn tail_ends_with_its_reader_before_anything_else_passes() {
    let site = Site::shipped();
    let gateway = Gateway::run(&site);
    let banner = gateway.banner();
    let [curl, tail] = &banner[banner.len() - 2..] else { panic!("{banner:#?}") };
    assert!(Command::new("sh").args(["-c", &format!("{curl} -s")]).output().unwrap().status.success());
    // A shell waits for all of a pipeline.
    let mut shell = Command::new("timeout")
        .args([&PATIENCE.as_secs().to_string(), "sh", "-c", &format!("{tail} | head -n 1")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = lines(shell.stdout.take().unwrap()).recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("telemetry/"), "{line}");
    assert_eq!(shell.wait().unwrap().code(), Some(0));
}

#[test]
fn tail_shows_an_open_gateways_end() {
    let site = Site::shipped();
    let mut gateway = Gateway::run(&site);
    let banner = gateway.banner();
    let url = banner.last().unwrap().split("--url ").nth(1).unwrap().trim().to_owned();
    let mut tail = Command::new(env!("CARGO_BIN_EXE_openmesh"))
        .args(["tail", "telemetry/#", "--url", &url, "--from", "earliest"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let curl = banner[banner.len() - 2].trim();
    assert!(Command::new("sh").args(["-c", &format!("{curl} -s")]).output().unwrap().status.success());
    let line = lines(tail.stdout.take().unwrap()).recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("telemetry/"), "{line}");
    gateway.signal("INT");
    assert_eq!(gateway.exit_code(), Some(0));
    let ended = tail.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("the gateway is gone"), "{}", text(&ended.stderr));
}

#[test]
fn map_init_writes_what_holds_and_overwrites_nothing() {
    let site = Site::shipped();
    let config = site.config();
    let sample = config.with_file_name("meter-reading.json");
    std::fs::write(&sample, r#"{"meter": "m1", "kwh": 12.50, "at": ["hall", 7]}"#).unwrap();
    let init = ["map", "init", "--from", sample.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let done = openmesh(&init);
    assert!(done.status.success(), "{done:?}");
    let folder = config.parent().unwrap();
    let written = std::fs::read_to_string(folder.join("mappings/meter-reading.yaml")).unwrap();
    assert!(written.contains("address: \"POST /meter-reading\"") && written.contains("${payload.kwh}"), "{written}");
    let editors = "# yaml-language-server: $schema=../formats/mapping.json\n";
    assert!(written.starts_with(editors), "{written}");
    let tested = openmesh(&["test", "meter-reading", "--config", config.to_str().unwrap()]);
    assert!(tested.status.success(), "{tested:?}");

    let again = openmesh(&init);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "{again:?}");
    assert_eq!(std::fs::read_to_string(folder.join("mappings/meter-reading.yaml")).unwrap(), written);

    // an address that another mapping takes: nothing stays written
    let clash = [&init[..], &["--name", "clash", "--address", "POST /meter-reading"]].concat();
    assert_eq!(openmesh(&clash).status.code(), Some(1));
    assert!(!folder.join("mappings/clash.yaml").exists() && !folder.join("schemas/clash.json").exists());
}

#[test]
fn a_message_that_is_sent_is_a_receipt_and_is_seen_in_the_status() {
    let site = Site::shipped();
    let gateway = Gateway::run(&site);
    let banner = gateway.banner();
    let address = |name: &str| {
        let line = banner.iter().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        line.trim().split(' ').next().unwrap().to_owned()
    };
    let (web, admin) = (address("web"), address("admin"));
    let sent = openmesh(&["send", "POST /telemetry/7/temperature", "--url", &web, "-d", r#"{"f":50,"unit":"F"}"#]);
    assert!(sent.status.success() && text(&sent.stdout).contains("\"duplicate\":false"), "{}", text(&sent.stderr));
    let keyed = || {
        let mut args = vec!["send", "/telemetry/7/temperature", "--url", &web, "-d", r#"{"f":51,"unit":"F"}"#];
        args.extend(["--idempotency-key", "k-1"]);
        text(&openmesh(&args).stdout)
    };
    assert_eq!(keyed(), keyed(), "a retry gets the first answer");
    let refused = openmesh(&["send", "/telemetry/7/temperature", "--url", &web, "-d", r#"{"f":"hot","unit":"F"}"#]);
    assert_eq!((refused.status.code(), text(&refused.stdout).as_str()), (Some(1), ""));
    assert!(text(&refused.stderr).contains("decided by mapping.from.schema"), "{}", text(&refused.stderr));
    let status = openmesh(&["status", "--url", &admin]);
    let page = text(&status.stdout);
    assert!(status.status.success(), "{page}{}", text(&status.stderr));
    for line in ["ready          takes messages", "ledger         balanced", "1 rejected (1 malformed), 0 in flight"] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
    let json = openmesh(&["status", "--json", "--url", &admin]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ledger"]["bridges"]["web"]["duplicate"], 1, "{json:#}");
}

#[test]
fn a_gateway_that_is_away_is_named() {
    for command in [&["status", "--url", "http://127.0.0.1:1"][..], &["send", "/a", "--url", "http://127.0.0.1:1"]] {
        let output = openmesh(command);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).starts_with("no gateway answers at http://127.0.0.1:1"), "{output:?}");
    }
}

#[test]
fn completions_and_manual_pages_are_made_of_the_command_line() {
    let script = text(&openmesh(&["completions", "bash"]).stdout);
    assert!(script.contains("_openmesh()") && script.contains("--idempotency-key"), "{script}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    assert!(openmesh(&["man", pages.to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(pages.join("openmesh-send.1")).unwrap();
    assert!(page.contains("idempotency"), "{page}");
}

#[test]
fn a_store_is_looked_after_while_its_gateway_does_not_run() {
    let site = Site::shipped();
    let config = site.config();
    let store = |args: &[&str]| {
        let mut all = vec!["store"];
        all.extend(args);
        all.extend(["--config", config.to_str().unwrap()]);
        openmesh(&all)
    };
    let mut gateway = Gateway::run(&site);
    let banner = gateway.banner();
    let web = banner.iter().find_map(|line| line.trim().strip_prefix("web")).unwrap();
    let web = web.trim().split(' ').next().unwrap().to_owned();
    let sent = openmesh(&["send", "/telemetry/7/temperature", "--url", &web, "-d", r#"{"f":50,"unit":"F"}"#]);
    assert!(sent.status.success());
    let busy = store(&["check"]);
    assert!(!busy.status.success() && text(&busy.stderr).contains("another process has it open"), "{busy:?}");
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));

    let page = text(&store(&["inspect"]).stdout);
    assert!(page.contains("ledger         balanced") && page.contains("log            1 ("), "{page}");
    let checked = store(&["check"]);
    assert!(checked.status.success() && text(&checked.stdout).contains("are in order"), "{checked:?}");
    let lines = site.data().with_file_name("lines");
    let exported = store(&["export", lines.to_str().unwrap()]);
    assert!(exported.status.success(), "{exported:?}");
    let line = std::fs::read_to_string(&lines).unwrap();
    assert!(line.contains(r#""mapping":"plant-temperature""#) && line.contains(r#""celsius":10"#), "{line}");
    let imported = text(&store(&["import", lines.to_str().unwrap()]).stdout);
    assert_eq!(imported, format!("0 envelopes stored, {} were there\n", line.lines().count()));
    let repaired = store(&["repair"]);
    assert!(repaired.status.success(), "{repaired:?}");
    assert!(store(&["check"]).status.success());
}
