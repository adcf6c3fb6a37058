//! What a promise needs of the other files of a set: somebody who takes the message.

use envelope::{AckPoint, Filter};
use yaml::Diagnostic;

use crate::{
    egress::Egress,
    file::{Action, Mapping},
    plan::TopicPlan,
};

/// Promises that nothing can keep: `ack: delivered` that no mapping sends, and `store: false` without exactly one.
pub(crate) fn unkept(read: &[(Mapping, yaml::Source)], egress: &[(Egress, yaml::Source)]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (mapping, source) in read {
        let Action::Envelope(plan) = &mapping.action else { continue };
        let takers: Vec<_> = egress
            .iter()
            .filter(|(egress, _)| !egress.to.shown)
            .filter(|(egress, _)| may_select(&egress.filter, &plan.topic))
            .map(|(egress, _)| format!("{:?}", egress.route.name()))
            .collect();
        let topic = &plan.topic.text;
        if let (AckPoint::Delivered, true, Some(at)) = (mapping.ack, takers.is_empty(), mapping.ack_at) {
            let message = format!("no mapping sends what goes to {topic:?}, so nothing is ever delivered");
            let help = "add a mapping with \"to\" whose \"topic\" selects it, or say \"ack: durable\"";
            found.push(source.diagnostic(at, "nobody-takes", message).with_help(help));
        }
        if let (Some(at), true) = (mapping.pass_through_at, takers.len() != 1) {
            let takers = if takers.is_empty() { "none does".to_owned() } else { takers.join(", ") };
            let message = format!("exactly one mapping must send what goes to {topic:?}: {takers}");
            let help = "what is not stored has one taker, which its sender waits for";
            found.push(source.diagnostic(at, "nobody-takes", message).with_help(help));
        }
    }
    found
}

/// Whether a topic of this form can be one that the filter selects.
fn may_select(filter: &Filter, topic: &TopicPlan) -> bool {
    let shape = topic.shape();
    let mut segments = shape.split('/');
    for pattern in filter.segments() {
        match (pattern, segments.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            // what a message puts into it is a part of one segment
            (_, Some(segment)) if segment.contains(TopicPlan::ANY) => {}
            (pattern, Some(segment)) if pattern == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}
