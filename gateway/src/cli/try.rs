//! `openmesh try`: what a mapping makes of a message, offline.
//!
//! The message takes the way of a live one through all mappings of the configuration, or through the one file that is
//! named by its path, and is then held to the envelope's schema. Policy is not asked, and nothing is stored.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use clap::Args;
use envelope::{Identity, Inbound, Lane, MapResult, Principal, Rejection, cloudevents};
use mapping::{Bridge, EgressInfo, Mappings, RouteInfo, Source};
use serde_json::json;

use super::{
    Failure, Invalid,
    format::{self, Format},
    outgoing,
};
use crate::config::{self, Loaded};

/// Which message to try on which mapping.
#[derive(Debug, Args)]
pub(super) struct Try {
    /// The mapping: its name, or the path of a file that need not be part of the configuration
    mapping: String,
    /// The payload; - reads it from stdin
    #[arg(long)]
    input: PathBuf,
    /// The address, as `POST /telemetry/7/temperature`; may be left out if the mapping takes only one. Of a mapping that
    /// sends: the topic of an envelope with the input as its data; left out, the input is an envelope as CloudEvents JSON
    #[arg(long)]
    address: Option<String>,
    /// A header, as `content-type: text/csv`; may be repeated
    #[arg(long, value_parser = header)]
    header: Vec<(String, Bytes)>,
    /// The configuration; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// Why there is no envelope.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotMapped {
    #[error("no mapping and no file is called {0:?}; mappings: {1}")]
    Unknown(String, String),
    #[error("{0:?} takes more than one address, such as {1:?}: say which with --address")]
    Address(String, String),
    #[error("{path}: can't be read: {error}", path = .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the input has more than {0} bytes, which is the limit of the bridge")]
    TooLarge(usize),
    #[error("{0:?} does not take it, {1:?} does")]
    Other(String, String),
    #[error("refused: {0}")]
    Refused(Rejection),
}

// === impl Try ===

impl Try {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let loaded = config::load(&self.config).map_err(Invalid)?;
        let known =
            named(&loaded.mappings, &self.mapping).is_some() || sender(&loaded.mappings, &self.mapping).is_some();
        let alone = if known { None } else { Some(self.file(&loaded)?) };
        let mappings = alone.as_ref().unwrap_or(&loaded.mappings);
        let sends = match &alone {
            Some(alone) => alone.senders().next(),
            None => sender(mappings, &self.mapping),
        };
        if let Some(sender) = sends {
            return self.send(mappings, &sender, &loaded, out);
        }
        let route = match &alone {
            Some(alone) => alone.routes().next(),
            None => named(mappings, &self.mapping),
        };
        let route = route.ok_or_else(|| self.unknown(&loaded))?;
        let inbound = self.inbound(&route, &loaded)?;
        self.show(mappings.dry_run(inbound), &route, out)
    }

    /// An envelope through a mapping that sends.
    fn send(
        &self,
        mappings: &Mappings,
        sender: &EgressInfo<'_>,
        loaded: &Loaded,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        const LIMIT: usize = 8 << 20;
        let input = read(&self.input, LIMIT + 1)?;
        if input.len() > LIMIT {
            return Err(NotMapped::TooLarge(LIMIT).into());
        }
        let envelope = outgoing::envelope(input, self.address.as_deref(), &loaded.config.domain)?;
        if !outgoing::show(mappings, sender, envelope, out)? {
            writeln!(io::stderr(), "nothing is sent: \"when\" is false in {:?}", sender.route.name())?;
        }
        Ok(())
    }

    /// A file by its path, with the domain, bridges, schemas and tables of the configuration. It may ask what the gateway
    /// can't do yet: this is about what it makes.
    fn file(&self, loaded: &Loaded) -> Result<Mappings, Failure> {
        let path = Path::new(&self.mapping);
        if !path.is_file() {
            return Err(self.unknown(loaded).into());
        }
        let text = String::from_utf8(read(path, yaml::MAX_BYTES + 1)?)?;
        let bridges: Vec<_> = loaded
            .config
            .bridges
            .iter()
            .map(|(name, _)| Bridge { sends: true, replies: true, ..Bridge::named(name) })
            .collect();
        let gateway = mapping::Abilities { last_values: true, later_acks: true, pass_through: true };
        let plain = mapping::Context::new(&loaded.config.domain, &bridges, &loaded.schemas, &loaded.tables);
        let context = mapping::Context { gateway, ..plain };
        Ok(mapping::load(&[Source { path: &self.mapping, text: &text }], &context).map_err(Invalid)?)
    }

    fn unknown(&self, loaded: &Loaded) -> NotMapped {
        let senders = loaded.mappings.senders().map(|sender| sender.route.name().to_owned());
        let names: Vec<_> =
            loaded.mappings.routes().map(|route| route.route.name().to_owned()).chain(senders).collect();
        NotMapped::Unknown(self.mapping.clone(), names.join(", "))
    }

    fn inbound(&self, route: &RouteInfo<'_>, loaded: &Loaded) -> Result<Inbound, NotMapped> {
        let address = match &self.address {
            Some(address) => address,
            None if route.address.contains(['{', '+']) => {
                return Err(NotMapped::Address(route.route.name().to_owned(), route.address.to_owned()));
            }
            None => route.address,
        };
        let bridge = loaded.config.bridges.iter().find(|(name, _)| **name == *route.bridge);
        let limit = bridge.map_or(usize::MAX - 1, |(_, bridge)| bridge.max_payload_bytes());
        let payload = read(&self.input, limit.saturating_add(1))?;
        if payload.len() > limit {
            return Err(NotMapped::TooLarge(limit));
        }
        Ok(Inbound {
            bridge: route.bridge.into(),
            address: address.into(),
            headers: self.header.as_slice().into(),
            payload: payload.into(),
            lane: Lane(0),
            identity: Identity::fresh(),
            principal: Arc::new(Principal::anonymous(&loaded.config.domain)),
            peer: None,
            trace: None,
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::now(),
        })
    }

    /// Each envelope in a line, as CloudEvents JSON.
    fn show(&self, got: MapResult, wanted: &RouteInfo<'_>, out: &mut impl Write) -> Result<(), Failure> {
        let taker = match &got {
            MapResult::Mapped(mapped) => Some(&mapped.route),
            MapResult::Filtered(route) => Some(route),
            MapResult::Refused(route, _) => route.as_ref(),
        };
        if let Some(other) = taker.filter(|taker| *taker != wanted.route) {
            return Err(NotMapped::Other(wanted.route.name().to_owned(), other.name().to_owned()).into());
        }
        match got {
            MapResult::Mapped(mapped) if self.format == Format::Json => {
                let mut said = br#"{"ok":true,"envelopes":["#.to_vec();
                for (number, envelope) in mapped.group.as_slice().iter().enumerate() {
                    said.extend_from_slice(if number == 0 { b"" } else { b"," });
                    cloudevents::write_json(envelope, &mut said);
                }
                said.extend_from_slice(b"]}\n");
                Ok(out.write_all(&said)?)
            }
            MapResult::Filtered(_) if self.format == Format::Json => {
                Ok(format::write(&json!({ "ok": true, "envelopes": [], "filtered": true }), out)?)
            }
            MapResult::Mapped(mapped) => {
                let mut lines = Vec::new();
                for envelope in mapped.group.as_slice() {
                    cloudevents::write_json(envelope, &mut lines);
                    lines.push(b'\n');
                }
                Ok(out.write_all(&lines)?)
            }
            MapResult::Filtered(route) => {
                Ok(writeln!(io::stderr(), "filtered by {:?}: acked, and nothing is stored", route.name())?)
            }
            MapResult::Refused(_, rejection) => Err(NotMapped::Refused(rejection).into()),
        }
    }
}

fn sender<'m>(mappings: &'m Mappings, name: &str) -> Option<EgressInfo<'m>> {
    mappings.senders().find(|sender| sender.route.name() == name)
}

fn named<'m>(mappings: &'m Mappings, name: &str) -> Option<RouteInfo<'m>> {
    mappings.routes().find(|route| route.route.name() == name)
}

/// At most `max` bytes of a file, or of stdin.
/// At most `max` bytes of a file, or of stdin if it is called `-`.
pub(super) fn read(path: &Path, max: usize) -> Result<Vec<u8>, NotMapped> {
    let mut bytes = Vec::new();
    let done = match path == Path::new("-") {
        true => io::stdin().take(max as u64).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(max as u64).read_to_end(&mut bytes)),
    };
    match done {
        Ok(_) => Ok(bytes),
        Err(error) => Err(NotMapped::Unreadable { path: path.to_owned(), error }),
    }
}

fn header(text: &str) -> Result<(String, Bytes), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_ascii_lowercase(), Bytes::copy_from_slice(value.trim().as_bytes())))
        }
        _ => Err("expected NAME: VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const BATCH: &str = "mapping: batch
from: { bridge: web, address: \"POST /batch\" }
each: payload
envelope: { topic: \"t/${item.id}\" }
";

    /// A configuration in a folder of its own, with these mappings.
    fn site(mappings: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["mappings", "schemas"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let bridges = "bridges: { web: { http: { listen: 127.0.0.1:0, max_payload_bytes: 1024 } } }";
        let gateway =
            format!("domain: d\njurisdictions: [eu]\nbackbone: {{ embedded: {{ path: data }} }}\n{bridges}\n");
        let more = "admin: { listen: 127.0.0.1:0 }\nmappings: mappings/\nschemas: schemas/\npolicy: policy.yaml\n";
        fs::write(dir.path().join("gateway.yaml"), gateway + more).unwrap();
        fs::write(dir.path().join("policy.yaml"), "anonymous: true\n").unwrap();
        for (name, text) in mappings {
            fs::write(dir.path().join("mappings").join(name), text).unwrap();
        }
        dir
    }

    fn tried(dir: &tempfile::TempDir, mapping: &str, address: Option<&str>, payload: &str) -> Result<String, String> {
        let input = dir.path().join("input");
        fs::write(&input, payload).unwrap();
        let tried = Try {
            mapping: mapping.to_owned(),
            input,
            address: address.map(str::to_owned),
            header: vec![header("Kind: x").unwrap()],
            config: dir.path().join("gateway.yaml"),
            format: Format::Text,
        };
        let mut out = Vec::new();
        tried.run(&mut out).map_err(|failure| failure.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn it_shows_each_envelope_in_a_line() {
        let dir = site(&[("batch.yaml", BATCH)]);
        let said = tried(&dir, "batch", None, r#"[{"id":"a"},{"id":"b"}]"#).unwrap();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].contains(r#""subject":"t/a""#) && lines[0].ends_with(r#""data":{"id":"a"}}"#), "{said}");
        assert_eq!(tried(&dir, "batch", None, "[]").as_deref(), Ok(""));
    }

    #[test]
    fn a_refusal_fails_and_says_why() {
        let dir = site(&[("batch.yaml", BATCH)]);
        let said = tried(&dir, "batch", None, r#"[{"id":"a"},{}]"#).unwrap_err();
        assert!(said.starts_with("refused: malformed by mapping: item 1: envelope.topic: item.id"), "{said}");
        assert!(tried(&dir, "batch", Some("POST /other"), "[]").unwrap_err().contains("no mapping takes address"));
        assert!(tried(&dir, "batch", None, &" ".repeat(1_025)).unwrap_err().contains("more than 1024 bytes"));
    }

    #[test]
    fn a_file_that_is_not_configured_is_tried_alone() {
        let dir = site(&[("batch.yaml", BATCH)]);
        let path = dir.path().join("new.yaml");
        let text = BATCH.replace("/batch", "/{x}").replace("each: payload\n", "").replace("item.id", "headers.kind");
        fs::write(&path, &text).unwrap();
        let path = path.display().to_string();
        assert!(tried(&dir, &path, Some("POST /batch"), "1").unwrap().contains(r#""subject":"t/x""#));
        assert!(tried(&dir, &path, None, "1").unwrap_err().contains("say which with --address"));
        fs::write(dir.path().join("bad.yaml"), "mapping: m\n").unwrap();
        let bad = dir.path().join("bad.yaml").display().to_string();
        assert!(tried(&dir, &bad, None, "1").unwrap_err().contains("missing-key"));
        assert!(tried(&dir, "nothing", None, "1").unwrap_err().contains("mappings: batch"));
    }

    #[test]
    fn an_envelope_is_tried_on_a_file_that_sends() {
        let dir = site(&[("batch.yaml", BATCH)]);
        let path = dir.path().join("chat.yaml");
        let text = "mapping: chat\nfrom: { topic: \"t/#\" }\nwhen: has(payload.id)\nto:\n  bridge: web\n  address: POST /chat\n  \
                    headers: { x-topic: \"${envelope.topic}\" }\n  key: k\n  qos: exactly-once\n  retain: true\n  body: { text: \"${payload.id}\" }\n";
        fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let sent = "web: POST /chat\nkey: k\nqos: exactly-once\nretain: true\nx-topic: t/a\ncontent-type: application/json\n\n{\"text\":\"a\"}\n";
        assert_eq!(tried(&dir, &path, Some("t/a"), r#"{"id":"a"}"#).as_deref(), Ok(sent));
        let envelope = tried(&dir, "batch", None, r#"[{"id":"a"}]"#).unwrap();
        assert_eq!(tried(&dir, &path, None, &envelope).as_deref(), Ok(sent));
        assert_eq!(tried(&dir, &path, Some("t/a"), "{}").as_deref(), Ok(""));
        assert!(tried(&dir, &path, Some("u"), "{}").unwrap_err().contains("which does not select u"));
        assert!(tried(&dir, &path, Some("a//b"), "{}").unwrap_err().contains("is no topic"));
        assert!(tried(&dir, &path, None, "{}").unwrap_err().contains("the input is no envelope"));
        assert!(tried(&dir, &path, Some("t/a"), "{").unwrap_err().starts_with("refused: malformed"));
    }

    #[test]
    fn a_message_that_another_mapping_takes_is_none_of_this_one() {
        let any = BATCH.replace("mapping: batch", "mapping: any").replace("/batch", "/{x}");
        let dir = site(&[("any.yaml", &any), ("batch.yaml", BATCH)]);
        let said = tried(&dir, "any", Some("POST /batch"), r#"[{"id":"a"}]"#).unwrap_err();
        assert_eq!(said, "\"any\" does not take it, \"batch\" does");
    }

    #[test]
    fn a_header_has_a_name_and_a_value() {
        assert_eq!(header("ETag: a:b").unwrap(), ("etag".to_owned(), Bytes::from_static(b"a:b")));
        assert!(header("none").is_err() && header(": x").is_err());
    }
}
