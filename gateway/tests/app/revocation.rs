//! Whoever is let in no more is out: the WebSocket that it opened is closed, and its next request refused.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use envelope::Attribute;
use gateway::{Reloaded, Running};
use policy::{NewKey, StoredPassword, User, UsersFile};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use yaml::Secret;

use crate::{
    mqtt::{Client, Wire},
    support::{PATIENCE, Site, Socket, bridge, get, post, post_as, second, web},
    tokens::Signer,
};

const REVOKED: &str = "the credentials were revoked or changed";
/// `bob:correct horse`
const BOB: &str = "Basic Ym9iOmNvcnJlY3QgaG9yc2U=";

fn site() -> Site {
    let site = Site::shipped();
    site.write("policies/all.cedar", "permit(principal, action in Action::\"send\", resource);");
    site
}

async fn sends(socket: &mut Socket) -> bool {
    socket.publish("/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#).await["status"].is_null()
}

#[tokio::test]
async fn each_change_of_a_user_ends_the_connections_of_what_it_changes_and_no_other() {
    let mut file = UsersFile::default();
    let (first, second) = (NewKey::generate().unwrap(), NewKey::generate().unwrap());
    file.add_user("ada", User::default()).unwrap();
    file.add_key("ada", &first, None).unwrap();
    file.add_key("ada", &second, None).unwrap();
    let password = StoredPassword::hash(&Secret::new("correct horse")).unwrap();
    file.add_user("bob", User::default().with_password(password)).unwrap();
    let site = site();
    site.write("policy.yaml", "access: { attributes: { limit: integer } }\n");
    site.write("users.yaml", &file.to_string());
    let running = site.start().await;
    let address = web(&running);
    let bearer = |key: &NewKey| format!("Bearer {}", key.key.expose());
    let open = async |authorization: &str| Socket::open_as(address, Some(authorization)).await.unwrap();
    let (mut by_first, mut by_second, mut bob) =
        (open(&bearer(&first)).await, open(&bearer(&second)).await, open(BOB).await);
    let change = async |file: &UsersFile| {
        site.write("users.yaml", &file.to_string());
        assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    };

    file.remove_key(&first.id).unwrap();
    change(&file).await;
    assert_eq!(by_first.closed().await, (1008, REVOKED.to_owned()), "its key was removed");
    assert!(sends(&mut by_second).await && sends(&mut bob).await, "of the same user by another key, and another user");

    let stored = StoredPassword::hash(&Secret::new("another horse")).unwrap();
    file.change_user("bob", |user| user.with_password(stored)).unwrap();
    change(&file).await;
    assert_eq!(bob.closed().await, (1008, REVOKED.to_owned()), "its password was changed");
    assert_eq!(Socket::open_as(address, Some(BOB)).await.err(), Some(401));

    let limit = |mut user: User| {
        user.attributes = [("limit".into(), Attribute::Integer(5))].into();
        user
    };
    file.change_user("ada", limit).unwrap();
    change(&file).await;
    assert_eq!(by_second.closed().await, (1008, REVOKED.to_owned()), "it is somebody else by now");

    let mut again = open(&bearer(&second)).await;
    let disable = |disabled| {
        move |mut user: User| {
            user.disabled = disabled;
            user
        }
    };
    file.change_user("ada", disable(true)).unwrap();
    change(&file).await;
    assert_eq!(again.closed().await, (1008, REVOKED.to_owned()), "it is disabled");
    assert_eq!(Socket::open_as(address, Some(&bearer(&second))).await.err(), Some(401));
    file.change_user("ada", disable(false)).unwrap();
    change(&file).await;
    assert!(sends(&mut open(&bearer(&second)).await).await);
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_its_connection_and_a_list_that_is_wrong_changes_nothing() {
    let signer = Signer::new("k");
    let site = site();
    site.write(
        "policy.yaml",
        "tokens:\n  corp: { issuer: https://login.example, audience: openmesh, keys: { file: corp.json }, revoked: revoked.yaml }\n",
    );
    site.write("policies/corp.json", &signer.key_set());
    assert!(site.load().unwrap_err().contains("\"revoked.yaml\" is not in the folder of the policies"));
    site.write("policies/revoked.yaml", "");
    let running = site.start().await;
    let address = web(&running);
    let (one, other) =
        (signer.token(json!({ "sub": "ada", "jti": "1" })), signer.token(json!({ "sub": "ada", "jti": "2" })));
    let eve = signer.token(json!({ "sub": "eve" }));
    let open = async |token: &str| Socket::open_as(address, Some(token)).await.unwrap();
    let (mut first, mut second, mut third) = (open(&one).await, open(&other).await, open(&eve).await);

    site.write("policies/revoked.yaml", "ids: [\"1\"]\n");
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    assert_eq!(first.closed().await, (1008, REVOKED.to_owned()));
    assert!(sends(&mut second).await && sends(&mut third).await);
    let post =
        async |token: &str| post_as(address, Some(token), "/telemetry/7/temperature", r#"{"f":50,"unit":"F"}"#).await;
    let refused = post(&one).await;
    assert_eq!((refused.status, refused.json()["detail"].as_str()), (401, Some("the token was revoked")));

    site.write("policies/revoked.yaml", "id: [\"2\"]\n");
    assert!(matches!(running.reload().await, Reloaded::Refused(_)));
    assert!(site.load().unwrap_err().contains("revoked.yaml:1:1"));
    assert!(sends(&mut second).await);
    assert_eq!(post(&one).await.status, 401, "what was revoked stays so");
    assert!(get(running.addresses().admin, "/readyz").await.json()["configuration"].is_string());

    site.write("policies/revoked.yaml", "ids: [\"1\", \"2\"]\nsubjects: [eve]\n");
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    assert_eq!(second.closed().await, (1008, REVOKED.to_owned()));
    assert_eq!(third.closed().await, (1008, REVOKED.to_owned()));
}

/// A stream of events that has begun.
async fn events(at: SocketAddr, authorization: &str, filter: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let path = format!("/mesh/v1/events?filter={filter}").replace('#', "%23");
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let begun = async {
        while !answer.ends_with(b"retry: 2000\n\n") && !String::from_utf8_lossy(&answer).contains("retry: 2000") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
    };
    timeout(PATIENCE, begun).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut rest = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    rest
}

fn with_floor(site: &Site) {
    let floor = "  floor: { mqtt: { listen: 127.0.0.1:0, websocket: { listen: 127.0.0.1:0 } } }\n";
    site.write("gateway.yaml", &site.config_text(floor));
}

/// Of both versions, over TCP and WebSocket.
async fn clients(running: &Running, user: &str, password: &str) -> Vec<(u8, Client)> {
    let mut all = Vec::new();
    for version in [4, 5] {
        let (tcp, web) = (Wire::tcp(bridge(running, "floor")).await, Wire::web_socket(second(running, "floor")).await);
        for (n, wire) in [tcp, web].into_iter().enumerate() {
            let id = format!("client-{version}-{n}");
            all.push((version, Client::named(&id, wire, version, Some((user, password))).await.unwrap()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_token_ends_each_protocol_ends_its_connection_in_its_own_way() {
    let signer = Signer::new("k");
    let site = site();
    with_floor(&site);
    site.write(
        "policy.yaml",
        "tokens:\n  corp: { issuer: https://login.example, audience: openmesh, keys: { file: corp.json }, leeway: 0s }\n",
    );
    site.write("policies/corp.json", &signer.key_set());
    site.write("policies/reads.cedar", "permit(principal, action == Action::\"subscribe\", resource);");
    let running = site.start().await;
    let at = web(&running);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = signer.token(json!({ "sub": "ada", "exp": now + 5 }));
    let mut socket = Socket::open_as(at, Some(&token)).await.unwrap();
    let stream = events(at, &token, "telemetry/#").await;
    let mut clients = clients(&running, "", token.strip_prefix("Bearer ").unwrap()).await;
    for (_, client) in &mut clients {
        assert!(client.subscribe("telemetry/#").await.code < 0x80);
    }
    assert!(sends(&mut socket).await);
    assert_eq!(socket.closed().await, (1008, "the credentials have ended".to_owned()));
    let last = rest(stream).await;
    assert!(last.contains("event: closed") && last.contains("the credentials have ended"), "{last}");
    for (version, mut client) in clients {
        assert_eq!(client.ended().await, (version == 5).then_some(0x87), "MQTT {version}");
    }
    assert_eq!(post_as(at, Some(&token), "/telemetry/7/temperature", "{}").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_right_to_read_is_taken_nothing_more_is_read_by_any_protocol() {
    let (mut file, key) = (UsersFile::default(), NewKey::generate().unwrap());
    file.add_user("ada", User::default()).unwrap();
    file.add_key("ada", &key, None).unwrap();
    let site = site();
    with_floor(&site);
    site.write("users.yaml", &file.to_string());
    for topic in ["taken", "left"] {
        let mapping = format!(
            "mapping: {topic}\nfrom: {{ bridge: web, address: POST /{topic} }}\nenvelope: {{ topic: {topic}/a }}\n"
        );
        site.write(&format!("mappings/{topic}.yaml"), &mapping);
    }
    let may = |topic: &str| {
        format!(
            "permit(principal == Principal::\"ada\", action == Action::\"subscribe\", resource in Topic::\"{topic}\");"
        )
    };
    site.write("policies/left.cedar", &may("left"));
    site.write("policies/taken.cedar", &may("taken"));
    let running = site.start().await;
    let at = web(&running);
    let authorization = format!("Bearer {}", key.key.expose());
    let stream = events(at, &authorization, "taken/#").await;
    let mut clients = clients(&running, "any", key.key.expose()).await;
    for (n, (_, client)) in clients.iter_mut().enumerate() {
        for filter in ["taken/#", &format!("$share/{n}/taken/#"), "left/#"] {
            assert!(client.subscribe(filter).await.code < 0x80, "{filter}");
        }
    }
    let say = async |topic: &str, text: &str| assert_eq!(post(at, topic, &format!("\"{text}\"")).await.status, 202);
    say("/taken", "before").await;
    for (version, client) in &mut clients {
        for _ in 0..2 {
            let heard = String::from_utf8_lossy(&client.hear().await).into_owned();
            assert!(heard.contains("before"), "MQTT {version}: {heard}");
        }
    }
    site.write("policies/taken.cedar", "");
    assert!(matches!(running.reload().await, Reloaded::Changed(_)));
    say("/taken", "after").await;
    for (version, client) in &mut clients {
        assert_eq!(client.ended().await, (*version == 5).then_some(0x87), "MQTT {version}");
        assert_eq!(client.left(), "", "MQTT {version}");
    }
    let again = Wire::tcp(bridge(&running, "floor")).await;
    let mut client = Client::over(again, 5, Some(("any", key.key.expose()))).await.unwrap();
    assert_eq!((client.subscribe("taken/#").await.code, client.subscribe("left/#").await.code), (0x87, 1));
    say("/left", "still").await;
    assert!(String::from_utf8_lossy(&client.hear().await).contains("still"));
    let heard = rest(stream).await;
    assert!(heard.contains("before") && !heard.contains("after") && heard.contains("event: closed"), "{heard}");
}
