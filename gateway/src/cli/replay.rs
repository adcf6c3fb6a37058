//! `openmesh policy replay`: what a candidate configuration would have said of what is stored.

use std::{
    collections::BTreeMap,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use envelope::{AckPoint, Envelope, Group, Identity, Lane, Mapped, Principal, Route, Timestamp};
use policy::{Epoch, UsersFile};

use super::{Failure, Invalid, stored::Stored};
use crate::{config, reload};

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Puts stored envelopes before the policy in force and a candidate, and shows where they decide otherwise
    Replay(Replay),
}

/// What to replay, and against what.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Only envelopes of this time and later, as 2026-11-23T05:00:00Z
    #[arg(long, value_parser = time)]
    from: Option<Timestamp>,
    /// The candidate: a folder with its gateway.yaml and what that names
    #[arg(long)]
    candidate: PathBuf,
    #[command(flatten)]
    stored: Stored,
    /// The configuration in force; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
}

/// The most envelopes that are shown one by one.
const SHOWN: u64 = 100;

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "no time of RFC 3339, as 2026-11-23T05:00:00Z".to_owned())
}

/// A configuration, as it decides.
struct Side {
    epoch: Epoch,
    users: UsersFile,
}

/// How often which decision became which other.
#[derive(Debug, Default)]
struct Changes {
    read: u64,
    changed: BTreeMap<(String, String), u64>,
}

// === impl Replay ===

impl Replay {
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        let (now, then) = (Side::load(&self.config)?, Side::load(&self.candidate.join("gateway.yaml"))?);
        let mut changes = Changes::default();
        let mut written = Ok(());
        let from = self.from.unwrap_or(Timestamp::from_micros(0));
        let each = |envelope: Envelope| {
            if envelope.time >= from {
                written = changes.compare(&now, &then, envelope, out);
            }
            if written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.stored.read(each).await?;
        written?;
        changes.sum_up(out)
    }
}

// === impl Side ===

impl Side {
    fn load(path: &Path) -> Result<Self, Failure> {
        let loaded = config::load(path).map_err(Invalid)?;
        Ok(Self { epoch: reload::epoch_of(&loaded), users: loaded.guards.users })
    }

    fn says(&self, envelope: Envelope) -> String {
        said(&policy::judge(&self.epoch, mapped(envelope, &self.users)))
    }
}

/// As MAPPING made it, as far as the store knows: of a sender, its name. Who that is, `users` say.
fn mapped(envelope: Envelope, users: &UsersFile) -> Mapped {
    let (bridge, named) = policy::sender(&envelope).unwrap_or_else(|| ("".into(), Principal::anonymous("")));
    let principal = users.principal(&named.id, &named.domain).unwrap_or(named);
    Mapped {
        route: Route::new("", ""),
        ack: AckPoint::Durable,
        terms: Arc::default(),
        bridge,
        lane: Lane(0),
        principal: Arc::new(principal),
        identity: Identity::fresh(),
        retain: false,
        group: Group::One(envelope),
    }
}

// === impl Changes ===

impl Changes {
    fn compare(&mut self, now: &Side, then: &Side, envelope: Envelope, out: &mut impl Write) -> Result<(), Failure> {
        self.read += 1;
        let (id, topic) = (envelope.id, envelope.subject.clone());
        let (before, after) = (now.says(envelope.clone()), then.says(envelope));
        if before == after {
            return Ok(());
        }
        if self.changed.values().sum::<u64>() < SHOWN {
            writeln!(out, "{id}  {topic}  {before}  ->  {after}")?;
        }
        *self.changed.entry((before, after)).or_default() += 1;
        Ok(())
    }

    fn sum_up(&self, out: &mut impl Write) -> Result<(), Failure> {
        let changed: u64 = self.changed.values().sum();
        writeln!(out, "{} envelopes, {changed} decided otherwise", self.read)?;
        for ((before, after), count) in &self.changed {
            writeln!(out, "  {count}: {before}  ->  {after}")?;
        }
        Ok(())
    }
}

fn said(told: &policy::Explanation) -> String {
    match told.refused() {
        Some(no) => format!("{} by {}", no.kind, no.decided_by),
        None => told.outcome().to_owned(),
    }
}
