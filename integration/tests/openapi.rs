//! The admin API does what its OpenAPI document says: schemathesis asks every operation for what it should and should not do.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panic")]

use std::process::Command;

use integration::{Gateway, Site, client, gateway::binary, site::repository};

/// Standard output of an `openmesh` command that succeeds.
fn openmesh(arguments: &[&str], site: &Site) -> String {
    let config = site.config().join("gateway.yaml");
    let output = Command::new(binary()).args(arguments).arg("--config").arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_operation_of_the_admin_api_keeps_its_contract() {
    let site = Site::shipped();
    openmesh(&["user", "add", "contract", "--role", "operator"], &site);
    let made = openmesh(&["key", "new", "contract"], &site);
    let key = made.split_whitespace().find(|word| word.starts_with("om_")).expect("the key");
    let _gateway = Gateway::start(&site);
    let document = client::get(&site.admin_url("/openapi.json")).body;
    let output = Command::new(repository().join("target/tools/bin/schemathesis"))
        .args(["run", &site.admin_url("/openapi.json"), "--no-color", "--generation-deterministic"])
        .args(["--max-examples", "25", "--header", &format!("Authorization: Bearer {key}")])
        .current_dir(site.config())
        .output()
        .expect("schemathesis, which integration/install brings");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // all but the document itself
    let operations = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len());
    let asked = operations.sum::<usize>() - 1;
    assert!(said.contains(&format!("{asked} selected / {asked} total")), "{said}");
    assert!(!said.contains("only 401/403 responses"), "{said}");
}
