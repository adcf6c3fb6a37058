//! `openmesh store`: looks after the store of a gateway that does not run.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use backbone::{
    Backbone as _, Embedded,
    care::{self, Folder},
};
use clap::{Args, Subcommand};

use super::{Failure, Invalid, format::Said};
use crate::config;

/// A store.
#[derive(Debug, Args)]
pub(super) struct Store {
    #[command(subcommand)]
    command: Command,
    /// The configuration that names the store
    #[arg(long, global = true, default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// The store's folder, instead of the one that the configuration names
    #[arg(long, global = true)]
    path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what is in it
    Inspect,
    /// Reads all of it and says what is wrong
    Check,
    /// Makes a new store of what can be read of a broken one, which is kept beside it
    Repair,
    /// Writes its envelopes as lines of JSON
    Export {
        /// Where to; - for standard output
        file: PathBuf,
        /// The first sequence that is written
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
    /// Stores what `export` wrote, behind what is there, by your word and not by policy
    Import {
        /// Where from; - for standard input
        file: PathBuf,
    },
}

// === impl Store ===

impl Store {
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        match &self.command {
            Command::Inspect => inspect(&self.folder()?, out),
            Command::Check => check(&self.folder()?, out),
            Command::Repair => repair(&self.folder()?, out),
            Command::Export { file, from } => export(&self.folder()?, file, *from, out),
            Command::Import { file } => self.import(file, out).await,
        }
    }

    fn folder(&self) -> Result<PathBuf, Failure> {
        match &self.path {
            Some(path) => Ok(path.clone()),
            None => {
                let loaded = config::load(&self.config).map_err(Invalid)?;
                Ok(loaded.config.backbone.path().to_owned())
            }
        }
    }

    async fn import(&self, file: &Path, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        let loaded = config::load(&self.config).map_err(Invalid)?;
        let mut with = loaded.config.open_with();
        if let Some(path) = &self.path {
            with.path.clone_from(path);
        }
        let store = tokio::task::spawn_blocking(|| Embedded::open(with)).await??;
        let imported = match file.to_str() {
            Some("-") => care::import(&store, BufReader::new(io::stdin())).await,
            _ => care::import(&store, BufReader::new(open(file)?)).await,
        };
        store.close().await?;
        let imported = imported?;
        writeln!(out, "{} envelopes stored, {} were there", imported.stored, imported.duplicates)?;
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    Ok(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn inspect(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let about = Folder::open(path)?.inspect()?;
    writeln!(out, "store          {}, format {}", path.display(), about.format)?;
    match about.first.zip(about.last) {
        Some(((first, from), (last, to))) => writeln!(out, "log            {first} ({from}) to {last} ({to})")?,
        None => writeln!(out, "log            empty")?,
    }
    if about.given_up > 0 {
        writeln!(out, "               {} sequences were given up by a repair", about.given_up)?;
    }
    let kib = |bytes: u64| bytes.div_ceil(1024);
    writeln!(out, "size           {} KiB of records, {} KiB on disk", kib(about.record_bytes), kib(about.file_bytes))?;
    let ids = about.ledger.store.dedup_entries;
    writeln!(out, "remembered     {ids} ids, {} last values, {} keys", about.last_values, about.keys)?;
    let violations = about.ledger.check();
    writeln!(out, "ledger         {}", if violations.is_empty() { "balanced" } else { "DOES NOT BALANCE" })?;
    for violation in violations {
        writeln!(out, "               {violation}")?;
    }
    for (name, counts) in &about.ledger.subscriptions {
        let name = name.escape_debug();
        writeln!(out, "subscription   {name}: {} matched, {} pending", counts.matched, counts.pending)?;
    }
    Ok(())
}

fn check(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let checked = Folder::open(path)?.check()?;
    writeln!(out, "{} records and {} other rows are in order", checked.records, checked.rows)?;
    if checked.given_up > 0 {
        writeln!(out, "{} sequences were given up by a repair", checked.given_up)?;
    }
    for wrong in &checked.wrong {
        writeln!(out, "wrong: {wrong}")?;
    }
    match checked.wrong_count {
        0 => Ok(()),
        count => {
            let more = count - checked.wrong.len() as u64;
            if more > 0 {
                writeln!(out, "and {more} more")?;
            }
            writeln!(out, "{count} wrong: `openmesh store repair` keeps what can be read")?;
            out.flush()?;
            Err(Said.into())
        }
    }
}

fn repair(path: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let repaired = care::repair(path)?;
    writeln!(out, "{} records and {} other rows are in the new store", repaired.records, repaired.rows)?;
    for (first, last) in &repaired.gaps {
        writeln!(out, "given up: sequences {first} to {last}")?;
    }
    for lost in &repaired.unreadable {
        writeln!(out, "lost: rows of {lost}")?;
    }
    let count = repaired.dead_lettered;
    if count > 0 {
        writeln!(out, "{count} deliveries that were to come of them are counted as dead letters")?;
    }
    if repaired.quarantined > 0 {
        let file = repaired.quarantine.display();
        writeln!(out, "{} rows that make no sense are in {file}", repaired.quarantined)?;
    } else {
        fs::remove_file(&repaired.quarantine)?;
    }
    writeln!(out, "the store as it was is in {}", repaired.before.display())?;
    Ok(())
}

fn export(path: &Path, file: &Path, from: u64, out: &mut impl Write) -> Result<(), Failure> {
    let folder = Folder::open(path)?;
    if file.as_os_str() == "-" {
        let exported = folder.export(from, out)?;
        return skipped(exported.skipped);
    }
    let failed = |error: io::Error| format!("{}: {error}", file.display());
    let mut to = BufWriter::new(File::create_new(file).map_err(failed)?);
    let exported = folder.export(from, &mut to)?;
    to.flush().and_then(|()| to.get_ref().sync_all()).map_err(failed)?;
    writeln!(out, "{} envelopes written to {}", exported.records, file.display())?;
    skipped(exported.skipped)
}

/// An export that lacks something is none that may be taken for whole.
fn skipped(records: u64) -> Result<(), Failure> {
    match records {
        0 => Ok(()),
        _ => Err(format!("{records} records can't be read and were left out: see `openmesh store check`").into()),
    }
}
