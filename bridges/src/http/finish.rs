//! Lets what has begun come to its end when the peer that waits for it goes away.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// A future that moves into a task of the tracker if it is dropped before its end.
///
/// hyper drops a request's future with its connection. A message half way through the pipeline is in the ledger as
/// received and may be stored already, so its verdict has to be heard; a task of its own for every request would cost
/// a wake-up on another thread, this costs one only when a peer leaves.
#[derive(Debug)]
pub(super) struct Finish<F: Future<Output: Send> + Send + 'static> {
    future: Option<Pin<Box<F>>>,
    tasks: TaskTracker,
}

// === impl Finish ===

impl<F: Future<Output: Send> + Send + 'static> Finish<F> {
    pub(super) fn new(future: F, tasks: TaskTracker) -> Self {
        Self { future: Some(Box::pin(future)), tasks }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Finish<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = ready!(future.as_mut().poll(cx));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Finish<F> {
    fn drop(&mut self) {
        // outside of a runtime everything ends
        if let Some((future, runtime)) = self.future.take().zip(Handle::try_current().ok()) {
            self.tasks.spawn_on(future, &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_half_way_ends_in_the_tracker() {
        let tasks = TaskTracker::new();
        let (go, wait) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let mut finish = Box::pin(Finish::new(
            async move {
                wait.await.unwrap();
                done.send(()).unwrap();
            },
            tasks.clone(),
        ));
        assert!(futures_util::poll!(finish.as_mut()).is_pending());
        assert_eq!(tasks.len(), 0);
        drop(finish);
        assert_eq!(tasks.len(), 1);
        go.send(()).unwrap();
        ended.await.unwrap();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn what_has_ended_needs_no_task() {
        let tasks = TaskTracker::new();
        assert_eq!(Finish::new(async { 7 }, tasks.clone()).await, 7);
        assert_eq!(tasks.len(), 0);
    }
}
