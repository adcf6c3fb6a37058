//! The `tests:` of a mapping file that sends.

use envelope::{Envelope, Lane, Outbound, Rejection, Timestamp};
use yaml::{Fields, Node, Problems};

use crate::{
    EgressInfo, Mappings, Outcome, TestResult, codec::Codec, compare::Differences, egress::Egress,
    expect_message::ExpectedMessage, given,
};

/// One test, as the file says it.
#[derive(Debug)]
pub(crate) struct EgressTest {
    name: String,
    line: usize,
    given: Envelope,
    expect: Expect,
}

#[derive(Debug)]
enum Expect {
    Sent(Box<ExpectedMessage>),
    /// `when` is false.
    Filtered,
    /// A kind, or a part of why.
    Rejected(String),
}

// === impl EgressTest ===

impl EgressTest {
    /// Reports everything that is wrong with any of them.
    pub(crate) fn read_all(node: &Node, decode: Codec, problems: &Problems) -> Option<Vec<Self>> {
        let read: Vec<_> = node.list(problems)?.iter().map(|node| Self::read(node, decode, problems)).collect();
        read.into_iter().collect()
    }

    fn read(node: &Node, decode: Codec, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let name = fields.required("name").and_then(|node| node.non_empty(problems));
        let given = fields.required("given").and_then(|node| given::envelope(node, None, decode, problems));
        let expect = fields.required("expect").and_then(|node| Expect::read(node, problems));
        fields.finish();
        let (line, _) = problems.source().line_and_column(node.span.start);
        Some(Self { name: name?.to_owned(), line, given: given?, expect: expect? })
    }

    /// The envelope it gives.
    pub(crate) fn given(&self) -> &Envelope {
        &self.given
    }

    fn run(&self, egress: &Egress) -> Outcome {
        let mut found = Differences::default();
        let selected = egress.filter.matches(&self.given.subject);
        let got = match selected {
            true => egress.map(&self.given, Lane(0), Timestamp::from_micros(0)),
            false => Ok(None),
        };
        match (&self.expect, got) {
            (_, _) if !selected => {
                found.add("topic", format!("one that {} selects", egress.filter), self.given.subject.to_string());
            }
            (Expect::Sent(expected), Ok(Some(sent))) => expected.compare_sent(&sent, &mut found),
            (Expect::Filtered, Ok(None)) => {}
            (Expect::Rejected(what), Err(rejection)) => {
                if rejection.kind.as_str() != what && !rejection.to_string().contains(what.as_str()) {
                    found.add("rejected", format!("{what:?}"), rejection.to_string());
                }
            }
            (expected, got) => found.add("outcome", expected.shown(), shown(&got)),
        }
        found.outcome()
    }
}

fn shown(got: &Result<Option<Outbound>, Rejection>) -> String {
    match got {
        Ok(Some(_)) => "sent".to_owned(),
        Ok(None) => "filtered".to_owned(),
        Err(rejection) => format!("rejected: {rejection}"),
    }
}

// === impl Expect ===

impl Expect {
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let alone = node.map(problems)?.len() == 1;
        let other = [fields.entry("rejected"), fields.entry("filtered")].into_iter().flatten().next();
        if let Some((key, _)) = other.filter(|_| !alone) {
            let message = format!("{:?} stands alone: nothing is sent then", key.name);
            problems.report(key.span, "contradiction", message);
        }
        let sent = ExpectedMessage::sent(&mut fields, problems);
        fields.finish();
        match other {
            Some((key, node)) if key.name == "rejected" => {
                node.non_empty(problems).map(|what| Self::Rejected(what.to_owned()))
            }
            Some((_, node)) => match node.bool(problems)? {
                true => Some(Self::Filtered),
                false => node.mismatch("true, or no such key", problems),
            },
            None => sent.map(|sent| Self::Sent(Box::new(sent))),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Sent(_) => "sent".to_owned(),
            Self::Filtered => "filtered".to_owned(),
            Self::Rejected(what) => format!("rejected: {what}"),
        }
    }
}

// === impl Mappings ===

impl Mappings {
    /// The mappings that send, in the order of the files.
    pub fn senders(&self) -> impl ExactSizeIterator<Item = EgressInfo<'_>> {
        self.egress.iter().map(|egress| EgressInfo {
            route: &egress.route,
            topic: &egress.filter,
            when: egress.keys.when.as_ref().map(|guard| guard.expr.text()),
            bridge: &egress.to.bridge,
            echoes: egress.to.echo,
            shown: egress.to.shown,
            address: &egress.to.address,
            proofs: &egress.proofs,
            file: &egress.path,
        })
    }

    /// The tests of the files that send, in their order.
    pub(crate) fn run_egress_tests(&self) -> impl Iterator<Item = TestResult> {
        let tests = self.egress.iter().flat_map(|egress| egress.tests.iter().map(move |test| (egress, test)));
        tests.map(|(egress, test)| TestResult {
            file: egress.path.to_string(),
            mapping: egress.route.name().to_owned(),
            name: test.name.clone(),
            line: test.line,
            outcome: test.run(egress),
        })
    }
}
