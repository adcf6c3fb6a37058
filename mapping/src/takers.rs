//! What a promise needs of the other files of a set: somebody who takes the message, or nobody else.

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
        let selecting =
            egress.iter().map(|(egress, _)| egress).filter(|egress| may_select(&egress.filter, &plan.topic));
        let (shown, takers): (Vec<_>, Vec<_>) = selecting.partition(|egress| egress.to.shown);
        let names = |found: &[&Egress]| {
            let names: Vec<_> = found.iter().map(|egress| format!("{:?}", egress.route.name())).collect();
            names.join(", ")
        };
        let topic = &plan.topic.text;
        if let (AckPoint::Delivered, true, Some(at)) = (mapping.ack, takers.is_empty(), mapping.ack_at) {
            let message = format!("no mapping sends what goes to {topic:?}, so nothing is ever delivered");
            let help = "add a mapping with \"to\" whose \"topic\" selects it, or say \"ack: durable\"";
            found.push(source.diagnostic(at, "nobody-takes", message).with_help(help));
        }
        if let (Some(at), true) = (mapping.pass_through_at, takers.len() != 1) {
            let takers = if takers.is_empty() { "none does".to_owned() } else { names(&takers) };
            let message = format!("exactly one mapping must send what goes to {topic:?}: {takers}");
            let help = "what is not stored has one taker, which its sender waits for";
            found.push(source.diagnostic(at, "nobody-takes", message).with_help(help));
        }
        if let (Some(at), false) = (mapping.pass_through_at, shown.is_empty()) {
            let message =
                format!("{} shows what goes to {topic:?} to subscribers, who get what is stored", names(&shown));
            let help = "leave \"store: false\" out, or let that mapping select other topics";
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
