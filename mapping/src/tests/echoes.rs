//! What a bridge is to ask its peer for, and what of it it would have sent itself.

use super::sending::load_able;

const TAKES: &str =
    "mapping: in\nfrom: { bridge: out, address: \"plant/{line}/+/temp\" }\nenvelope: { topic: t }\nack: durable\n";
const TAKES_MORE: &str = "mapping: more\nfrom: { bridge: out, address: \"plant/{other}/+/temp\" }\norder: -1\nwhen: payload.a == 1\nenvelope: { topic: t }\nack: durable\n";

fn sends(name: &str, address: &str, more: &str) -> String {
    format!("mapping: {name}\nfrom: {{ topic: \"#\" }}\nto: {{ bridge: out, address: \"{address}\"{more} }}\n")
}

#[test]
fn the_addresses_of_a_bridge_are_those_of_its_mappings_each_once() {
    let mappings = load_able(&[TAKES_MORE, TAKES]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(mappings.addresses("out").into_iter().collect::<Vec<_>>(), ["plant/+/+/temp"]);
    assert!(mappings.addresses("web").is_empty());
}

#[test]
fn who_sends_to_where_a_mapping_of_the_same_bridge_takes_is_named() {
    let all = [
        sends("same", "plant/1/${envelope.topic}/temp", ""),
        sends("meant", "plant/1/2/temp", ", echo: true"),
        sends("other", "plant/1/2/humidity", ""),
        sends("short", "plant/1/temp", ""),
    ];
    let mut texts: Vec<_> = all.iter().map(String::as_str).collect();
    texts.push(TAKES);
    let mappings = load_able(&texts).unwrap();
    let echoes = mappings.echoes("out");
    let found: Vec<_> = echoes.iter().map(|echo| (echo.sender, &*echo.sends_to, echo.taker)).collect();
    assert_eq!(found, [("same", "plant/1/+/temp", "in")]);
    assert!(mappings.echoes("web").is_empty());
}
