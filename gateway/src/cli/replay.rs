//! `openmesh policy replay`: what a candidate configuration would have said of what is stored.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use envelope::{AckPoint, Envelope, Group, Identity, Lane, Mapped, Principal, RejectKind, Route, Timestamp};
use policy::{BRIDGE, Epoch, UsersFile};

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
    /// What tokens or certificates say of senders: a file as users.yaml, of those who are in neither side's
    #[arg(long, value_name = "FILE")]
    senders: Option<PathBuf>,
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
    /// Who is in no file of a side.
    senders: UsersFile,
}

/// How often which decision became which other.
#[derive(Debug, Default)]
struct Changes {
    read: u64,
    /// Of whose sender a side can't know enough.
    untold: u64,
    changed: BTreeMap<(String, String), u64>,
}

// === impl Replay ===

impl Replay {
    pub(super) async fn run(&self, out: &mut (impl Write + Send)) -> Result<(), Failure> {
        let load = |path: &Path| Side::load(path, self.senders.as_deref());
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

// === impl Side ===

impl Side {
    fn load(path: &Path, senders: Option<&Path>) -> Result<Self, Failure> {
        let loaded = config::load(path).map_err(Invalid)?;
        let epoch = reload::epoch_of(&loaded);
        let senders = match senders {
            Some(file) => {
                let text =
                    fs::read_to_string(file).map_err(|error| format!("{}: can't be read: {error}", file.display()))?;
                UsersFile::parse(&file.display().to_string(), &text, &epoch.access.access.attributes)
                    .map_err(Invalid)?
            }
            None => UsersFile::default(),
        };
        Ok(Self { epoch, users: loaded.guards.users, senders })
    }

    /// What it decides; `None` if that can't be told.
    fn says(&self, envelope: Envelope) -> Option<String> {
        let (bridge, named) = policy::sender(&envelope)?;
        let principal = match self.who(named, &bridge) {
            Sender::Is(principal) => principal,
            Sender::Nobody => return Some(format!("{} by authentication", RejectKind::Unauthenticated)),
            Sender::NotKnown => return None,
        };
        Some(said(&policy::judge(&self.epoch, mapped(envelope, bridge, principal))))
    }

    /// The store has the name of a sender, and not how it proved it.
    fn who(&self, named: Principal, bridge: &str) -> Sender {
        let access = &self.epoch.access;
        // what a bridge brings from a remote peer is its own
        if named.id.strip_prefix(BRIDGE) == Some(bridge) {
            return Sender::Is(named);
        }
        if named.id == Principal::anonymous("").id {
            return if access.anonymous { Sender::Is(named) } else { Sender::Nobody };
        }
        let user = self.users.users().find(|(id, _)| **id == *named.id).map(|(_, user)| user);
        match self.users.principal(&named.id, &named.domain) {
            Some(principal) if user.is_some_and(|user| !user.disabled) => Sender::Is(principal),
            // who comes by a token or a certificate may be of any name, role and place
            _ if !access.tokens.is_empty() || !access.certificates.is_empty() => {
                self.senders.principal(&named.id, &named.domain).map_or(Sender::NotKnown, Sender::Is)
            }
            _ => Sender::Nobody,
        }
    }
}

/// Who sent a message that is stored, to one side.
enum Sender {
    /// A user, or anonymous.
    Is(Principal),
    /// It is let in no more.
    Nobody,
    /// It may have come by a token or a certificate, and what that said of it is not stored.
    NotKnown,
}

/// As MAPPING made it, as far as the store knows.
fn mapped(envelope: Envelope, bridge: Arc<str>, principal: Principal) -> Mapped {
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
        let (Some(before), Some(after)) = (now.says(envelope.clone()), then.says(envelope)) else {
            self.untold += 1;
            return Ok(());
        };
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
        if self.untold > 0 {
            let why = "a sender may have come by a token or a certificate, and what that said of it is not stored: see --senders";
            writeln!(out, "  {}: can't be told, {why}", self.untold)?;
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
