//! Logs and metrics of the process: set up once, before anything else runs.
//!
//! Logs go to stderr, as text or as JSON lines. What belongs to a message carries its W3C trace id as the field
//! `trace_id`. Metrics are collected here and served by `admin`.

use std::{
    fmt,
    sync::{Once, OnceLock},
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Overrides the config's `log.filter`.
pub const FILTER_VARIABLE: &str = "OPENMESH_LOG";
/// Overrides the config's `log.format`.
pub const FORMAT_VARIABLE: &str = "OPENMESH_LOG_FORMAT";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `tracing-subscriber`'s directives, as `info` or `info,bridges=debug`.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// An environment variable, or the config, says something that can't be logged by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: {detail}")]
pub struct TelemetryError {
    value: String,
    what: &'static str,
    detail: String,
}

/// Upper bounds of the buckets of every `_seconds` histogram.
const SECONDS: [f64; 14] = [1e-5, 2.5e-5, 1e-4, 2.5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 1.0, 5.0];
/// Upper bounds of the buckets of every other histogram: sizes of batches and groups.
const SIZES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];
/// How often collected samples are folded into their buckets; between two times they take memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging. Later calls change nothing: the first one of the process decides.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    static STARTED: Once = Once::new();
    let filter = variable(FILTER_VARIABLE).unwrap_or_else(|| config.filter.clone());
    let format = match variable(FORMAT_VARIABLE) {
        Some(text) => LogFormat::parse(&text)?,
        None => config.format,
    };
    let directives = directives(&filter)?;
    STARTED.call_once(|| {
        let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(directives);
        let set = match format {
            LogFormat::Text => tracing::subscriber::set_global_default(lines.finish()),
            LogFormat::Json => tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish()),
        };
        if let Err(error) = set {
            tracing::debug!(%error, "logs go where this process said first");
        }
    });
    Ok(())
}

/// Checks log directives.
pub fn directives(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|error| TelemetryError {
        value: filter.to_owned(),
        what: "log filter",
        detail: error.to_string(),
    })
}

/// The process's metrics; the first call begins to collect them.
pub fn metrics() -> PrometheusHandle {
    static COLLECTED: OnceLock<PrometheusHandle> = OnceLock::new();
    COLLECTED.get_or_init(collect).clone()
}

fn collect() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    let with_buckets = builder
        .set_buckets(&SIZES)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS));
    let recorder = match with_buckets {
        Ok(builder) => builder.build_recorder(),
        Err(error) => {
            tracing::error!(%error, "histograms are served as summaries");
            PrometheusBuilder::new().build_recorder()
        }
    };
    let handle = recorder.handle();
    if let Err(error) = metrics::set_global_recorder(recorder) {
        tracing::error!(%error, "metrics are collected elsewhere");
    }
    handle
}

/// Folds collected samples into their buckets until `stop`, so that they take no memory when nobody scrapes.
pub(crate) async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(UPKEEP);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        metrics.run_upkeep();
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

// === impl LogFormat ===

impl LogFormat {
    /// Reads `text` or `json`.
    pub fn parse(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError {
                value: text.to_owned(),
                what: "log format",
                detail: "it is text or json".to_owned(),
            }),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

// === impl LogConfig ===

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_reads_back_and_another_one_is_refused() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(LogFormat::parse(&format.to_string()), Ok(format));
        }
        assert_eq!(LogFormat::parse("xml").unwrap_err().to_string(), "\"xml\" is no log format: it is text or json");
    }

    #[test]
    fn directives_that_nobody_understands_are_refused() {
        assert!(directives("info,bridges=debug").is_ok());
        assert!(directives("bridges=loud").unwrap_err().to_string().contains("\"bridges=loud\" is no log filter"));
    }

    #[test]
    fn metrics_are_collected_once_for_the_process() {
        metrics::counter!("openmesh_test_total").absolute(0);
        let (first, second) = (super::metrics(), super::metrics());
        metrics::counter!("openmesh_test_total").increment(3);
        assert!(first.render().contains("openmesh_test_total 3"));
        assert_eq!(first.render(), second.render());
    }
}
