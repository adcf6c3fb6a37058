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
use policy::Epoch;

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

/// How often which decision became which other.
#[derive(Debug, Default)]
struct Changes {
    read: u64,
    changed: BTreeMap<(String, String), u64>,
}

// === impl Replay ===

impl Replay {
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        let (now, then) = (load(&self.config)?, load(&self.candidate.join("gateway.yaml"))?);
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

fn load(path: &Path) -> Result<Epoch, Failure> {
    Ok(reload::epoch_of(&config::load(path).map_err(Invalid)?))
}

/// As MAPPING made it, as far as the store knows: of a sender, its name.
fn mapped(envelope: Envelope) -> Mapped {
    let (bridge, principal) = policy::sender(&envelope).unwrap_or_else(|| ("".into(), Principal::anonymous("")));
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
    fn compare(&mut self, now: &Epoch, then: &Epoch, envelope: Envelope, out: &mut impl Write) -> Result<(), Failure> {
        self.read += 1;
        let (id, topic) = (envelope.id, envelope.subject.clone());
        let message = mapped(envelope);
        let [before, after] = [now, then].map(|epoch| said(&policy::judge(epoch, message.clone())));
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
