//! What is on record of a refusal, and what is not.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use envelope::{Audit as _, Batch, Inbound, RejectKind, Rejection};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::world::{World, batch, inbound};
use crate::{AuditRecord, AuditSink, Trail};

/// Keeps each event as a line of `name=value`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "openmesh::audit"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0.trim_end().to_owned());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn recorded(act: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), act);
    lines.0.lock().unwrap().clone()
}

#[test]
fn one_event_a_refused_message_says_who_decided_and_where() {
    let lines = recorded(|| {
        World::new().offer(batch([(1, "pass"), (2, "wrong"), (3, "too-large"), (4, "drop"), (5, "store-retry")]));
    });
    let expected = [
        r#"message=message refused bridge="web" route="wrong" kind="malformed" decided_by="conformance" pointer="/celsius""#,
        r#"message=message refused bridge="web" kind="too-large" decided_by="payload_limit""#,
        r#"message=message refused bridge="web" route="store-retry" kind="unavailable" decided_by="store""#,
    ];
    assert_eq!(lines, expected);
}

#[test]
fn no_payload_is_on_record_whatever_refuses_it() {
    let secret = "s3cr3t";
    let lines = recorded(|| {
        let world = World::new();
        for address in ["refuse", "unmapped", "retry", "store-retry"] {
            world.offer(Batch::one(Inbound { payload: secret.into(), ..inbound(1, address) }));
        }
        world.offer(Batch::one(Inbound {
            payload: format!("{{\"celsius\": \"{secret}\"}}").into(),
            ..inbound(1, "typed")
        }));
    });
    assert_eq!(lines.len(), 5);
    assert!(lines.iter().all(|line| !line.contains(secret)), "{lines:?}");
}

/// Keeps records as JSON.
#[derive(Default)]
struct Records(Mutex<Vec<String>>);

impl AuditSink for Records {
    fn write(&self, record: AuditRecord) {
        let mut json = Vec::new();
        record.write_json(&mut json);
        self.0.lock().unwrap().push(String::from_utf8(json).unwrap());
    }
}

fn refused(by: &Trail, times: usize) {
    let rejection = Rejection::new(RejectKind::TooLarge, "payload_limit", "s3cr3t").at("/a\"b");
    (0..times).for_each(|_| by.refused(&rejection, None, Some([192, 0, 2, 1].into())));
}

#[test]
fn what_a_bridge_refuses_by_itself_goes_to_the_sink_without_its_detail() {
    let records = Arc::new(Records::default());
    let trail = Trail::ingress("web".into(), Some(records.clone()));
    refused(&trail, 1);
    let expected = r#"{"event":"refused","bridge":"web","stage":"bridge","kind":"too-large","#.to_owned()
        + r#""decided_by":"payload_limit","pointer":"/a\"b","peer":"192.0.2.1"}"#;
    assert_eq!(*records.0.lock().unwrap(), [expected]);
}

#[test]
fn the_sink_hears_a_bounded_part_of_a_flood_and_the_exact_number_of_the_rest() {
    let records = Arc::new(Records::default());
    let trail = Trail::ingress("web".into(), Some(records.clone()));
    refused(&trail, 5_000);
    drop(trail);
    let records = records.0.lock().unwrap();
    let (written, left_out): (Vec<_>, Vec<_>) = records.iter().partition(|json| json.contains("\"refused\""));
    let number =
        |json: &&String| json.rsplit_once("\"messages\":").unwrap().1.trim_end_matches('}').parse::<usize>().unwrap();
    assert_eq!(written.len() + left_out.iter().map(number).sum::<usize>(), 5_000);
    assert!(written.len() < 1_000, "{}", written.len());
}

#[test]
fn a_flood_is_bounded_and_what_is_left_out_is_counted_to_the_last() {
    const MESSAGES: u64 = 5_000;
    let lines = recorded(|| {
        let world = World::new();
        for _ in 0..MESSAGES / 50 {
            world.offer(Batch::new(vec![inbound(1, "refuse"); 50]).unwrap());
        }
    });
    let (written, left_out): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains("message refused"));
    let number = |line: &&String| line.rsplit_once("messages=").unwrap().1.parse::<u64>().unwrap();
    assert_eq!(written.len() as u64 + left_out.iter().map(number).sum::<u64>(), MESSAGES);
    assert!(written.len() < 1_000, "{}", written.len());
}
