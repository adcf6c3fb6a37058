//! Whether anyone still reads what is printed.

use std::{
    future::pending,
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::{io::Interest, net::unix::pipe::Sender};

/// Ends when the reader of stdout is gone, as after `| head -1`, even while there is nothing to print. Where stdout is a
/// file, it never ends.
pub(super) async fn closed() {
    // What can't be polled has no reader that could go.
    let Ok(stdout) = polled() else { return pending().await };
    if let Err(error) = stdout.ready(Interest::ERROR).await {
        tracing::debug!(%error, "stdout can't be watched");
        pending().await
    }
}

/// Only asked for its state, never written to: stdout itself stays as it is, and blocks.
fn polled() -> io::Result<Sender> {
    let stdout: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
    Sender::from_owned_fd_unchecked(stdout)
}
