//! The admin API, in process.

use policy::{NewKey, User, UsersFile};

use crate::support::{Site, Socket, get, post, post_as, request, web};

#[tokio::test]
async fn it_says_that_it_is_alive_and_ready() {
    let running = Site::shipped().start().await;
    let admin = running.addresses().admin;
    assert_eq!(get(admin, "/healthz").await.status, 200);
    let ready = get(admin, "/readyz").await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    let absent = get(admin, "/nowhere").await;
    assert_eq!(absent.status, 404);
    assert!(absent.text.contains("/ledger"), "{absent:?}");
}

#[tokio::test]
async fn the_ledger_balances_and_counts_what_came() {
    let site = Site::shipped();
    let running = site.start().await;
    let path = "/telemetry/7/temperature";
    post(web(&running), path, r#"{"f":50,"unit":"F"}"#).await;
    post(web(&running), path, r#"{"f":"hot","unit":"F"}"#).await;
    post(web(&running), "/nowhere", "{}").await;
    let ledger = get(running.addresses().admin, "/ledger").await.json();
    assert_eq!(ledger["balanced"], true, "{ledger:#}");
    let web = &ledger["bridges"]["web"];
    assert_eq!(web["received"], 3, "{ledger:#}");
    assert_eq!(web["accepted"], 1, "{ledger:#}");
    assert_eq!(web["rejected"]["malformed"], 1, "{ledger:#}");
    assert_eq!(web["rejected"]["unmapped"], 1, "{ledger:#}");
    assert_eq!(web["in_flight"], 0, "{ledger:#}");
    assert_eq!(web["routes"]["plant-temperature"]["accepted"], 1, "{ledger:#}");
}

#[tokio::test]
async fn the_metrics_have_the_ledger_and_no_label_that_is_a_clients() {
    let site = Site::shipped();
    let running = site.start().await;
    post(web(&running), "/telemetry/line-7/temperature", r#"{"f":50,"unit":"F"}"#).await;
    let metrics = get(running.addresses().admin, "/metrics").await;
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.text.contains("openmesh_ledger_violations 0"), "{}", metrics.text);
    assert!(
        metrics.text.contains(r#"openmesh_bridge_messages_total{bridge="web",stage="accepted"}"#),
        "{}",
        metrics.text
    );
    assert!(!metrics.text.contains("line-7"), "{}", metrics.text);
    for line in metrics.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        assert!(line.starts_with("openmesh_"), "{line}");
    }
}

#[tokio::test]
async fn the_routes_are_the_mappings() {
    let running = Site::shipped().start().await;
    let page = get(running.addresses().admin, "/routes").await.json();
    assert_eq!((page["epoch"]["number"].as_u64(), page["epoch"]["refused"].is_null()), (Some(1), true), "{page:#}");
    let routes = &page["routes"];
    let names: Vec<_> = routes.as_array().unwrap().iter().map(|route| route["mapping"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.contains(&"machine-status"), "{names:?}");
    let listed = routes.as_array().unwrap().iter().find(|route| route["mapping"] == "plant-temperature").unwrap();
    assert_eq!(listed["address"], "POST /telemetry/{line}/temperature");
    assert_eq!(listed["ack"], "durable");
    assert_eq!(listed["now"]["taken"], 0, "{listed:#}");
}

#[tokio::test]
async fn a_route_says_what_it_took_and_what_it_last_refused_and_nothing_that_was_in_it() {
    let running = Site::shipped().start().await;
    let path = "/telemetry/7/temperature";
    post(web(&running), path, r#"{"f":50,"unit":"F"}"#).await;
    for secret in ["hot", "s3cret"] {
        assert_eq!(post(web(&running), path, &format!(r#"{{"f":"{secret}","unit":"F"}}"#)).await.status, 422);
    }
    let page = get(running.addresses().admin, "/routes").await;
    let json = page.json();
    let mut routes = json["routes"].as_array().unwrap().iter();
    let now = &routes.find(|route| route["mapping"] == "plant-temperature").unwrap()["now"];
    let counts = ["taken", "accepted", "stored"].map(|key| now[key].as_u64());
    assert_eq!(counts, [Some(3), Some(1), Some(1)], "{now:#}");
    assert_eq!(now["rejected"], serde_json::json!({ "malformed": 2 }), "{now:#}");
    let last = &now["last_refusal"];
    assert_eq!((&last["kind"], &last["decided_by"]), (&"malformed".into(), &"mapping.from.schema".into()), "{now:#}");
    assert!(last["at"].as_str().is_some_and(|at| at.starts_with("20")), "{now:#}");
    assert!(!page.text.contains("s3cret"), "{}", page.text);
}

#[tokio::test]
async fn a_foreign_host_or_origin_reads_nothing() {
    let running = Site::shipped().start().await;
    let admin = running.addresses().admin;
    for path in ["/ledger", "/metrics", "/routes", "/readyz", "/healthz"] {
        let foreign_host = format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        let answer = request(admin, &foreign_host).await;
        assert!(answer.status >= 400 && !answer.text.contains("balanced"), "{path}: {answer:?}");
        let foreign_origin = format!(
            "GET {path} HTTP/1.1\r\nhost: {admin}\r\norigin: https://evil.example\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(request(admin, &foreign_origin).await.status, 403, "{path}");
    }
}

async fn get_as(admin: std::net::SocketAddr, path: &str, authorization: &str) -> u16 {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\nauthorization: {authorization}");
    request(admin, &format!("{head}\r\n\r\n")).await.status
}

/// The `Authorization` of a viewer, an operator, and somebody of another role.
fn with_roles() -> (Site, [String; 3]) {
    let site = Site::shipped();
    let mut users = UsersFile::default();
    let authorizations = ["viewer", "operator", "nobody"].map(|role| {
        let (mut user, key) = (User::default(), NewKey::generate().unwrap());
        user.roles = vec![role.into()];
        users.add_user(role, user).unwrap();
        users.add_key(role, &key, None).unwrap();
        format!("Bearer {}", key.key.expose())
    });
    site.write("users.yaml", &users.to_string());
    (site, authorizations)
}

#[tokio::test]
async fn who_presents_something_is_held_to_it_and_a_change_needs_an_operator() {
    let (site, [viewer, operator, nobody]) = with_roles();
    let running = site.start().await;
    let admin = running.addresses().admin;
    for path in ["/metrics", "/ledger", "/routes"] {
        assert_eq!(get(admin, path).await.status, 200, "{path} on loopback");
        assert_eq!(get_as(admin, path, &viewer).await, 200, "{path}");
        assert_eq!(get_as(admin, path, &nobody).await, 403, "{path}");
        assert_eq!(get_as(admin, path, "Bearer x").await, 401, "{path}");
    }
    assert_eq!(get_as(admin, "/healthz", "Bearer x").await, 200, "a probe is answered");
    for (who, status, by) in
        [(None, 401, "authentication"), (Some(&viewer), 403, "access"), (Some(&nobody), 403, "access")]
    {
        let answer = post_as(admin, who.map(String::as_str), "/reload", "").await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["decided_by"], by);
    }
    // also where the policies would let anybody
    site.write("policies/all.cedar", "permit(principal, action == Action::\"administer\", resource);");
    let reloaded = post_as(admin, Some(&operator), "/reload", "").await;
    assert_eq!((reloaded.status, reloaded.json()["reload"].as_str()), (200, Some("changed")));
    assert_eq!(post_as(admin, None, "/reload", "").await.status, 401);
    std::fs::remove_file(site.config().with_file_name("policies").join("all.cedar")).unwrap();
    site.write("policy.yaml", "anonymous: false\n");
    let reloaded = post_as(admin, Some(&operator), "/reload", "").await;
    assert_eq!((reloaded.status, reloaded.json()["reload"].as_str()), (200, Some("changed")));
    assert_eq!(post_as(admin, None, "/reload", "").await.status, 401);
    let secrets = [viewer, operator, nobody];
    for path in ["/metrics", "/ledger", "/routes", "/readyz"] {
        let text = get(admin, path).await.text;
        assert!(secrets.iter().all(|secret| !text.contains(&secret[20..])) && !text.contains("sha256:"), "{path}");
    }
}

#[tokio::test]
async fn each_operation_is_for_whom_it_should_be_and_what_is_refused_or_changed_is_on_record() {
    let (site, [viewer, operator, nobody]) = with_roles();
    let running = site.start().await;
    let admin = running.addresses().admin;
    let document = get(admin, "/openapi.json").await.json();
    let (mut changes, mut refused) = (0, 0_u64);
    for (path, methods) in document["paths"].as_object().unwrap() {
        if path == "/healthz" || path == "/readyz" {
            continue;
        }
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let path: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "/1" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let path = path.replace("//", "/");
            let looks = method == "GET" && !path.starts_with("/dead-letters");
            changes += usize::from(method != "GET");
            for (who, may) in [(None, looks), (Some(&nobody), false), (Some(&viewer), looks), (Some(&operator), true)] {
                let credentials = who.map(|key| format!("authorization: {key}\r\n")).unwrap_or_default();
                let head = format!("{method} {path} HTTP/1.1\r\nhost: {admin}\r\n{credentials}connection: close\r\n");
                let answer = request(admin, &format!("{head}content-length: 0\r\n\r\n")).await;
                let expected = if who.is_none() { 401 } else { 403 };
                let is_refused = matches!(answer.status, 401 | 403);
                assert_eq!(is_refused, !may, "{method} {path} as {who:?}: {answer:?}");
                assert!(may || answer.status == expected, "{method} {path} as {who:?}: {answer:?}");
                refused += u64::from(is_refused);
            }
        }
    }
    assert!(changes >= 4, "{changes} operations change something");
    assert!(refused >= 20, "{refused} were refused");
    let mut reader = Socket::subscribe(web(&running), "$mesh/audit/refused/$admin", "earliest", None).await;
    for (kind, who) in [("unauthenticated", None), ("denied", Some("nobody")), ("denied", Some("viewer"))] {
        let is_it = |data: &serde_json::Value| data["kind"] == kind && data["principal"].as_str() == who;
        while !is_it(&reader.envelope().await["data"]) {}
    }
    let mut changed = Socket::subscribe(web(&running), "$mesh/audit/admin", "earliest", None).await;
    let is_it = |data: &serde_json::Value| data["who"] == "operator" && data["what"] == "reload";
    while !is_it(&changed.envelope().await["data"]) {}
}

#[tokio::test]
async fn the_openapi_document_tells_of_every_page_and_needs_no_secret() {
    let running = Site::shipped().start().await;
    let admin = running.addresses().admin;
    let answer = get(admin, "/openapi.json").await;
    let document = answer.json();
    assert_eq!((answer.status, document["openapi"].as_str()), (200, Some("3.1.0")), "{document:#}");
    let paths = document["paths"].as_object().unwrap();
    for path in ["/healthz", "/readyz", "/metrics", "/ledger", "/routes", "/reload", "/openapi.json"] {
        assert!(paths.contains_key(path), "{path} is not told of");
    }
    // What the not-found page lists is what is told of.
    let absent = get(admin, "/nowhere").await.text;
    assert!(paths.keys().all(|path| absent.contains(path.as_str())), "{absent}");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string() || operation["description"].is_string(), "{method} {path}");
        }
    }
    assert_eq!(get(admin, "/reload").await.status, 405);
}

#[tokio::test]
async fn off_loopback_nobody_is_anonymous() {
    let site = Site::shipped();
    let exposed = "admin: { listen: '0.0.0.0:0', plain_text: true, allowed_hosts: [gateway.example]";
    site.write("gateway.yaml", &site.config_text("").replace("admin: { listen: 127.0.0.1:0", exposed));
    let (mut user, mut users, key) = (User::default(), UsersFile::default(), NewKey::generate().unwrap());
    user.roles = vec!["viewer".into()];
    users.add_user("ada", user).unwrap();
    users.add_key("ada", &key, None).unwrap();
    site.write("users.yaml", &users.to_string());
    let running = site.start().await;
    let admin = (std::net::Ipv4Addr::LOCALHOST, running.addresses().admin.port()).into();
    let ask = async |path: &str, more: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: gateway.example\r\nconnection: close\r\n{more}");
        request(admin, &format!("{head}\r\n")).await.status
    };
    assert_eq!((ask("/healthz", "").await, ask("/readyz", "").await), (200, 200));
    let authorization = format!("authorization: Bearer {}\r\n", key.key.expose());
    for path in ["/metrics", "/ledger", "/routes"] {
        assert_eq!(ask(path, "").await, 401, "{path}, though the policy lets in anonymous peers elsewhere");
        assert_eq!(ask(path, &authorization).await, 200, "{path}");
    }
}
