//! What a configuration may say, and how everything that is wrong with it is said at once.

use std::time::Duration;

use crate::support::Site;

/// What loading says of the shipped configuration with `text` as its `gateway.yaml`.
fn errors(text: &str) -> String {
    let site = Site::shipped();
    site.write("gateway.yaml", text);
    site.load().unwrap_err()
}

const SOUND: &str = "domain: a\nbackbone: { embedded: { path: data } }\nadmin: { listen: 127.0.0.1:0 }\n\
                     bridges: { web: { http: { listen: 127.0.0.1:0 } } }\n";

#[test]
fn the_shipped_configuration_holds_and_is_what_the_design_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("config/gateway.yaml");
    let loaded = gateway::config::load(&path).map_err(|all| all.to_string()).unwrap();
    let config = &loaded.config;
    assert_eq!(&*config.domain, "plant-a");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.bridge_names(), ["web"]);
    assert_eq!(config.limits.drain_timeout, Duration::from_secs(30));
    let store = config.backbone.path();
    assert_eq!(store, std::path::Path::new("data"), "relative to the working directory");
    assert_eq!(config.mappings, path.parent().unwrap().join("mappings/"));
    assert!(loaded.policy.anonymous);
    let results = loaded.mappings.run_tests();
    assert!(results.len() >= 5);
    for result in results {
        assert_eq!(result.outcome, mapping::Outcome::Passed, "{}", result.name);
    }
}

#[test]
fn everything_that_is_wrong_in_any_file_is_said_at_once() {
    let site = Site::shipped();
    site.write(
        "gateway.yaml",
        "domain: Plant A\nbackbone: { embedded: { path: data } }\nadmin: { listen: 0.0.0.0:9090 }\n\
         bridges:\n  web: { http: { listen: 127.0.0.1:0 } }\nmappigs: mappings/\nlimits: { drain_timeout: 3 }\n",
    );
    site.write("policy.yaml", "anonymus: true\n");
    site.write("schemas/broken.json", "{ \"type\": 7 }");
    site.write("mappings/broken.yaml", "mapping: broken\nfrom: { bridge: wbe }\n");
    let text = site.load().unwrap_err();
    for expected in [
        "gateway.yaml:1:9: error[bad-name]",
        "gateway.yaml:3:18: error[plain-text]",
        "gateway.yaml:6:1: error[unknown-key]",
        "did you mean \"mappings\"?",
        "gateway.yaml:7:",
        "policy.yaml:1:1: error[unknown-key]",
        "broken.json: error[bad-schema]",
        "broken.yaml:",
        "wbe",
        " 6 | mappigs: mappings/\n   | ^^^^^^^",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
}

#[test]
fn what_mqtt_clients_publish_at_qos_2_is_never_only_received() {
    let site = Site::shipped();
    let gateway = |max_qos| {
        let floor = format!("bridges: {{ floor: {{ mqtt: {{ listen: 127.0.0.1:0, max_qos: {max_qos} }} }},");
        SOUND.replace("bridges: {", &floor)
    };
    let mapping = "mapping: fast\nfrom: { bridge: floor, address: fast, decode: bytes }\nenvelope: { topic: fast }\nack: received\n";
    site.write("mappings/fast.yaml", mapping);
    site.write("gateway.yaml", &gateway(2));
    let said = site.load().unwrap_err();
    for part in ["fast.yaml:4:6: error[contradiction]", "bridge \"floor\" takes messages exactly once", "max_qos: 1"] {
        assert!(said.contains(part), "{said}");
    }
    site.write("gateway.yaml", &gateway(1));
    site.load().unwrap();
}

#[test]
fn what_can_be_reached_from_outside_needs_tls_and_credentials_or_words_that_say_otherwise() {
    let admin = SOUND.replace("admin: { listen: 127.0.0.1:0", "admin: { listen: 10.0.0.1:0");
    assert!(errors(&admin).contains("error[plain-text]"), "{}", errors(&admin));
    let bridge =
        |words: &str| SOUND.replace("http: { listen: 127.0.0.1:0", &format!("http: {{ listen: '[::]:0'{words}"));
    let said = errors(&bridge(""));
    assert!(said.contains("error[plain-text]") && said.contains("add tls"), "{said}");
    let said = errors(&bridge(", plain_text: true"));
    assert!(said.contains("error[open-to-anybody]") && said.contains("allow_anonymous: true"), "{said}");

    let site = Site::shipped();
    site.write("gateway.yaml", &bridge(", plain_text: true, allow_anonymous: true"));
    site.load().unwrap();
    site.write("gateway.yaml", &bridge(", plain_text: true"));
    site.write("policy.yaml", "anonymous: false\n");
    site.load().unwrap();
}

#[test]
fn two_listeners_of_one_port_are_found_before_the_start() {
    let text = errors(&SOUND.replace("127.0.0.1:0", "127.0.0.1:4321"));
    assert!(text.contains("error[conflict]: TCP 127.0.0.1:4321 is claimed by admin already"), "{text}");
}

#[test]
fn sessions_that_outlive_what_the_store_keeps_for_them_are_refused() {
    let with = |expiry: &str, park_for: &str| {
        let floor = format!("floor: {{ mqtt: {{ listen: '127.0.0.1:0', session: {{ max_expiry: {expiry} }} }} }}");
        SOUND
            .replace("path: data", &format!("path: data, park_for: {park_for}"))
            .replace("bridges: { web", &format!("bridges: {{ {floor}, web"))
    };
    let text = errors(&with("2d", "1d"));
    assert!(
        text.contains("error[parked]: sessions of bridge \"floor\" outlive their connections by 172800s"),
        "{text}"
    );
    assert!(text.contains("gateway.yaml:4:12"), "{text}");
    let site = Site::shipped();
    site.write("gateway.yaml", &with("1d", "1d"));
    site.load().unwrap();
}

#[test]
fn domains_at_the_limits() {
    for good in ["a", "7", "plant-a.no", &"d".repeat(63)] {
        let site = Site::shipped();
        site.write("gateway.yaml", &SOUND.replace("domain: a", &format!("domain: \"{good}\"")));
        assert!(site.load().is_ok(), "{good}");
    }
    for bad in ["", "A", "a_b", "-a", "a.", "plant a", "räume", &"d".repeat(64)] {
        let text = errors(&SOUND.replace("domain: a", &format!("domain: \"{bad}\"")));
        assert!(text.contains("error[bad-name]"), "{bad}: {text}");
    }
}

#[test]
fn a_missing_key_and_a_wrong_kind_are_named() {
    let text = errors("domain: a\n");
    for key in ["backbone", "admin", "bridges"] {
        assert!(text.contains(&format!("key \"{key}\" is missing")), "{text}");
    }
    let text = errors(&SOUND.replace("http:", "htpp:"));
    assert!(text.contains("http"), "{text}");
    let text = errors(&SOUND.replace("{ web: { http: { listen: 127.0.0.1:0 } } }", "{}"));
    assert!(text.contains("no bridge"), "{text}");
}

#[test]
fn a_bound_under_which_a_bridge_could_take_nothing_is_refused() {
    let text = errors(&format!("{SOUND}limits: {{ max_in_flight_bytes: 65536 }}\n"));
    assert!(text.contains("65536 bytes would never let the largest message of a bridge in"), "{text}");
}

#[test]
fn a_path_may_come_from_a_file_and_a_missing_one_is_said_with_its_place() {
    let site = Site::shipped();
    site.write("store-path", "/somewhere\n");
    site.write("gateway.yaml", &SOUND.replace("path: data", "path: \"${file:store-path}/data\""));
    let loaded = site.load().unwrap();
    let path = loaded.config.backbone.path();
    assert_eq!(path, std::path::Path::new("/somewhere/data"));
    let text = errors(&SOUND.replace("path: data", "path: \"${env:OPENMESH_TEST_NOT_SET}\""));
    assert!(text.contains("environment variable \"OPENMESH_TEST_NOT_SET\" is not set"), "{text}");
}

#[test]
fn files_that_are_not_there_are_named() {
    let site = Site::shipped();
    site.write("gateway.yaml", &format!("{SOUND}policy: nowhere.yaml\nmappings: elsewhere/\n"));
    let text = site.load().unwrap_err();
    assert!(text.contains("nowhere.yaml: error[unreadable]"), "{text}");
    assert!(text.contains("elsewhere"), "{text}");
    let error = gateway::config::load(std::path::Path::new("/nowhere/gateway.yaml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/gateway.yaml: error[unreadable]: can't be read"), "{error}");
}
