//! How connections stand that a bridge makes by itself: shown by the gateway, so that a remote broker which is away or says
//! no is seen where the mappings are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use metrics::{describe_gauge, gauge};

/// The connections of all bridges. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Standings(Arc<Mutex<ByBridge>>);

/// By bridge and direction.
type ByBridge = BTreeMap<(Arc<str>, &'static str), Standing>;

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is to; of several that are asked in turn, the last one.
    pub peer: String,
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
}

/// How a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It is being made for the first time.
    Connecting,
    /// It stands; and what of it does not work, if something does not.
    Connected(Option<String>),
    /// It can't be had now: why.
    Away(String),
    /// The peer says no: why. It is asked again, but seldom.
    Refused(String),
}

/// One connection, for who makes it.
#[derive(Debug, Clone)]
pub(crate) struct Stand {
    all: Standings,
    bridge: Arc<str>,
    direction: &'static str,
}

const CONNECTED: &str = "openmesh_bridge_connected";

/// A peer's words, in a line of bounded length.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect()
}

// === impl Standings ===

impl Standings {
    /// The connection of a bridge in this direction, `in` or `out`; from now on it is shown.
    pub(crate) fn stand(&self, bridge: Arc<str>, direction: &'static str) -> Stand {
        describe_gauge!(CONNECTED, "1 while the connection that the bridge makes stands");
        let stand = Stand { all: self.clone(), bridge, direction };
        stand.is("", State::Connecting);
        stand
    }

    /// Bridge, direction and connection, in their order.
    pub fn all(&self) -> Vec<(Arc<str>, &'static str, Standing)> {
        self.lock()
            .iter()
            .map(|((bridge, direction), standing)| (bridge.clone(), *direction, standing.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, ByBridge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// `connecting`, `connected`, `away` or `refused`.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected(_) => "connected",
            Self::Away(_) => "away",
            Self::Refused(_) => "refused",
        }
    }

    /// What is wrong, if something is.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Connecting => None,
            Self::Connected(why) => why.as_deref(),
            Self::Away(why) | Self::Refused(why) => Some(why),
        }
    }
}

// === impl Stand ===

impl Stand {
    /// It is so from now on. Told in the log where it is another state than before.
    pub(crate) fn is(&self, peer: &str, state: State) {
        let up = matches!(state, State::Connected(_));
        gauge!(CONNECTED, "bridge" => self.bridge.to_string(), "direction" => self.direction)
            .set(f64::from(u8::from(up)));
        let key = (self.bridge.clone(), self.direction);
        let mut all = self.all.lock();
        if let Some(before) = all.get_mut(&key)
            && before.state.word() == state.word()
            && before.state.why() == state.why()
        {
            peer.clone_into(&mut before.peer);
            return;
        }
        let (word, why) = (state.word(), state.why().unwrap_or_default().to_owned());
        let is_well = matches!(state, State::Connecting | State::Connected(None));
        all.insert(key, Standing { peer: peer.to_owned(), state, since: SystemTime::now() });
        drop(all);
        let (bridge, direction) = (&self.bridge, self.direction);
        if is_well {
            tracing::info!(%bridge, direction, peer, state = word, "connection");
        } else {
            tracing::warn!(%bridge, direction, peer, state = word, %why, "connection");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_the_last_that_was_said() {
        let all = Standings::default();
        let (inward, outward) = (all.stand("b".into(), "in"), all.stand("b".into(), "out"));
        inward.is("one", State::Away("nobody answers".to_owned()));
        let since = all.all()[0].2.since;
        inward.is("two", State::Away("nobody answers".to_owned()));
        outward.is("one", State::Connected(None));
        let found = all.all();
        assert_eq!(
            found[0].2,
            Standing { peer: "two".to_owned(), state: State::Away("nobody answers".to_owned()), since }
        );
        assert_eq!((found[1].1, found[1].2.state.word(), found[1].2.state.why()), ("out", "connected", None));
    }
}
