//! Who is let in by whom: names and passwords, and TLS.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use integration::{Gateway, eventually, gateway::binary};

use super::{Far, Mosquitto, PATIENCE};
use crate::promises::openssl;

#[test]
fn a_broker_that_refuses_the_password_is_seen_and_asked_seldom() {
    let mut broker = Mosquitto::prepared("allow_anonymous false\npassword_file DIR/users\n", &[("users", "")]);
    let made = Command::new("mosquitto_passwd").arg("-b").arg(broker.path("users")).args(["gateway", "right"]).status();
    assert!(made.expect("mosquitto_passwd to run").success());
    broker.up();
    let far = Far::new(&broker.url(), "v5", ", username: gateway, password: '${file:secret}'");
    far.site.write("secret", "wrong");
    let gateway = Gateway::start(&far.site);
    for way in ["in", "out"] {
        let connection = eventually("the refusal is seen", PATIENCE, || {
            let connection = far.connection(way);
            (connection["state"] == "refused").then_some(connection)
        });
        let why = connection["why"].as_str().unwrap_or_default();
        assert!(why.contains("refuses") && !why.contains("wrong'"), "{connection}");
    }
    far.post("1", "{}");
    eventually("so it is at the mapping", PATIENCE, || {
        let routes = far.routes();
        let why = routes["sends"][0]["now"]["why"].as_str()?.to_owned();
        why.contains("the broker refuses").then_some(())
    });
    let status = Command::new(binary()).args(["status", "--url", &format!("http://{}", far.site.admin)]).output();
    let said = String::from_utf8_lossy(&status.expect("the status").stdout).into_owned();
    assert!(said.contains("connection far out: REFUSED mqtt://"), "{said}");
    let attempts = || broker.log().matches("not authorised").count();
    let (before, since) = (attempts(), Instant::now());
    eventually("it is asked again", PATIENCE, || (attempts() >= before + 6).then_some(()));
    // two connections with a pause of half a second to a second each
    assert!(since.elapsed() > Duration::from_secs(1), "{:?}", since.elapsed());
    gateway.kill();
    far.site.write("secret", "right\n");
    let _gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    far.assert_settled(1);
    let log = std::fs::read_to_string(far.site.scratch("gateway.log")).expect("its log");
    assert!(!log.contains("\"right\"") && !log.contains("password=right"), "{log}");
}

#[test]
fn a_broker_that_refuses_the_password_for_a_while_gets_what_waited_once_it_does_not() {
    let mut broker = Mosquitto::prepared("allow_anonymous false\npassword_file DIR/users\n", &[("users", "")]);
    let may = |broker: &Mosquitto, password: &str| {
        let mut command = Command::new("mosquitto_passwd");
        let made = command.arg("-b").arg(broker.path("users")).args(["gateway", password]).status();
        assert!(made.expect("mosquitto_passwd to run").success());
    };
    may(&broker, "another");
    broker.up();
    let far = Far::new(&broker.url(), "v3.1.1", ", username: gateway, password: '${file:secret}'");
    far.site.write("secret", "right");
    let _gateway = Gateway::start(&far.site);
    for n in 0..10 {
        far.post("1", &format!("{{\"n\":{n}}}"));
    }
    eventually("the refusal is seen", PATIENCE, || (far.connection("out")["state"] == "refused").then_some(()));
    may(&broker, "right");
    broker.end();
    broker.up();
    far.until_connected(&broker);
    far.assert_settled(10);
    let out = &far.ledger()["subscriptions"]["mapping:out"];
    assert_eq!(out["dead_lettered"], serde_json::json!({}), "a refusal of the gateway is none of its messages");
}

#[test]
fn over_tls_both_sides_prove_who_they_are() {
    let mut broker = Mosquitto::prepared(
        "allow_anonymous true\ncafile DIR/ca.pem\ncertfile DIR/broker.pem\nkeyfile DIR/broker.key\nrequire_certificate true\n",
        &[("v3", "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")],
    );
    let folder = broker.path("");
    openssl(&folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority");
    for name in ["broker", "gateway"] {
        openssl(&folder, &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(
            &folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile v3"
            ),
        );
    }
    broker.up();
    let server = format!("mqtts://localhost:{}", broker.address.port());
    let tls = |certificate: &str| {
        let path = |name: &str| broker.path(name).display().to_string();
        let own = format!(", certificate: {}, key: {}", path("gateway.pem"), path("gateway.key"));
        let own = if certificate.is_empty() { "" } else { &own };
        format!("servers: ['{server}'], max_backoff: 1s, tls: {{ authorities: {}{own} }}", path("ca.pem"))
    };
    let far = Far::new(&server, "v5", "");
    far.configure(&tls("gateway"));
    let gateway = Gateway::start(&far.site);
    far.until_connected(&broker);
    far.post("1", "{}");
    far.assert_settled(1);
    broker.log();
    gateway.kill();
    far.configure(&tls(""));
    let gateway = Gateway::start(&far.site);
    eventually("without a certificate it is not let in", PATIENCE, || {
        (far.connection("out")["state"] == "away").then_some(())
    });
    gateway.kill();
    // a broker that is of no authority that the config names
    far.configure(&format!("servers: ['{server}'], max_backoff: 1s"));
    let _gateway = Gateway::start(&far.site);
    eventually("it is not trusted", PATIENCE, || {
        far.connection("out")["why"].as_str().is_some_and(|why| why.contains("no TLS")).then_some(())
    });
}
