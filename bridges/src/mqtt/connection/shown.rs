//! What mappings show to a client: an egress mapping of this bridge adds an address at which those who subscribe to it see
//! envelopes. Each is served as a subscription of its own, to the mapping's topics and with the client's own rights.

use bytestring::ByteString;
use envelope::{Filter, Qos, RejectKind, Rejection, Shown};

use super::{Connection, End, ShownAt, open::Served};
use crate::mqtt::{address::to_mesh, share::Leaves};

// === impl Connection ===

impl Connection {
    /// Opens what mappings show at addresses that a subscription selects, and closes what they show no more. Whether there is
    /// anything. `wants_values`: of what is new, and with `again` of all.
    pub(super) async fn show(
        &mut self,
        native: &ByteString,
        wants_values: bool,
        again: bool,
    ) -> Result<bool, Rejection> {
        let Some(known) = self.held.session.subscription(native).cloned() else { return Ok(false) };
        let Ok(addresses) = Filter::new(to_mesh(native).into_owned()) else { return Ok(false) };
        let all = self.shared.cx.outlet.shown();
        let wanted: Vec<&Shown> = all.iter().filter(|shown| shown.may_be_at(&addresses)).collect();
        for (mapping, number) in &known.shown {
            if !wanted.iter().any(|shown| shown.route.name() == &**mapping) {
                self.hide(native, mapping, *number).await;
            }
        }
        let mut any = false;
        for shown in wanted {
            let opened = self.show_one(native, known.wanted.qos, shown, &addresses).await;
            let (number, new) = match opened {
                Ok(opened) => opened,
                // what it may not read by itself, no mapping shows it
                Err(rejection) if rejection.kind == RejectKind::Denied => {
                    let number = self
                        .held
                        .session
                        .subscription(native)
                        .and_then(|known| known.shown.get(shown.route.name()).copied());
                    if let Some(number) = number {
                        self.hide(native, shown.route.name(), number).await;
                    }
                    continue;
                }
                Err(rejection) => return Err(rejection),
            };
            any = true;
            if wants_values
                && (new || again)
                && let Some(open) = self.open.get(&number)
            {
                open.settling.want_values();
            }
        }
        Ok(any)
    }

    /// The number of what one mapping shows, and whether it is open only now.
    async fn show_one(
        &mut self,
        native: &ByteString,
        qos: Qos,
        shown: &Shown,
        addresses: &Filter,
    ) -> Result<(u32, bool), Rejection> {
        let mut number = self.held.session.show(native, shown.route.name()).unwrap_or_default();
        let at_most = shown.qos.map_or(qos, |most| most.min(qos));
        let durable = self.is_durable(Served::Own, at_most);
        if let Some(open) = self.open.get_mut(&number) {
            let at_most_once = at_most == Qos::AtMostOnce;
            if let Some(at) = open.shown.as_mut().filter(|at| at.topic == shown.topic)
                && (open.durable == durable || (open.durable && at_most_once))
            {
                // what is in flight stays so: an edited mapping is the same subscription
                (at.route, at.qos) = (shown.route.clone(), shown.qos);
                if open.settling.is_at_most_once() != at_most_once {
                    self.outbox.change(&open.settling, at_most_once);
                }
                self.held.session.is_over(number, open.durable && at_most_once);
                return Ok((number, false));
            }
            if self.close(number, Leaves::ForNow).await && !durable {
                number = self.end_lowered(number).await;
            }
            // what comes again has the identifier that it had
            self.held.session.reopened(number);
        }
        self.open(number, native, (Served::Own, shown.topic.clone()), at_most).await?;
        if let Some(open) = self.open.get_mut(&number) {
            let (route, topic, addresses) = (shown.route.clone(), shown.topic.clone(), addresses.clone());
            open.shown = Some(ShownAt { route, topic, addresses, qos: shown.qos });
        }
        Ok((number, true))
    }

    /// Ends what a mapping shows a subscription.
    pub(super) async fn hide(&mut self, native: &ByteString, mapping: &str, number: u32) {
        let was_durable = self.close(number, Leaves::ByItself).await;
        self.held.session.hide(native, mapping);
        // of one that is not open there may be a position all the same
        if was_durable || self.was_kept {
            self.end_for_good(number).await;
        }
    }

    /// Other mappings are in force: what they show may be something else.
    pub(super) async fn follow(&mut self) -> Result<(), End> {
        // before it is looked at what they show, so that none is missed
        self.changed = None;
        self.look_for_changes();
        let own: Vec<_> = self.held.session.subscriptions().map(|known| known.wanted.filter.clone()).collect();
        let before: Vec<_> = self.held.session.subscriptions().map(|known| known.shown.clone()).collect();
        for native in own {
            let served = self.served(&native).map(|(served, _)| served);
            if served == Some(Served::Own)
                && let Err(rejection) = self.show(&native, false, false).await
            {
                return Err(End::refused(&rejection));
            }
        }
        if self.held.session.subscriptions().map(|known| &known.shown).eq(&before) {
            return Ok(());
        }
        self.keep().await
    }

    /// Whoever subscribes hears when other mappings are in force than now. To be asked before what they show is; a change
    /// that has not been followed yet stays one.
    pub(super) fn look_for_changes(&mut self) {
        self.changed.get_or_insert_with(|| self.shared.cx.outlet.changed());
    }
}
