//! Writes the log as lines of JSON that people and other programs read: how each envelope came, and the CloudEvent.

use std::{fmt, io::Write};

use envelope::{Identity, cloudevents, json::write_string};

use super::{CareError, Folder, walk};
use crate::record::{self, Header};

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Lines.
    pub records: u64,
    /// Records that can't be read: they are not in it.
    pub skipped: u64,
}

/// Bytes as hexadecimal digits.
pub(super) struct Hex<'b>(pub(super) &'b [u8]);

// === impl Folder ===

impl Folder {
    /// Writes every record from the sequence `from` on, a line each, in order. What can't be read is skipped and counted.
    pub fn export(&self, from: u64, out: &mut impl Write) -> Result<Exported, CareError> {
        let mut exported = Exported::default();
        let mut line = Vec::new();
        walk::log(&self.store, |(at, last), found| {
            if last < from {
                return Ok(());
            }
            let Some((header, envelope)) = found.ok().and_then(|record| record::decode(&record).ok()) else {
                exported.skipped += last + 1 - at.max(from);
                return Ok(());
            };
            line.clear();
            put_header(&mut line, at, &header);
            line.extend_from_slice(b",\"envelope\":");
            cloudevents::write_json(&envelope, &mut line);
            line.extend_from_slice(b"}\n");
            exported.records += 1;
            out.write_all(&line).map_err(|source| CareError::Io { what: "the export".to_owned(), source })
        })?;
        Ok(exported)
    }
}

fn put_header(line: &mut Vec<u8>, at: u64, header: &Header) {
    let (kind, identity) = match &header.identity {
        Identity::Native(native) | Identity::Keyed { name: native, .. } => ("native", Hex(native).to_string()),
        Identity::Fresh(uuid) => ("fresh", Hex(uuid.as_bytes()).to_string()),
    };
    line.extend_from_slice(format!("{{\"sequence\":{at},\"epoch\":{}", header.epoch).as_bytes());
    line.extend_from_slice(format!(",\"retained\":{}", header.retained).as_bytes());
    if let Identity::Keyed { print, .. } = &header.identity {
        line.extend_from_slice(format!(",\"fingerprint\":\"{}\"", Hex(&print.0)).as_bytes());
    }
    let admitted_at = header.admitted_at.to_string();
    for (name, text) in [
        ("admitted_at", &*admitted_at),
        ("domain", &header.domain),
        ("principal", &header.principal),
        ("principal_domain", &header.principal_domain),
        ("bridge", &header.bridge),
        ("mapping", &header.mapping),
        ("mapping_version", &header.mapping_version),
        (kind, &identity),
    ] {
        line.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_string(line, text);
    }
}

// === impl Hex ===

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
