//! What is said of each message of a batch.

use std::fmt;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{EnvelopeId, Position, Rejection, Reply, Route};

/// One message's answer. `T` is [`Admission`] at ingress, [`Taken`] from a sink, the delivery itself at the outlet.
#[derive(Debug, Clone)]
pub struct Verdict<T> {
    /// The mapping that took the message, where one did.
    pub route: Option<Route>,
    /// Yes with what follows from it, or why not.
    pub answer: Result<T, Rejection>,
}

/// One verdict a message, in the order of the batch.
pub type Verdicts<T> = Vec<Verdict<T>>;

/// A yes at ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The route's ack point is reached, or will be when the receipt's ticket settles.
    Stored(Receipt),
    /// `drop: true`, a loop, or `each` over nothing: acked, counted, nothing stored.
    Filtered,
}

/// What the sender is told of a stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The id of the envelope (of a group: its first).
    pub id: EnvelopeId,
    /// Where it is stored, if it is already.
    pub position: Option<Position>,
    /// It was stored before: this is the original's receipt.
    pub duplicate: bool,
    /// Whether the ack point is reached.
    pub settled: Settled,
    /// What the sender is told in the mapping's words once the ack point is reached; the bridge's own if there are none.
    pub reply: Option<Box<Reply>>,
}

/// Whether the route's ack point is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is.
    Now,
    /// It will be: the source awaits the ticket outside the stack.
    Later(Ticket),
    /// It will not be: whoever was to take the message did not.
    Never,
    /// It is, by an answer in parts, which somebody else reads: nothing of it is kept.
    Elsewhere,
}

/// How waiting for a ticket ended.
#[derive(Debug, PartialEq)]
pub enum Reached {
    /// The ack point is reached.
    Yes,
    /// It is reached by an answer, told in the mapping's words if it has any.
    Answered(Option<Reply>),
    /// It is reached by the first part of an answer, told as one; the others follow.
    Parts(Option<Reply>, Parts),
    /// It is reached by an answer in parts, which somebody else reads.
    Elsewhere,
    /// Not in time: the message is stored, and what is to become of it becomes of it later.
    Late,
    /// Whoever was to take the message did not, for good.
    Never,
}

/// The parts of an answer behind its first, as they come. What ends with an error is not whole. Once it is dropped nobody
/// reads them, and who sends them hears so.
pub struct Parts(pub BoxStream<'static, Result<Part, Rejection>>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// As the mapping words it.
    pub payload: Bytes,
    /// None follows.
    pub last: bool,
}

/// A promise to say when an ack point beyond `durable` is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A yes on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The sink's peer took the message, in its own terms.
    ByPeer,
    /// The mapping says that it is not to be sent. MAPPING's answer, never a sink's.
    NotSent,
}

// === impl Receipt ===

impl Receipt {
    /// As it is once its ticket has ended so; and the parts of the answer that follow what it tells.
    pub fn reach(&mut self, reached: Reached) -> Option<Parts> {
        match reached {
            Reached::Yes => self.settled = Settled::Now,
            Reached::Answered(reply) => self.answered(reply),
            Reached::Parts(reply, parts) => {
                self.answered(reply);
                return self.reply.is_some().then_some(parts);
            }
            Reached::Elsewhere => self.settled = Settled::Elsewhere,
            Reached::Never => self.settled = Settled::Never,
            Reached::Late => {}
        }
        None
    }

    fn answered(&mut self, reply: Option<Reply>) {
        self.settled = Settled::Now;
        // an answer is not only accepted
        self.reply = reply.map(|reply| Box::new(Reply { status: reply.status.or(Some(200)), ..reply }));
    }
}

// === impl Parts ===

impl PartialEq for Parts {
    /// No two are the same.
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

// === impl Verdict ===

impl<T> Verdict<T> {
    /// A yes; MAPPING stamps the route.
    pub fn yes(answer: T) -> Self {
        Self { route: None, answer: Ok(answer) }
    }

    /// A no; MAPPING stamps the route.
    pub fn no(rejection: Rejection) -> Self {
        Self { route: None, answer: Err(rejection) }
    }
}
