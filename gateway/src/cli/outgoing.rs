//! What a mapping that sends makes of an envelope: `openmesh try` of a file with `to`.

use std::{io::Write, str};

use bytes::Bytes;
use envelope::{
    Data, Delivery, EgressMapper, Envelope, Identity, IdentityParts, Json, Outbound, Position, Qos, Timestamp, Topic,
    cloudevents,
};
use mapping::{EgressInfo, Mappings};

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error("the input is no envelope: {0}; with --address TOPIC it is taken as the data of one")]
    NoEnvelope(String),
    #[error("{0:?} is no topic: {1}")]
    NoTopic(String, String),
    #[error("{0:?} takes envelopes from {1}, which does not select {2}")]
    NotSelected(String, String, String),
    #[error("refused: {0}")]
    Refused(envelope::Rejection),
}

/// The envelope that is tried: the input itself as CloudEvents JSON, or one with the input as its data on `topic`.
pub(super) fn envelope(input: Vec<u8>, topic: Option<&str>, domain: &str) -> Result<Envelope, NotSent> {
    let Some(topic) = topic else {
        let json = Json::parse(input.into()).map_err(|error| NotSent::NoEnvelope(error.to_string()))?;
        return cloudevents::parse_json(&json).map_err(|error| NotSent::NoEnvelope(error.to_string()));
    };
    let subject = Topic::new(topic).map_err(|error| NotSent::NoTopic(topic.to_owned(), error.to_string()))?;
    let parts = IdentityParts { domain, bridge: "try", principal: "anonymous", route: "try" };
    let data = Bytes::from(input);
    let json = Json::parse(data.clone()).is_ok();
    Ok(Envelope {
        datacontenttype: json.then(|| "application/json".into()),
        ..Envelope::plain(
            Identity::fresh().envelope_id(parts),
            format!("mesh://{domain}/try/anonymous").into(),
            "mesh/opaque@v1.0.0".into(),
            subject,
            Timestamp::now(),
            Data::Opaque(data),
        )
    })
}

/// Shows what is sent: where to, the headers and, behind an empty line, the payload. `false`: nothing is, as `when` says.
pub(super) fn show(
    mappings: &Mappings,
    sender: &EgressInfo<'_>,
    envelope: Envelope,
    out: &mut impl Write,
) -> Result<bool, super::Failure> {
    if !sender.topic.matches(&envelope.subject) {
        let (name, topic) = (sender.route.name().to_owned(), sender.topic.to_string());
        return Err(NotSent::NotSelected(name, topic, envelope.subject.to_string()).into());
    }
    let delivery = Delivery::new(Position(Bytes::new()), envelope);
    let sent = EgressMapper::map(mappings, sender.route, &delivery).map_err(NotSent::Refused)?;
    let Some(Outbound { address, headers, payload, key, qos, retain, .. }) = sent else { return Ok(false) };
    writeln!(out, "{}: {address}", sender.bridge)?;
    if let Some(key) = key {
        writeln!(out, "key: {key}")?;
    }
    if let Some(qos) = qos {
        writeln!(out, "qos: {}", qos_word(qos))?;
    }
    if retain {
        writeln!(out, "retain: true")?;
    }
    for (name, value) in headers.iter() {
        writeln!(out, "{name}: {}", String::from_utf8_lossy(value))?;
    }
    writeln!(out)?;
    match str::from_utf8(&payload) {
        Ok(text) => writeln!(out, "{}", text.trim_end_matches(['\r', '\n']))?,
        Err(_) => writeln!(out, "({} bytes that are no text)", payload.len())?,
    }
    Ok(true)
}

/// As a mapping file writes it.
const fn qos_word(qos: Qos) -> &'static str {
    match qos {
        Qos::AtMostOnce => "at-most-once",
        Qos::AtLeastOnce => "at-least-once",
        Qos::ExactlyOnce => "exactly-once",
    }
}
