//! `kill -9` can't show an early ack, because the page cache survives it. So this traces the system calls: between the
//! write that carries an envelope's id to disk and the write that carries its receipt to the client there is an
//! `fdatasync` of the same file that began after the one and ended before the other.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

use std::{collections::HashMap, ffi::OsStr, fs, path::Path, thread};

use integration::{Gateway, Site, client::Client};

const SENDERS: usize = 8;
const EACH: usize = 25;

/// One finished system call of the trace.
struct Call<'t> {
    began: f64,
    ended: f64,
    name: &'t str,
    file: &'t str,
    /// What was written, as strace's `\xNN` escapes.
    bytes: &'t str,
}

#[test]
fn no_receipt_before_the_fdatasync_that_covers_its_message() {
    let site = Site::shipped();
    let trace = site.scratch("trace");
    let tracer: Vec<&OsStr> = [
        "strace",
        "-f",
        "-qq",
        "-ttt",
        "-T",
        "-yy",
        "-xx",
        "-s",
        "4000000",
        "-e",
        "signal=none",
        "-e",
        "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fdatasync,fsync,sync_file_range,msync",
        "-o",
    ]
    .into_iter()
    .map(OsStr::new)
    .chain([trace.as_os_str()])
    .collect();
    let gateway = Gateway::start_under(&tracer, &site);
    let ids: Vec<String> = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| publish(&site))).collect();
        senders.into_iter().flat_map(|sender| sender.join().expect("a sender's end")).collect()
    });
    assert!(gateway.terminate().success());
    assert_eq!(ids.len(), SENDERS * EACH);
    check(&trace, &ids);
}

fn publish(site: &Site) -> Vec<String> {
    let client = Client::new();
    let send = |_| {
        let answer = client.post(&site.url("/telemetry/7/temperature"), &[], br#"{"f":50,"unit":"F"}"#);
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.body["id"].as_str().expect("an id").to_owned()
    };
    (0..EACH).map(send).collect()
}

fn check(trace: &Path, ids: &[String]) {
    let text = fs::read_to_string(trace).expect("the trace");
    let calls = finished(&text);
    let syncs: Vec<_> = calls.iter().filter(|call| matches!(call.name, "fdatasync" | "fsync")).collect();
    assert!(!syncs.is_empty(), "the gateway syncs");
    for id in ids {
        let raw: String =
            id.replace('-', "").as_bytes().chunks(2).map(|pair| format!("\\x{}", as_text(pair))).collect();
        let told: String = id.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        let carries = |call: &&Call<'_>, needle: &str| call.bytes.contains(needle);
        let receipt = calls.iter().find(|call| call.file.contains("TCP") && carries(call, &told));
        let receipt = receipt.unwrap_or_else(|| panic!("no receipt for {id} in the trace"));
        let stored: Vec<_> = calls.iter().filter(|call| !call.file.contains("TCP") && carries(call, &raw)).collect();
        assert!(!stored.is_empty(), "no write of {id} to a file in the trace");
        let covered = stored.iter().any(|write| {
            syncs.iter().any(|s| s.file == write.file && s.began >= write.ended && s.ended <= receipt.began)
        });
        assert!(covered, "the receipt of {id} came before its message was synced");
    }
}

fn as_text(pair: &[u8]) -> &str {
    std::str::from_utf8(pair).expect("hexadecimal digits")
}

/// Reads `PID TIME name(FD<file>, bytes...) = result <duration>` and the two halves of an interrupted line.
fn finished(text: &str) -> Vec<Call<'_>> {
    let mut halves: HashMap<&str, (f64, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let Some((time, rest)) = rest.trim_start().split_once(' ') else { continue };
        let Ok(now) = time.parse::<f64>() else { continue };
        if let Some(head) = rest.strip_suffix(" <unfinished ...>") {
            halves.insert(pid, (now, head));
        } else if rest.starts_with("<... ") {
            let Some((began, head)) = halves.remove(pid) else { continue };
            calls.extend(call(began, head, now));
        } else {
            let took = rest.rsplit_once('<').and_then(|(_, took)| took.trim_end_matches('>').parse::<f64>().ok());
            calls.extend(call(now, rest, now + took.unwrap_or(0.0)));
        }
    }
    calls
}

fn call(began: f64, text: &str, ended: f64) -> Option<Call<'_>> {
    let (name, rest) = text.split_once('(')?;
    let (_, rest) = rest.split_once('<')?;
    // the name of a TCP socket has an arrow in it: TCP:[127.0.0.1:80->127.0.0.1:90]
    let end = rest.find(">,").or_else(|| rest.find(">)")).or_else(|| rest.rfind('>'))?;
    let (file, bytes) = rest.split_at(end);
    Some(Call { began, ended, name, file, bytes })
}
