use yaml::{Diagnostics, File};

use super::*;

fn read(text: &str) -> Result<HttpConfig, Diagnostics> {
    let file = File::parse("gateway.yaml", text).unwrap();
    let problems = file.problems();
    let config = HttpConfig::read(file.root(), Path::new(""), &problems);
    problems.finish(config)
}

#[test]
fn an_address_is_enough() {
    assert_eq!(read("listen: 127.0.0.1:8080").unwrap(), HttpConfig::new("127.0.0.1:8080".parse().unwrap()));
}

#[test]
fn every_key_is_read() {
    let config = read(
        "{ listen: '[::1]:0', max_payload_bytes: 2 MiB, max_header_bytes: 8192, max_connections: 7, max_connections_per_address: 4,
           header_timeout: 5s, body_timeout: 6s, write_timeout: 7s, allowed_hosts: ['Gateway.example:8080'],
           allowed_origins: ['https://console.example'], plain_text: true, allow_anonymous: true,
           websocket: { max_frame_bytes: 4096, max_subscriptions: 3, max_credit: 9, ping_interval: 10s,
                        retry_for: 1m } }",
    )
    .unwrap();
    let seconds = Duration::from_secs;
    let server = ServerConfig {
        listen: "[::1]:0".parse().unwrap(),
        max_header_bytes: 8_192,
        max_connections: 7,
        max_connections_per_address: 4,
        header_timeout: seconds(5),
        write_timeout: seconds(7),
        allowed_hosts: Some(vec!["gateway.example:8080".to_owned()]),
        allowed_origins: vec!["https://console.example".to_owned()],
        tls: None,
        plain_text: true,
        allow_anonymous: true,
    };
    let websocket = WebSocketConfig {
        max_frame_bytes: 4_096,
        max_subscriptions: 3,
        max_credit: 9,
        ping_interval: seconds(10),
        retry_for: seconds(60),
        paths: Vec::new(),
    };
    assert_eq!(
        config,
        HttpConfig { server, max_payload_bytes: 2 << 20, body_timeout: seconds(6), heartbeat: seconds(15), websocket }
    );
}

#[test]
fn paths_where_frames_are_messages_are_paths_of_messages() {
    let with = |paths: &str| read(&format!("{{ listen: 127.0.0.1:0, websocket: {{ paths: {paths} }} }}"));
    assert_eq!(with("[/MESSAGES, /feeds/*, /*]").unwrap().websocket.paths, ["/MESSAGES", "/feeds/*", "/*"]);
    for (paths, says) in [
        ("[MESSAGES]", "\"MESSAGES\" is no path of messages: the path does not begin with '/'"),
        ("[/mesh/v1/ws]", "paths under /mesh/v1 are never mapped"),
        ("[/a//b]", "an empty segment"),
        ("[/a/../b]", "the segment \"..\""),
    ] {
        let found = with(paths).unwrap_err();
        assert!(
            found.iter().any(|problem| problem.code == "path" && problem.message.contains(says)),
            "{paths}: {found:?}"
        );
    }
    assert!(with(&format!("[{}]", vec!["/a"; 65].join(", "))).is_err());
}

#[test]
fn a_frame_has_room_for_the_largest_payload_unless_the_config_says_otherwise() {
    for (text, frame) in [
        ("{ listen: 127.0.0.1:0 }", 1_114_112),
        ("{ listen: 127.0.0.1:0, max_payload_bytes: 64 MiB, websocket: { max_credit: 9 } }", (64 << 20) + 65_536),
        ("{ listen: 127.0.0.1:0, max_payload_bytes: 64 MiB, websocket: { max_frame_bytes: 4096 } }", 4_096),
    ] {
        assert_eq!(read(text).unwrap().websocket.max_frame_bytes, frame, "{text}");
    }
}

#[test]
fn all_that_is_wrong_is_found_at_once() {
    let problems = read(
        "{ listen: 0.0.0.0:8080, max_payload_bytes: 0, max_connections: 100000, max_connections_per_address: 0, body_timeout: 1ms, cors: true,
           allowed_origins: [console.example], allowed_hosts: ['a b'], websocket: { retries: 3 } }",
    )
    .unwrap_err();
    let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
    for expected in [
        "refuses plain text on 0.0.0.0:8080",
        "0 is out of range: 1 to 67108864",
        "100000 is out of range",
        "0 is out of range: 1 to 65536",
        "1ms is out of range",
        "unknown key \"cors\"",
        "an origin such as",
        "a host with its port",
        "unknown key \"retries\"",
    ] {
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected} in {found:#?}");
    }
}

#[test]
fn plain_text_off_loopback_needs_a_word() {
    for (address, allowed) in [
        ("127.0.0.1:80", true),
        ("127.9.9.9:80", true),
        ("[::1]:80", true),
        ("[::ffff:127.0.0.1]:80", true),
        ("0.0.0.0:80", false),
        ("[::]:80", false),
        ("192.168.0.1:80", false),
    ] {
        let mut server = ServerConfig::new(address.parse().unwrap());
        assert_eq!((server.check_plain_text().is_ok(), server.is_exposed()), (allowed, !allowed), "{address}");
        server.plain_text = true;
        assert!(server.check_plain_text().is_ok(), "{address}");
        let read = |word: &str| read(&format!("{{ listen: '{address}'{word} }}"));
        assert_eq!(read("").is_ok(), allowed, "{address}");
        assert!(read(", plain_text: true").is_ok(), "{address}");
    }
}
