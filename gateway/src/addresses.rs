//! Which addresses the mappings in force take, for bridges that ask a peer for them: told anew with every reload.

use std::sync::Arc;

use mapping::Mappings;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reload::Reload;

/// What each bridge is told.
#[derive(Debug, Default)]
pub(crate) struct Taken(Vec<Told>);

/// A bridge, by its name.
type Told = (Arc<str>, watch::Sender<Arc<[String]>>);

// === impl Taken ===

impl Taken {
    /// What bridge `name` hears: now of these mappings, later of those that come in force.
    pub(crate) fn of(&mut self, name: &Arc<str>, mappings: &Mappings) -> watch::Receiver<Arc<[String]>> {
        let (sender, receiver) = watch::channel(addresses(name, mappings));
        self.0.push((name.clone(), sender));
        receiver
    }

    /// Follows the mappings in force until `stop`.
    pub(crate) async fn follow(self, reload: Reload, stop: CancellationToken) {
        let mut changes = reload.current().changes();
        loop {
            let (_, mappings) = reload.status();
            for (name, sender) in &self.0 {
                let now = addresses(name, &mappings);
                sender.send_if_modified(|before| {
                    let changed = **before != *now;
                    *before = now;
                    changed
                });
            }
            match stop.run_until_cancelled(changes.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => break,
            }
        }
        // a source that drains is not to hear that nobody tells it anything any more
        stop.cancelled().await;
    }
}

fn addresses(bridge: &str, mappings: &Mappings) -> Arc<[String]> {
    mappings.addresses(bridge).into_iter().collect()
}
