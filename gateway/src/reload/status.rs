//! What is told of reloads: in `/routes`, in the log, in metrics.

use std::{fmt, sync::Arc, time::SystemTime};

use mapping::Mappings;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use serde::Serialize;
use tokio::task::JoinError;
use utoipa::ToSchema;
use yaml::{Diagnostic, Diagnostics};

use super::Reloaded;
use crate::config::{Changes, Differences};

/// Why a reload began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    /// SIGHUP, or a call.
    Asked,
    /// By the admin API.
    Requested,
    /// A file looks different.
    FilesChanged,
}

/// What is in force, and what is not and why.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Status {
    /// The number of the epoch in force.
    number: u64,
    /// When it was put in force.
    since: String,
    /// What was different from the epoch before.
    changes: Changes,
    /// The sections of `gateway.yaml` that say something else than what the process was started with.
    needs_restart: Vec<String>,
    /// Why the files that are there now are not in force, if they do not hold.
    refused: Option<Refused>,
}

/// An epoch that decides.
pub(super) struct InForce {
    pub(super) number: u64,
    pub(super) mappings: Arc<Mappings>,
    since: SystemTime,
    changes: Changes,
}

/// Files that do not hold.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Refused {
    at: String,
    /// How many errors there are.
    #[serde(rename = "errors")]
    pub(super) count: usize,
    /// The first of them, a line each.
    first: Vec<String>,
}

/// The names of one kind of change in a log line.
struct Names<'a>(&'a [String]);

/// The most errors of a refused reload that are logged and kept, and the most names in a field of a log line.
const MOST_SHOWN: usize = 20;

/// Says what the metrics below mean; once a process is enough.
pub(crate) fn describe() {
    describe_gauge!("openmesh_epoch", "number of the configuration in force; raised with every reload that changes it");
    describe_gauge!("openmesh_reload_refused", "1 while the configuration's files do not hold and are not in force");
    describe_gauge!("openmesh_restart_needed_sections", "changed sections of gateway.yaml that wait for a restart");
    describe_counter!("openmesh_reloads_total", "reloads by how they ended");
}

// === impl Because ===

impl Because {
    /// Who is behind it, for the audit.
    pub(super) const fn who(self) -> &'static str {
        match self {
            Self::Asked => "signal",
            Self::Requested => "admin API",
            Self::FilesChanged => "files",
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked for",
            Self::Requested => "asked for over the admin API",
            Self::FilesChanged => "files changed",
        })
    }
}

// === impl Status ===

impl Status {
    pub(super) fn of(in_force: &InForce, needs_restart: &[String], refused: Option<&Refused>) -> Self {
        Self {
            number: in_force.number,
            since: rfc3339(in_force.since),
            changes: in_force.changes.clone(),
            needs_restart: needs_restart.to_vec(),
            refused: refused.cloned(),
        }
    }

    /// Logs and counts a reload that was not refused.
    pub(super) fn log(&self, because: Because, reloaded: Reloaded) {
        let epoch = self.number;
        let kind = match reloaded {
            Reloaded::Changed(_) => {
                let Changes { mappings, schemas, tables, policy } = &self.changes;
                tracing::info!(epoch, %because, policy_changed = policy, "another configuration is in force");
                log_differences("mappings", mappings);
                log_differences("schemas", schemas);
                log_differences("tables", tables);
                "changed"
            }
            Reloaded::Unchanged(_) | Reloaded::Refused(_) => {
                tracing::info!(epoch, %because, "nothing changed in the configuration in force");
                "unchanged"
            }
        };
        if !self.needs_restart.is_empty() {
            let sections = Names(&self.needs_restart);
            tracing::warn!(%sections, "changes of gateway.yaml need a restart and are not in force");
        }
        self.count(kind);
    }

    fn count(&self, kind: &'static str) {
        counter!("openmesh_reloads_total", "kind" => kind).increment(1);
        gauge!("openmesh_restart_needed_sections").set(self.needs_restart.len() as f64);
        gauge!("openmesh_reload_refused").set(0.0);
        gauge!("openmesh_epoch").set(self.number as f64);
    }
}

fn log_differences(what: &'static str, differences: &Differences) {
    let Differences { added, removed, changed } = differences;
    for (change, names) in [("added", added), ("removed", removed), ("changed", changed)] {
        if !names.is_empty() {
            tracing::info!(what, change, names = %Names(names), "reloaded");
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

// === impl InForce ===

impl InForce {
    /// What the process was started with.
    pub(super) fn first(number: u64, mappings: Arc<Mappings>) -> Self {
        gauge!("openmesh_epoch").set(number as f64);
        gauge!("openmesh_reload_refused").set(0.0);
        gauge!("openmesh_restart_needed_sections").set(0.0);
        Self::new(number, mappings, Changes::default())
    }

    pub(super) fn new(number: u64, mappings: Arc<Mappings>, changes: Changes) -> Self {
        Self { number, mappings, since: SystemTime::now(), changes }
    }
}

// === impl Refused ===

impl Refused {
    pub(super) fn by(errors: &Diagnostics) -> Self {
        let first = errors.iter().take(MOST_SHOWN).map(in_a_line).collect();
        Self { at: rfc3339(SystemTime::now()), count: errors.len(), first }
    }

    /// The loader has an error of its own.
    pub(super) fn by_panic(error: &JoinError) -> Self {
        let first = vec![format!("the files were not read to their end: {error}")];
        Self { at: rfc3339(SystemTime::now()), count: 1, first }
    }

    /// Logs and counts it.
    pub(super) fn log(&self, because: Because, epoch: u64) {
        for error in &self.first {
            tracing::error!(%error, "the configuration does not hold");
        }
        let (errors, shown) = (self.count, self.first.len());
        tracing::error!(epoch, %because, errors, shown, "the reload is refused, the epoch in force stays");
        counter!("openmesh_reloads_total", "kind" => "refused").increment(1);
        gauge!("openmesh_reload_refused").set(1.0);
    }
}

/// `path:line:column: error[code]: message; help`, without the excerpt.
fn in_a_line(error: &Diagnostic) -> String {
    let mut line = error.to_string().lines().next().unwrap_or_default().to_owned();
    if let Some(help) = &error.help {
        line = format!("{line}; {}", help.replace('\n', " "));
    }
    line
}

// === impl Names ===

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, more) = self.0.split_at(self.0.len().min(MOST_SHOWN));
        f.write_str(&shown.join(" "))?;
        match more.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_is_cut_in_a_log_line_and_counted() {
        let names: Vec<_> = (0..MOST_SHOWN + 2).map(|n| n.to_string()).collect();
        assert!(Names(&names).to_string().ends_with("18 19 and 2 more"));
        assert_eq!(Names(&names[..2]).to_string(), "0 1");
        assert_eq!(Names(&[]).to_string(), "");
    }

    #[test]
    fn only_the_first_errors_are_kept_each_in_a_line_and_all_are_counted() {
        let error = |n: usize| Diagnostic::of_file(format!("{n:03}.yaml"), "bad", "is bad").with_help("mend\nit");
        let all = Diagnostics::collect((0..1_000).map(error)).unwrap();
        let refused = Refused::by(&all);
        assert_eq!((refused.count, refused.first.len()), (1_000, MOST_SHOWN));
        assert_eq!(refused.first[0], "000.yaml: error[bad]: is bad; mend it");
    }
}
