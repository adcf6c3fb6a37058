//! A mapping that sends, whose file comes and goes between kills: its subscription is parked at its place, and goes on there.

use std::fs;

use integration::eventually;

use crate::{PATIENCE, Stage};

const FILE: &str = "mappings/kill-park.yaml";
const MAPPING: &str = "mapping: kill-park\nfrom: { topic: orders/# }\nto: { bridge: hooks, address: POST /parks, body: { n: \"${payload.n}\" } }\n";
/// For so many starts it is there, and for as many it is not.
const STARTS: usize = 5;

/// Before a start.
pub(crate) fn turn(stage: &Stage, round: usize) {
    let path = stage.site.config().join(FILE);
    match (is_there(round), path.exists()) {
        (true, false) => stage.site.write(FILE, MAPPING),
        (false, true) => fs::remove_file(path).expect("the mapping's file"),
        (true, true) | (false, false) => {}
    }
}

/// It is there at first, so that its subscription begins before the first order.
fn is_there(round: usize) -> bool {
    (round / STARTS).is_multiple_of(2)
}

/// While the mapping is gone, its subscription is not.
pub(crate) fn assert_parked(stage: &Stage, round: usize) {
    if !is_there(round) {
        let row = stage.ledger()["subscriptions"]["mapping:kill-park"].take();
        assert!(row.is_object(), "start {round}: its place is lost");
    }
}

/// Every order was sent, also those that came while the mapping was gone.
pub(crate) fn assert_sent(stage: &Stage) {
    let counts = eventually("what was parked is sent", PATIENCE, || {
        let counts = stage.ledger()["subscriptions"]["mapping:kill-park"].take();
        (counts["pending"] == 0).then_some(counts)
    });
    let sent = stage.hook.parks();
    let receipts = stage.orders.receipts.lock().expect("receipts");
    let missing: Vec<_> = receipts.iter().filter(|(id, _)| !sent.contains(*id)).map(|(_, told)| told).collect();
    assert!(missing.is_empty(), "{} of {} were not sent: {missing:?}", missing.len(), receipts.len());
    assert_eq!(counts["delivered"], sent.len(), "{counts}");
    println!("{} orders sent by a mapping that came and went", sent.len());
}
