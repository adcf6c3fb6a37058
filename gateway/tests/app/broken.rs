//! A store that can't be opened for what is in it: the gateway says so, takes nothing, and does not end.

use std::{fs, net::TcpStream, path::Path, process::Stdio};

use crate::{
    cli::{Gateway, openmesh, text},
    support::{Site, get},
};

/// A store with a message, whose files no one can read any more; and the ports where its gateway listened.
fn broken() -> (Site, String) {
    let site = Site::shipped();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text_of = site.config_text("").replace("http: { listen: 127.0.0.1:0", &format!("http: {{ listen: '{free}'"));
    assert!(text_of.contains(&free.to_string()), "{text_of}");
    site.write("gateway.yaml", &text_of);
    let mut gateway = Gateway::run(&site);
    gateway.admin();
    let url = format!("http://{free}");
    let sent = openmesh(&["send", "/telemetry/7/temperature", "--url", &url, "-d", r#"{"f":50,"unit":"F"}"#]);
    assert!(sent.status.success(), "{sent:?}");
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));
    spoil(&site.data());
    (site, free.to_string())
}

/// Overwrites the storage engine's own files.
fn spoil(folder: &Path) {
    fs::write(folder.join("keyspaces").join("no-keyspace"), "?").unwrap();
    for file in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|file| file.path().is_file()) {
        fs::write(file.path(), "?").unwrap();
    }
}

fn admin_of(lines: &[String]) -> std::net::SocketAddr {
    let line = lines.iter().find_map(|line| line.trim().strip_prefix("admin")).unwrap();
    line.trim().strip_prefix("http://").unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_store_is_told_of_and_mended_while_the_gateway_stays_and_takes_nothing() {
    let (site, web) = tokio::task::spawn_blocking(broken).await.unwrap();
    let log = site.config().with_file_name("broken.log");
    let mut gateway = Gateway::run_with(&site, Stdio::from(fs::File::create(&log).unwrap()));
    let said = gateway.said_until("/readyz");
    assert!(said.iter().any(|line| line.starts_with("NOT READY")), "{said:#?}");
    let admin = admin_of(&said);
    assert_eq!(get(admin, "/healthz").await.status, 200);
    let ready = get(admin, "/readyz").await;
    let why = ready.json()["why"].as_str().unwrap().to_owned();
    assert_eq!(ready.status, 503, "{ready:?}");
    let data = site.data().display().to_string();
    for part in [
        "the store can't be opened",
        "(the storage engine says: ",
        &format!("`openmesh store check --path {data}`"),
        "store repair --path",
    ] {
        assert!(why.contains(part), "{part:?} is not in {why}");
    }
    for path in ["/ledger", "/messages", "/subscriptions"] {
        let answer = get(admin, path).await;
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(answer.text.contains("the store can't be opened: /readyz says why"), "{path}: {answer:?}");
    }
    assert_eq!(get(admin, "/routes").await.status, 200);
    assert_eq!(get(admin, "/metrics").await.status, 200);
    let refused = TcpStream::connect(&web).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "nobody may think that it takes messages");
    let url = format!("http://{admin}");
    let status = tokio::task::spawn_blocking(move || openmesh(&["status", "--url", &url])).await.unwrap();
    let page = text(&status.stdout);
    assert_eq!(status.status.code(), Some(1), "{page}");
    assert!(page.starts_with("NOT READY      the store can't be opened: "), "{page}");
    assert!(page.contains("\nstore          the store can't be opened: /readyz says why\n"), "{page}");

    // nothing has the folder open: it is mended while the gateway that can't is still there
    let repaired = tokio::task::spawn_blocking(move || openmesh(&["store", "repair", "--path", &data])).await.unwrap();
    let repaired_said = format!("{}{}", text(&repaired.stdout), text(&repaired.stderr));
    assert!(!repaired_said.contains("another process has it open"), "{repaired_said}");
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("the store can't be opened").count(), 1, "{log}");
}

#[test]
fn what_another_process_has_open_or_no_folder_can_be_ends_the_start() {
    let site = Site::shipped();
    fs::create_dir_all(site.data().parent().unwrap()).unwrap();
    fs::write(site.data(), "a file").unwrap();
    let ended = openmesh(&["run", "--config", site.config().to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("store "), "{}", text(&ended.stderr));
}
