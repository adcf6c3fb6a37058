//! `openmesh run`: the gateway in the foreground, until a signal drains it. SIGHUP reloads its configuration.

use std::{future::Future, io::Write, path::Path, time::Duration};

use super::{Failure, Invalid, banner};
use crate::{
    app::App,
    config::{self, Loaded},
    drain::{Drained, Signals, Told},
    readiness::NotReady,
    telemetry,
};

/// Something was left behind at the end; what it was is in the log.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the drain was cut short by its deadline: {0}")]
    Late(String),
    #[error("a second signal ended the gateway before it was drained")]
    Forced,
}

/// How long threads that nobody waits for any more may go on.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// Loads, starts, says what listens where, and waits for the end.
pub(super) fn run(path: &Path, out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let loaded = config::load(path).map_err(Invalid)?;
    telemetry::init(&loaded.config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(loaded, path, out));
    // A file system that does not answer would hold up the thread that looks at the configuration, and with it the end.
    runtime.shutdown_timeout(LAST_GRACE);
    ended
}

async fn serve(loaded: Loaded, path: &Path, out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let what = banner::Banner::of(&loaded, path);
    let running = tokio::select! {
        started = App::start(loaded) => started?,
        signal = signals.end() => {
            tracing::info!(signal, "ended before the start was complete");
            return Ok(());
        }
    };
    let said = match running.readiness().check() {
        Err(NotReady::Broken(why)) => what.write_broken(running.addresses(), &why, out),
        Ok(()) | Err(_) => what.write(running.addresses(), out),
    };
    if let Err(error) = said {
        tracing::warn!(%error, "nobody reads what is said on stdout");
    }
    let signal = loop {
        match signals.next().await {
            Told::Reload => running.reload_soon(),
            Told::End(signal) => break signal,
        }
    };
    tracing::info!(signal, "told to end");
    end(running.drain(), &mut signals).await.map_err(Failure::from)
}

async fn end(drain: impl Future<Output = Drained>, signals: &mut Signals) -> Result<(), Ended> {
    tokio::select! {
        drained = drain => match drained {
            Drained::Clean => Ok(()),
            Drained::Late(left) => Err(Ended::Late(left.join(", "))),
        },
        signal = signals.end() => {
            tracing::error!(signal, "told to end at once");
            Err(Ended::Forced)
        }
    }
}
