//! `openmesh map init`: a first mapping, written from a captured message.
//!
//! What is written has passed `check` and its own test together with everything that is configured already; if it does
//! not, nothing stays written.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use mapping::{Outcome, Sample, Started};

use super::{Failure, Invalid, r#try::read};
use crate::config::{self, Loaded};

/// Writes mapping files.
#[derive(Debug, Subcommand)]
pub(super) enum Map {
    /// Writes a first mapping, with the schema of what it takes and a test, from a captured message
    Init(Init),
}

/// What to write a mapping from.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The captured message; - reads it from stdin
    #[arg(long)]
    from: PathBuf,
    /// What the mapping and its topic are called; left out, as the file of the message
    #[arg(long)]
    name: Option<String>,
    /// The addresses it takes, as `POST /orders/{shop}`; left out: POST and the name
    #[arg(long)]
    address: Option<String>,
    /// The bridge it takes them from; left out: the first one
    #[arg(long)]
    bridge: Option<String>,
    /// The message's format; left out, it is guessed by the content
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(mapping::formats()))]
    decode: Option<String>,
    /// The configuration; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum NotWritten {
    #[error("say with --name what the mapping is to be called: lower-case letters, digits and '-'; not {0:?}")]
    Name(String),
    #[error("no bridge is configured")]
    NoBridge,
    #[error("the message has more than {LIMIT} bytes")]
    TooLarge,
    #[error("the message is not of the format: {0}")]
    Format(envelope::Rejection),
    #[error("{path}: {error}", path = .path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("the mapping would not pass its own test: {0}")]
    Test(String),
}

/// The longest message that a file is made from: it stands in the file as a test.
const LIMIT: usize = 65_536;
const MAX_NAME: usize = 64;
/// Where the shipped configuration has the JSON Schema of mapping files, seen from their folder.
const EDITORS: &str = "../formats/mapping.json";

// === impl Init ===

impl Init {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let loaded = config::load(&self.config).map_err(Invalid)?;
        let name = self.name()?;
        let first = loaded.config.bridges.first().map(|(name, _)| name.to_string());
        let bridge = self.bridge.clone().or(first).ok_or(NotWritten::NoBridge)?;
        let address = self.address.clone().unwrap_or_else(|| format!("POST /{name}"));
        let payload = Bytes::from(read(&self.from, LIMIT + 1)?);
        if payload.len() > LIMIT {
            return Err(NotWritten::TooLarge.into());
        }
        let decode = self.decode.as_deref();
        let sample = Sample { name: &name, bridge: &bridge, address: &address, decode, payload: &payload };
        let made = mapping::start(sample).map_err(NotWritten::Format)?;
        let written = Written::write(&name, &made, &loaded)?;
        self.check(&name)?;
        for path in &written.0 {
            writeln!(out, "wrote {}", path.display())?;
        }
        writeln!(out, "takes {address:?} of bridge {bridge:?}; next: edit it, openmesh check, openmesh test {name}")?;
        written.keep();
        Ok(())
    }

    fn name(&self) -> Result<String, NotWritten> {
        let said = self.name.clone().or_else(|| Some(self.from.file_stem()?.to_str()?.to_ascii_lowercase()));
        let said = said.unwrap_or_default();
        let sound = said.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let begins = said.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if sound && begins && said.len() <= MAX_NAME { Ok(said) } else { Err(NotWritten::Name(said)) }
    }

    /// Everything that is configured, with what was just written.
    fn check(&self, name: &str) -> Result<(), Failure> {
        let loaded = config::load(&self.config).map_err(Invalid)?;
        for result in loaded.mappings.run_tests().into_iter().filter(|result| result.mapping == name) {
            if let Outcome::Failed(why) = result.outcome {
                return Err(NotWritten::Test(why).into());
            }
        }
        Ok(())
    }
}

/// Files that go away again unless they are kept.
struct Written(Vec<PathBuf>);

// === impl Written ===

impl Written {
    /// Overwrites nothing.
    fn write(name: &str, made: &Started, loaded: &Loaded) -> Result<Self, NotWritten> {
        let mut written = Self(Vec::new());
        if let Some(schema) = &made.schema {
            written.add(&loaded.places.schemas, &format!("{name}.json"), schema)?;
        }
        let folder = &loaded.places.mappings;
        // editors then know the keys
        let known = folder.join(EDITORS).is_file();
        let text = if known {
            format!("# yaml-language-server: $schema={EDITORS}\n{}", made.mapping)
        } else {
            made.mapping.clone()
        };
        written.add(folder, &format!("{name}.yaml"), &text)?;
        Ok(written)
    }

    fn add(&mut self, folder: &Path, name: &str, text: &str) -> Result<(), NotWritten> {
        let path = folder.join(name);
        let failed = |error| NotWritten::File { path: path.clone(), error };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = File::options().write(true).create_new(true).open(&path).map_err(failed)?;
        self.0.push(path.clone());
        file.write_all(text.as_bytes()).map_err(failed)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in self.0.drain(..) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a file that does not hold is left");
            }
        }
    }
}
