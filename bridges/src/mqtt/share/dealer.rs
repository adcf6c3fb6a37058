//! Who of the members of a shared subscription gets which message (MQTT 5.0, section 4.8.2). No I/O.
//!
//! Each message goes to one member, who has it until it is settled. When a member is gone, what it has not acknowledged goes to
//! another one, but for what it may have got at QoS 2: that waits for it (MQTT-4.8.2-4), and goes to nobody else once its session
//! has ended (MQTT-4.8.2-5).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use envelope::{Delivery, Position, RejectKind, Settlement};
use uuid::Uuid;

/// What is dealt, to whom, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Dealer {
    members: BTreeMap<u64, Seat>,
    /// Nobody has them; in order.
    waiting: VecDeque<Dealt>,
    /// Of messages that somebody who is away has, or may have.
    claims: HashMap<Position, Claim>,
    /// Came again for somebody who is away.
    parked: HashMap<Position, Delivery>,
    /// To be told to the store.
    settled: Vec<(Position, Settlement)>,
    /// How many outcomes were ever handed to the store.
    told: u64,
    /// Who was dealt to last, for those who have as much as each other.
    last: u64,
    next: u64,
}

/// A member that is connected.
#[derive(Debug)]
struct Seat {
    session: Uuid,
    principal: Arc<str>,
    credit: usize,
    held: BTreeMap<Position, Dealt>,
}

/// A message that is not settled.
#[derive(Debug)]
struct Dealt {
    delivery: Delivery,
    /// Principals that policy does not let have it, and why.
    refused: Vec<(Arc<str>, RejectKind)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// This session was sent it at QoS 2.
    Sent(Uuid),
    /// A session has it, and the store may not know.
    Taken,
    /// A session may have had it, and has ended.
    Lost,
}

/// So many claims are known at once; of more, the oldest are forgotten.
const MAX_CLAIMS: usize = 65_536;

/// What a member had when it left.
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Left {
    /// Sent at QoS 2 and not acknowledged.
    pub(in crate::mqtt) sent: Vec<Position>,
    /// Acknowledged at QoS 2, and the store may not know.
    pub(in crate::mqtt) taken: Vec<Position>,
}

/// What becomes of a session whose member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum Leaves {
    /// It comes back.
    ForNow,
    /// It does not.
    ForGood,
    /// It has unsubscribed: what it was sent it still acknowledges.
    ByItself,
}

// === impl Dealer ===

impl Dealer {
    /// Seats a member, and answers with its number and what waited for it alone.
    pub(super) fn join(&mut self, session: Uuid, principal: Arc<str>, credit: usize) -> (u64, Vec<Delivery>) {
        self.next += 1;
        let mut back: Vec<_> = self
            .parked
            .extract_if(|at, _| self.claims.get(at) == Some(&Claim::Sent(session)))
            .map(|(_, one)| one)
            .collect();
        back.sort_unstable_by(|a, b| a.position.cmp(&b.position));
        self.claims.retain(|at, _| back.iter().all(|one| one.position != *at));
        let held = back.iter().map(|one| (one.position.clone(), Dealt::new(one.clone()))).collect();
        self.members.insert(self.next, Seat { session, principal, credit: credit.max(1), held });
        (self.next, back)
    }

    /// How many are connected.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// A session knows of these from before a restart.
    pub(super) fn claim(&mut self, session: Uuid, left: Left) {
        left.sent.into_iter().for_each(|at| self.claim_as(at, Claim::Sent(session)));
        left.taken.into_iter().for_each(|at| self.claim_as(at, Claim::Taken));
    }

    /// The store delivers. What somebody has a claim to is for nobody else; it is dealt here.
    pub(super) fn arrived(&mut self, deliveries: Vec<Delivery>) -> Vec<(u64, Vec<Delivery>)> {
        let mut dealt: BTreeMap<u64, Vec<Delivery>> = BTreeMap::new();
        for delivery in deliveries {
            match self.claims.get(&delivery.position).copied() {
                None => self.waiting.push_back(Dealt::new(delivery)),
                Some(Claim::Taken) => self.settle_claim(delivery.position, Settlement::Delivered),
                Some(Claim::Lost) => self.settle_claim(delivery.position, lost()),
                Some(Claim::Sent(session)) => match self.members.iter_mut().find(|(_, seat)| seat.session == session) {
                    Some((number, seat)) => {
                        self.claims.remove(&delivery.position);
                        seat.held.insert(delivery.position.clone(), Dealt::new(delivery.clone()));
                        dealt.entry(*number).or_default().push(delivery);
                    }
                    None => drop(self.parked.insert(delivery.position.clone(), delivery)),
                },
            }
        }
        dealt.into_iter().collect()
    }

    fn settle_claim(&mut self, position: Position, settlement: Settlement) {
        self.claims.remove(&position);
        self.settled.push((position, settlement));
    }

    /// Deals what waits to who has the least, as far as members take it.
    pub(super) fn deal(&mut self) -> Vec<(u64, Vec<Delivery>)> {
        let mut dealt: BTreeMap<u64, Vec<Delivery>> = BTreeMap::new();
        let mut left = VecDeque::new();
        while let Some(one) = self.waiting.pop_front() {
            if !self.members.values().any(|seat| seat.held.len() < seat.credit) {
                left.push_back(one);
                break;
            }
            let may = |seat: &Seat| one.refused.iter().all(|(principal, _)| *principal != seat.principal);
            if !self.members.values().any(may) {
                let kind = one.refused.last().map_or(RejectKind::Denied, |(_, kind)| *kind);
                self.settled.push((one.delivery.position, Settlement::Refused(kind)));
                continue;
            }
            let last = self.last;
            let open = self.members.iter_mut().filter(|(_, seat)| may(seat) && seat.held.len() < seat.credit);
            let Some((number, seat)) = open.min_by_key(|(number, seat)| (seat.held.len(), **number <= last, **number))
            else {
                left.push_back(one);
                continue;
            };
            self.last = *number;
            dealt.entry(*number).or_default().push(one.delivery.clone());
            seat.held.insert(one.delivery.position.clone(), one);
        }
        left.append(&mut self.waiting);
        self.waiting = left;
        dealt.into_iter().collect()
    }

    /// A member says what became of what it has.
    pub(super) fn settle(&mut self, member: u64, outcomes: Vec<(Position, Settlement)>) {
        let Some(seat) = self.members.get_mut(&member) else { return };
        self.settled.extend(outcomes.into_iter().filter(|(position, _)| seat.held.remove(position).is_some()));
    }

    /// Policy does not let a member have this one: perhaps another.
    pub(super) fn refuse(&mut self, member: u64, position: &Position, kind: RejectKind) {
        let Some(seat) = self.members.get_mut(&member) else { return };
        let Some(mut one) = seat.held.remove(position) else { return };
        one.refused.push((seat.principal.clone(), kind));
        self.waiting.push_front(one);
    }

    /// A member of a session is gone. Where the subscription was closed before, what is said counts when it is open again.
    pub(super) fn leave(&mut self, member: u64, session: Uuid, left: Left, how: Leaves) {
        let mut held = self.members.remove(&member).map(|seat| seat.held).unwrap_or_default();
        for position in left.taken {
            match held.remove(&position) {
                Some(_) => self.settled.push((position, Settlement::Delivered)),
                None => self.claim_as(position, Claim::Taken),
            }
        }
        for position in left.sent {
            let one = held.remove(&position).map(|one| one.delivery).or_else(|| self.parked.remove(&position));
            match (how, one) {
                (Leaves::ForNow, one) => {
                    let again = |delivery| Delivery { redelivered: true, ..delivery };
                    self.parked.extend(one.map(|one| (position.clone(), again(one))));
                    self.claim_as(position, Claim::Sent(session));
                }
                (Leaves::ForGood, Some(_)) => self.settle_claim(position, lost()),
                (Leaves::ForGood, None) => self.claim_as(position, Claim::Lost),
                (Leaves::ByItself, Some(_)) => self.settle_claim(position, Settlement::Delivered),
                (Leaves::ByItself, None) => self.claim_as(position, Claim::Taken),
            }
        }
        for one in held.into_values().rev() {
            self.waiting.push_front(Dealt::new(Delivery { redelivered: true, ..one.delivery }));
        }
    }

    fn claim_as(&mut self, position: Position, claim: Claim) {
        self.claims.insert(position, claim);
        if self.claims.len() > MAX_CLAIMS {
            self.forget_claims();
        }
    }

    /// Forgets a quarter. What has expired meanwhile, or was settled after all, does not come again: the oldest did so first,
    /// and what waits for somebody goes last. What is here is known anyway.
    fn forget_claims(&mut self) {
        let away = self.claims.iter().filter(|(at, _)| !self.parked.contains_key(*at));
        let mut away: Vec<_> = away.map(|(at, claim)| (!claim.is_over(), at.clone())).collect();
        away.sort_unstable();
        for (_, at) in away.into_iter().take(MAX_CLAIMS / 4) {
            self.claims.remove(&at);
        }
    }

    /// A session has ended: nobody else gets what it may have.
    pub(super) fn ended(&mut self, session: Uuid) {
        let of_it = |claim: &Claim| *claim == Claim::Sent(session);
        self.claims.values_mut().filter(|claim| of_it(claim)).for_each(|claim| *claim = Claim::Lost);
        let lost_now: Vec<_> =
            self.parked.keys().filter(|at| self.claims.get(*at) == Some(&Claim::Lost)).cloned().collect();
        for position in lost_now {
            self.parked.remove(&position);
            self.settle_claim(position, lost());
        }
    }

    /// Of messages that sessions may have had which have ended, in order.
    pub(super) fn lost(&self) -> Vec<Position> {
        let lost = self.claims.iter().filter(|(_, claim)| **claim == Claim::Lost);
        let mut lost: Vec<_> = lost.map(|(at, _)| at.clone()).collect();
        lost.sort_unstable();
        lost
    }

    /// So it was before a restart.
    pub(super) fn claim_lost(&mut self, lost: Vec<Position>) {
        lost.into_iter().for_each(|at| self.claim_as(at, Claim::Lost));
    }

    /// What the store is to be told.
    pub(super) fn take_settled(&mut self) -> Vec<(Position, Settlement)> {
        self.told += self.settled.len() as u64;
        std::mem::take(&mut self.settled)
    }

    /// How many outcomes there ever were for the store.
    pub(super) fn noted(&self) -> u64 {
        self.told + self.settled.len() as u64
    }

    /// How many may be unsettled: what all members take, and what waits for those who are away.
    pub(super) fn credit(&self) -> usize {
        self.members.values().map(|seat| seat.credit).sum::<usize>() + self.parked.len()
    }

    /// The subscription is closed: all that is unsettled comes again when it is opened the next time. `untold`: what the store
    /// was not told, or may not have heard. Of that, what nobody else is to get stays so.
    pub(super) fn closed(&mut self, untold: Vec<(Position, Settlement)>) {
        self.waiting.clear();
        self.parked.clear();
        for (position, settlement) in untold.into_iter().chain(self.take_settled()) {
            if settlement == Settlement::Delivered {
                self.claim_as(position, Claim::Taken);
            } else if settlement == lost() {
                self.claim_as(position, Claim::Lost);
            }
        }
        self.members.clear();
    }
}

// === impl Claim ===

impl Claim {
    /// It waits for nobody.
    fn is_over(self) -> bool {
        matches!(self, Self::Taken | Self::Lost)
    }
}

// === impl Dealt ===

impl Dealt {
    fn new(delivery: Delivery) -> Self {
        Self { delivery, refused: Vec::new() }
    }
}

/// What nobody may be sent any more, and nobody has acknowledged.
fn lost() -> Settlement {
    Settlement::DeadLettered(RejectKind::Conflict)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::conformance::delivery;

    fn of(n: u64) -> Delivery {
        delivery(n, "a", Bytes::from("x"))
    }

    fn at(n: u64) -> Position {
        of(n).position
    }

    fn numbers(dealt: &[(u64, Vec<Delivery>)]) -> Vec<(u64, Vec<u64>)> {
        let number = |delivery: &Delivery| u64::from_be_bytes(delivery.position.0[..].try_into().unwrap());
        dealt.iter().map(|(member, all)| (*member, all.iter().map(number).collect())).collect()
    }

    fn joined(dealer: &mut Dealer, principal: &str, credit: usize) -> (u64, Uuid) {
        let session = Uuid::now_v7();
        let (member, back) = dealer.join(session, principal.into(), credit);
        assert!(back.is_empty());
        (member, session)
    }

    fn sent(positions: &[u64]) -> Left {
        Left { sent: positions.iter().map(|n| at(*n)).collect(), taken: Vec::new() }
    }

    #[test]
    fn each_message_goes_to_one_member_in_turn_and_no_further_than_it_takes() {
        let mut dealer = Dealer::default();
        let (one, _) = joined(&mut dealer, "p", 2);
        let (two, _) = joined(&mut dealer, "p", 1);
        assert!(dealer.arrived((1..=5).map(of).collect()).is_empty());
        assert_eq!(numbers(&dealer.deal()), [(one, vec![1, 3]), (two, vec![2])]);
        assert!(dealer.deal().is_empty(), "nobody takes more");
        dealer.settle(two, vec![(at(2), Settlement::Delivered), (at(1), Settlement::Delivered)]);
        assert_eq!(dealer.take_settled(), [(at(2), Settlement::Delivered)], "each for its own");
        assert_eq!(numbers(&dealer.deal()), [(two, vec![4])]);
        assert_eq!(dealer.credit(), 3);
    }

    #[test]
    fn mqtt_4_8_2_what_a_member_that_is_gone_has_not_acknowledged_goes_to_another_in_its_order() {
        let mut dealer = Dealer::default();
        let (one, session) = joined(&mut dealer, "p", 9);
        dealer.arrived((1..=3).map(of).collect());
        dealer.deal();
        dealer.settle(one, vec![(at(2), Settlement::Delivered)]);
        dealer.leave(one, session, Left::default(), Leaves::ForNow);
        let (two, _) = joined(&mut dealer, "p", 9);
        let dealt = dealer.deal();
        assert_eq!(numbers(&dealt), [(two, vec![1, 3])]);
        assert!(dealt[0].1.iter().all(|one| one.redelivered));
    }

    #[test]
    fn mqtt_4_8_2_4_what_was_sent_at_qos_2_waits_for_its_member() {
        let mut dealer = Dealer::default();
        let (one, session) = joined(&mut dealer, "p", 9);
        let (two, _) = joined(&mut dealer, "p", 9);
        dealer.arrived((1..=2).map(of).collect());
        assert_eq!(numbers(&dealer.deal()), [(one, vec![1]), (two, vec![2])]);
        dealer.leave(one, session, sent(&[1]), Leaves::ForNow);
        assert!(dealer.deal().is_empty());
        let (again, back) = dealer.join(session, "p".into(), 9);
        assert_eq!(numbers(&[(again, back)]), [(again, vec![1])]);
        dealer.settle(again, vec![(at(1), Settlement::Delivered)]);
        assert_eq!(dealer.take_settled(), [(at(1), Settlement::Delivered)]);
    }

    #[test]
    fn mqtt_4_8_2_5_what_was_sent_at_qos_2_goes_to_nobody_else_once_its_session_has_ended() {
        for ends_later in [false, true] {
            let mut dealer = Dealer::default();
            let (one, session) = joined(&mut dealer, "p", 9);
            dealer.arrived(vec![of(1)]);
            dealer.deal();
            dealer.leave(one, session, sent(&[1]), if ends_later { Leaves::ForNow } else { Leaves::ForGood });
            dealer.ended(session);
            joined(&mut dealer, "p", 9);
            assert!(dealer.deal().is_empty());
            assert_eq!(dealer.take_settled(), [(at(1), Settlement::DeadLettered(RejectKind::Conflict))]);
        }
    }

    #[test]
    fn who_unsubscribes_acknowledges_what_it_was_sent_and_the_rest_goes_to_another() {
        let mut dealer = Dealer::default();
        let (one, session) = joined(&mut dealer, "p", 9);
        dealer.arrived((1..=2).map(of).collect());
        dealer.deal();
        dealer.leave(one, session, sent(&[1]), Leaves::ByItself);
        assert_eq!(dealer.take_settled(), [(at(1), Settlement::Delivered)]);
        let (two, _) = joined(&mut dealer, "p", 9);
        assert_eq!(numbers(&dealer.deal()), [(two, vec![2])]);
    }

    #[test]
    fn after_a_restart_claims_are_known_before_the_store_delivers() {
        let mut dealer = Dealer::default();
        let (away, ended) = (Uuid::now_v7(), Uuid::now_v7());
        dealer.claim(away, Left { sent: vec![at(1)], taken: vec![at(2)] });
        dealer.claim(ended, sent(&[3]));
        dealer.ended(ended);
        let (other, _) = joined(&mut dealer, "p", 9);
        assert!(dealer.arrived((1..=4).map(of).collect()).is_empty());
        assert_eq!(numbers(&dealer.deal()), [(other, vec![4])]);
        let lost = Settlement::DeadLettered(RejectKind::Conflict);
        assert_eq!(dealer.take_settled(), [(at(2), Settlement::Delivered), (at(3), lost)]);
        let (back, parked) = dealer.join(away, "p".into(), 9);
        assert_eq!(numbers(&[(back, parked)]), [(back, vec![1])]);
        dealer.claim(away, sent(&[5]));
        assert_eq!(numbers(&dealer.arrived(vec![of(5)])), [(back, vec![5])], "its owner is here");
    }

    #[test]
    fn what_one_principal_may_not_have_another_gets_and_what_none_may_is_refused() {
        let mut dealer = Dealer::default();
        let (ada, _) = joined(&mut dealer, "ada", 9);
        let (bob, _) = joined(&mut dealer, "bob", 9);
        dealer.arrived(vec![of(1)]);
        let mut dealt = vec![dealer.deal()[0].0];
        dealer.refuse(dealt[0], &at(1), RejectKind::Denied);
        dealt.push(dealer.deal()[0].0);
        assert_eq!(dealt, [ada, bob]);
        dealer.refuse(bob, &at(1), RejectKind::Denied);
        assert!(dealer.deal().is_empty());
        assert_eq!(dealer.take_settled(), [(at(1), Settlement::Refused(RejectKind::Denied))]);
    }

    #[test]
    fn what_leaves_a_subscription_that_is_closed_counts_when_it_is_open_again() {
        let mut dealer = Dealer::default();
        let (one, session) = joined(&mut dealer, "p", 9);
        dealer.arrived((1..=3).map(of).collect());
        dealer.deal();
        dealer.closed(Vec::new());
        dealer.leave(one, session, Left { sent: vec![at(1)], taken: vec![at(2)] }, Leaves::ForNow);
        let (other, _) = joined(&mut dealer, "p", 9);
        dealer.arrived((1..=3).map(of).collect());
        assert_eq!(numbers(&dealer.deal()), [(other, vec![3])]);
        assert_eq!(dealer.take_settled(), [(at(2), Settlement::Delivered)]);
        assert_eq!(dealer.join(session, "p".into(), 9).1.len(), 1);
    }

    #[test]
    fn what_the_store_was_not_told_before_it_closed_goes_to_nobody_else() {
        let mut dealer = Dealer::default();
        let (one, session) = joined(&mut dealer, "p", 9);
        dealer.arrived((1..=4).map(of).collect());
        dealer.deal();
        dealer.settle(one, vec![(at(1), Settlement::Delivered), (at(2), Settlement::Delivered)]);
        let untold = dealer.take_settled();
        dealer.leave(one, session, sent(&[3]), Leaves::ForGood);
        dealer.closed(untold);
        assert_eq!(dealer.lost(), [at(3)]);
        let (other, _) = joined(&mut dealer, "p", 9);
        // the store had the first one after all
        dealer.arrived((2..=4).map(of).collect());
        assert_eq!(numbers(&dealer.deal()), [(other, vec![4])]);
        let lost = Settlement::DeadLettered(RejectKind::Conflict);
        assert_eq!(dealer.take_settled(), [(at(2), Settlement::Delivered), (at(3), lost)]);
        assert_eq!(dealer.claims.len(), 1, "it may come again");
    }

    #[test]
    fn what_does_not_come_again_is_known_for_a_bounded_while() {
        let (mut dealer, away) = (Dealer::default(), Uuid::now_v7());
        dealer.claim(away, sent(&[0]));
        dealer.claim_lost((1..=MAX_CLAIMS as u64).map(at).collect());
        assert!(dealer.claims.len() < MAX_CLAIMS);
        assert!(dealer.claims.contains_key(&at(0)) && dealer.claims.contains_key(&at(MAX_CLAIMS as u64)));
        assert!(!dealer.claims.contains_key(&at(1)));
        for n in 0..2 * MAX_CLAIMS as u64 {
            dealer.claim(away, sent(&[n]));
            assert!(dealer.claims.len() <= MAX_CLAIMS, "those that wait for somebody are bounded too");
        }
    }
}
