//! The gateway by TLS: the admin API with client certificates, and the commands that reach a gateway over wss.

use std::{net::SocketAddr, sync::Arc};

use policy::{NewKey, StoredPassword, User, UsersFile};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use yaml::Secret;

use crate::{
    authority::Authority,
    explain::openmesh,
    support::{Answer, PATIENCE, Site, Socket, web},
};

/// With the admin API, or the bridge, by TLS; certificates beside `gateway.yaml`.
fn site(of: &str, tls: &str) -> (Site, Authority) {
    let (site, authority) = (Site::shipped(), Authority::new());
    let plain = match of {
        "admin" => "admin: { listen: 127.0.0.1:0",
        _ => "web: { http: { listen: 127.0.0.1:0",
    };
    site.write("gateway.yaml", &site.config_text("").replace(plain, &format!("{plain}, tls: {tls}")));
    let folder = site.config().parent().unwrap().to_owned();
    authority.server().write(&folder, "own");
    site.write("authority.pem", &authority.certificate());
    (site, authority)
}

async fn ask(address: SocketAddr, client: Arc<ClientConfig>, head: &str) -> Answer {
    let exchange = async {
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, socket).await.unwrap();
        let text = format!("{head} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), text: text.to_owned() }
}

#[tokio::test]
async fn the_admin_api_knows_client_certificates_puts_refusals_on_record_and_prints_no_secret() {
    let tls = "{ certificate: own.pem, key: own.key, clients: { authorities: authority.pem, optional: true } }";
    let (site, authority) = site("admin", tls);
    site.write(
        "policy.yaml",
        "anonymous: true\ncertificates:\n  - { match: { common_name: \"op-*\" }, principal: op-*, roles: [operator] }\n  \
         - { match: { common_name: \"view-*\" }, principal: view-*, roles: [viewer] }\n",
    );
    let (key, mut users) = (NewKey::generate().unwrap(), UsersFile::default());
    let password = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
    users.add_user("ada", User::default().with_password(password)).unwrap();
    users.add_key("ada", &key, None).unwrap();
    site.write("users.yaml", &users.to_string());
    let running = site.start().await;
    let admin = running.addresses().admin;
    let [operator, viewer, stranger] =
        ["op-1", "view-1", "press-7"].map(|name| authority.client_config(Some(&authority.client(name))));
    let nobody = authority.client_config(None);

    assert_eq!(ask(admin, nobody.clone(), "GET /healthz").await.status, 200);
    for (who, looks, changes) in
        [(&operator, 200, 200), (&viewer, 200, 403), (&stranger, 401, 401), (&nobody, 200, 401)]
    {
        assert_eq!(ask(admin, who.clone(), "GET /ledger").await.status, looks);
        let changed = ask(admin, who.clone(), "POST /reload").await;
        assert_eq!(changed.status, changes, "{changed:?}");
    }
    let written = std::fs::read_to_string(site.config().with_file_name("own.key")).unwrap();
    let (users, exposed) = (users.to_string(), key.key.expose().to_owned());
    let hashes: Vec<_> = users.split('"').filter(|text| text.contains("sha256:") || text.contains("argon2")).collect();
    assert_eq!(hashes.len(), 2);
    for path in ["/healthz", "/readyz", "/metrics", "/ledger", "/routes", "/", "/nowhere", "/reload"] {
        for method in ["GET", "POST"] {
            let answer = ask(admin, operator.clone(), &format!("{method} {path}")).await;
            let said = answer.head + &answer.text;
            let secrets = [written.lines().nth(1).unwrap(), &exposed[20..], "correct horse", "PRIVATE"];
            assert!(secrets.iter().chain(&hashes).all(|secret| !said.contains(secret)), "{method} {path}: {said}");
        }
    }
    let mut plain = TcpStream::connect(admin).await.unwrap();
    plain.write_all(b"GET /ledger HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_err() || !answer.starts_with(b"HTTP"), "{answer:?}");

    site.write(
        "policies/record.cedar",
        "permit(principal, action == Action::\"subscribe\", resource in Topic::\"$mesh/audit\");",
    );
    running.reload().await;
    let mut reader = Socket::subscribe(web(&running), "$mesh/audit/refused/#", "earliest", None).await;
    let mut records = Vec::new();
    for _ in 0..4 {
        let envelope = reader.envelope().await;
        assert_eq!(envelope["subject"], "$mesh/audit/refused/$admin");
        let of = |name: &str| envelope["data"][name].as_str().unwrap_or_default().to_owned();
        records.push((of("kind"), of("decided_by"), of("principal")));
    }
    let record = |kind: &str, by: &str, who: &str| (kind.to_owned(), by.to_owned(), who.to_owned());
    let expected = [
        record("denied", "access", "view-1"),
        record("unauthenticated", "authentication", ""),
        record("unauthenticated", "authentication", ""),
        record("unauthenticated", "authentication", ""),
    ];
    assert_eq!(records, expected);
}

#[tokio::test]
async fn commands_reach_a_gateway_by_tls_as_whom_their_files_say() {
    let (site, authority) = site("web", "{ certificate: own.pem, key: own.key }");
    site.write(
        "policies/all.cedar",
        "permit(principal in Role::\"reader\", action == Action::\"subscribe\", resource);",
    );
    site.write("policies/send.cedar", "permit(principal, action in Action::\"send\", resource);");
    let (key, mut users) = (NewKey::generate().unwrap(), UsersFile::default());
    let mut ada = User::default();
    ada.roles = vec!["reader".into()];
    let password = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
    users.add_user("ada", ada.with_password(password)).unwrap();
    users.add_key("ada", &key, None).unwrap();
    site.write("users.yaml", &users.to_string());
    site.write("policy.yaml", "");
    site.write("key", &format!("{}\n", key.key.expose()));
    site.write("password", "correct horse\n");
    site.write("wrong", "correct mule\n");
    site.write("other.pem", &Authority::new().certificate());
    let running = site.start().await;
    let address = web(&running);
    let client = authority.client_config(None);
    let head = format!(
        "PUT /telemetry/7/temperature HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}",
        key.key.expose()
    );
    let body = r#"{"f":50,"unit":"F"}"#;
    let stored = async {
        let socket = TcpStream::connect(address).await.unwrap();
        let mut stream =
            TlsConnector::from(client).connect(ServerName::try_from("127.0.0.1").unwrap(), socket).await.unwrap();
        let head = head.replace("PUT", "POST");
        let length = body.len();
        let text = format!("{head}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(PATIENCE, stored).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let receipt: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let id = receipt["id"].as_str().unwrap();

    let url = format!("wss://{address}/mesh/v1/ws");
    let at = |name: &str| site.config().with_file_name(name).to_str().unwrap().to_owned();
    let run = async |args: &[&str], who: &[&str]| {
        let config = site.config();
        let place: &[&str] = match args[0] {
            "tail" => &[],
            _ => &["--config", config.to_str().unwrap()],
        };
        openmesh(&[args, &["--url", &url], place, who].concat()).await
    };
    let (authority, key, password, wrong) = (at("authority.pem"), at("key"), at("password"), at("wrong"));
    let by_key = ["--ca-file", &authority, "--key-file", &key];
    let by_password = ["--ca-file", &authority, "--user", "ada", "--password-file", &password];
    let tail = ["tail", "telemetry/#", "--from", "earliest", "--count", "1", "--json"];
    let folder = site.config().parent().unwrap().to_str().unwrap().to_owned();
    let replay = ["policy", "replay", "--candidate", &folder];
    for who in [&by_key[..], &by_password[..]] {
        let (done, said) = run(&tail, who).await;
        assert!(done && said.contains("\"subject\":\"telemetry/7/temperature\""), "{said}");
        let (done, said) = run(&["explain", "--id", id, "--as", "ada"], who).await;
        assert!(done && said.contains("access"), "{said}");
        let (done, said) = run(&replay, who).await;
        assert!(done && said.contains("1 envelopes, 0 decided otherwise"), "{said}");
    }
    for (who, why) in [
        (&["--ca-file", &authority][..], "401"),
        (&["--ca-file", &authority, "--user", "ada", "--password-file", &wrong], "401"),
        (&["--ca-file", &at("other.pem"), "--key-file", &key], "no TLS"),
        (&["--ca-file", &at("nowhere.pem"), "--key-file", &key], "nowhere.pem"),
        (&["--user", "ada"], "--password-file"),
        (&["--key-file", &key, "--user", "ada", "--password-file", &password], "cannot be used with"),
    ] {
        for command in [&tail[..], &replay] {
            let (done, said) = run(command, who).await;
            assert!(!done && said.contains(why) && !said.contains("correct"), "{who:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_replay_knows_what_each_side_says_of_its_users() {
    let site = Site::shipped();
    let (key, mut users) = (NewKey::generate().unwrap(), UsersFile::default());
    let mut press = User::default();
    press.roles = vec!["device".into()];
    users.add_user("press-7", press).unwrap();
    users.add_key("press-7", &key, None).unwrap();
    let devices = "@id(\"devices\") permit(principal in Role::\"device\", action in Action::\"send\", resource);\n\
                   permit(principal == Principal::\"anonymous\", action == Action::\"subscribe\", resource);";
    site.write("policies/open.cedar", devices);
    site.write("users.yaml", &users.to_string());
    let running = site.start().await;
    let authorization = format!("Bearer {}", key.key.expose());
    let path = "/telemetry/7/temperature";
    let sent = crate::support::post_as(web(&running), Some(&authorization), path, r#"{"f":50,"unit":"F"}"#).await;
    assert_eq!(sent.status, 202);
    let candidate = Site::shipped();
    candidate.write("policies/open.cedar", devices);
    let mut without = users.clone();
    let no_roles = |mut user: User| {
        user.roles.clear();
        user
    };
    without.change_user("press-7", no_roles).unwrap();
    let (config, url) = (site.config(), format!("ws://{}/mesh/v1/ws", web(&running)));
    let replay = async |users: &UsersFile| {
        candidate.write("users.yaml", &users.to_string());
        let folder = candidate.config().parent().unwrap().to_owned();
        let (folder, config) = (folder.to_str().unwrap(), config.to_str().unwrap());
        let (done, said) =
            openmesh(&["policy", "replay", "--candidate", folder, "--config", config, "--url", &url]).await;
        assert!(done, "{said}");
        said
    };
    assert!(replay(&users).await.contains("1 envelopes, 0 decided otherwise"));
    let said = replay(&without).await;
    assert!(
        said.contains("1 envelopes, 1 decided otherwise") && said.contains("passes  ->  denied by access"),
        "{said}"
    );
    let said = replay(&UsersFile::default()).await;
    assert!(said.contains("passes  ->  unauthenticated by authentication"), "{said}");
    // now it may have come by a certificate, with whatever roles a rule gives
    let rule =
        "anonymous: true\ncertificates: [{ match: { common_name: \"*\" }, principal: \"*\", roles: [device] }]\n";
    candidate.write("policy.yaml", rule);
    let said = replay(&UsersFile::default()).await;
    assert!(said.contains("1 envelopes, 0 decided otherwise\n  1: can't be told"), "{said}");
    // unless it is said
    for (roles, outcome) in
        [("device", "1 envelopes, 0 decided otherwise\n"), ("other", "passes  ->  denied by access")]
    {
        candidate.write("senders.yaml", &format!("users: {{ press-7: {{ roles: [{roles}] }} }}\n"));
        let senders = candidate.config().with_file_name("senders.yaml");
        let folder = candidate.config().parent().unwrap().to_owned();
        let (folder, config, senders) = (folder.to_str().unwrap(), config.to_str().unwrap(), senders.to_str().unwrap());
        let replay =
            ["policy", "replay", "--candidate", folder, "--config", config, "--url", &url, "--senders", senders];
        let (done, said) = openmesh(&replay).await;
        assert!(done && said.contains(outcome) && !said.contains("can't be told"), "{said}");
    }
    // a user's roles are those of users.yaml
    let page = crate::support::get(running.addresses().admin, "/messages").await.json();
    let id = page["messages"][0]["envelope"]["id"].as_str().unwrap().to_owned();
    site.write(
        "policies/reads.cedar",
        "permit(principal in Role::\"device\", action == Action::\"subscribe\", resource);",
    );
    for (name, outcome) in [("press-7", "=> passes"), ("press-8", "=> denied")] {
        let args = ["explain", "--id", &id, "--as", name, "--config", config.to_str().unwrap(), "--url", &url];
        let (done, said) = openmesh(&args).await;
        assert!(done && said.contains(outcome), "{said}");
    }
}
