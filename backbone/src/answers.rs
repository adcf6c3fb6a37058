//! What a group says to everybody who waits for it, once it is on disk or is not.

use std::sync::Arc;

use envelope::{Admission, Rejection, Verdicts};
use tokio::{runtime::Handle, sync::oneshot};

use crate::{group::Group, orders::OrderReply, queue::Answer, record::Stored};

/// What is said once the group is on disk, or is not.
#[derive(Debug)]
pub(crate) enum Reply {
    Publish(oneshot::Sender<Answer>, Verdicts<Admission>),
    Settle(oneshot::Sender<Result<(), Rejection>>),
    Advance(oneshot::Sender<Result<Option<u64>, Rejection>>, Result<Option<u64>, Rejection>),
    Keys(oneshot::Sender<Result<u64, Rejection>>, Result<u64, Rejection>),
    Order(OrderReply, Result<usize, Rejection>),
}

/// The answers of a group, given when they are dropped: a task that never runs still gives them.
#[derive(Debug)]
struct Answers {
    replies: Vec<Reply>,
    /// Envelopes that nobody needs any more. Freed with the answers: the writer is the one thread that everybody waits
    /// for.
    _gone: Vec<Arc<Stored>>,
    failed: Option<Rejection>,
}

// === impl Group ===

impl Group {
    /// Answers everybody. In a task of the runtime where there is one: woken from the writer's thread, each of them
    /// would cost a system call.
    pub(crate) fn answer(&mut self, failed: Option<&Rejection>, runtime: Option<&Handle>) {
        let answers = Answers {
            replies: std::mem::take(&mut self.replies),
            _gone: std::mem::take(&mut self.gone),
            failed: failed.cloned(),
        };
        if let Some(runtime) = runtime.filter(|_| answers.replies.len() > 1) {
            runtime.spawn(async move { drop(answers) });
        }
    }
}

// === impl Answers ===

impl Drop for Answers {
    fn drop(&mut self) {
        for reply in self.replies.drain(..) {
            let heard = match (reply, &self.failed) {
                (Reply::Publish(reply, verdicts), None) => reply.send(Ok(verdicts)).is_ok(),
                (Reply::Publish(reply, _), Some(failed)) => reply.send(Err(failed.clone())).is_ok(),
                (Reply::Settle(reply), None) => reply.send(Ok(())).is_ok(),
                (Reply::Settle(reply), Some(failed)) => reply.send(Err(failed.clone())).is_ok(),
                (Reply::Advance(reply, answer), None) => reply.send(answer).is_ok(),
                (Reply::Advance(reply, _), Some(failed)) => reply.send(Err(failed.clone())).is_ok(),
                (Reply::Order(reply, answer), None) => reply.send(answer).is_ok(),
                (Reply::Order(reply, _), Some(failed)) => reply.send(Err(failed.clone())).is_ok(),
                (Reply::Keys(reply, answer), None) => reply.send(answer).is_ok(),
                (Reply::Keys(reply, _), Some(failed)) => reply.send(Err(failed.clone())).is_ok(),
            };
            if !heard {
                tracing::trace!("whoever asked is gone");
            }
        }
    }
}
