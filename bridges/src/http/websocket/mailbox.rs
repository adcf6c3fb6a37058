//! A bounded queue between two tasks that takes no room while it is empty.
//!
//! A connection has one for what is to be written and one for each of its subscriptions. The runtime's own channel keeps room
//! for 32 items from the start, and of ten thousand connections most have nothing to say.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore};

/// Puts items in. Once every clone is dropped, the receiver ends behind what is in.
#[derive(Debug)]
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// Takes items out. Once it is closed or dropped, nothing goes in any more.
#[derive(Debug)]
pub(super) struct Receiver<T>(Arc<Shared<T>>);

/// The receiver takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// For the receiver: an item came, or the last sender went.
    came: Notify,
    room: Semaphore,
}

#[derive(Debug)]
struct State<T> {
    /// Items and what they take of the room.
    waiting: VecDeque<(T, u32)>,
    senders: usize,
    is_closed: bool,
}

/// Room for so many items is kept for those to come.
const KEPT: usize = 8;

/// A queue with `room`, in whatever it is counted.
pub(super) fn mailbox<T>(room: u32) -> (Sender<T>, Receiver<T>) {
    let state = State { waiting: VecDeque::new(), senders: 1, is_closed: false };
    let room = Semaphore::new(room as usize);
    let shared = Arc::new(Shared { state: Mutex::new(state), came: Notify::new(), room });
    (Sender(shared.clone()), Receiver(shared))
}

// === impl Shared ===

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Sender ===

impl<T> Sender<T> {
    /// Waits until there is room for an item that takes `cost`, which is no more than all of it.
    pub(super) async fn send(&self, item: T, cost: u32) -> Result<(), Ended> {
        self.0.room.acquire_many(cost).await.map_err(|_| Ended)?.forget();
        let mut state = self.0.state();
        if state.is_closed {
            return Err(Ended);
        }
        state.waiting.push_back((item, cost));
        drop(state);
        self.0.came.notify_one();
        Ok(())
    }

    /// Whether nothing goes in any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.state().is_closed
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        if state.senders == 0 {
            drop(state);
            self.0.came.notify_one();
        }
    }
}

// === impl Receiver ===

impl<T> Receiver<T> {
    /// The next item; `None` once there is none and no sender. Cancel safe.
    pub(super) async fn recv(&mut self) -> Option<T> {
        loop {
            match self.take() {
                Ok(item) => return item,
                Err(Empty) => self.0.came.notified().await,
            }
        }
    }

    /// The next item if it is there.
    pub(super) fn try_recv(&mut self) -> Option<T> {
        self.take().ok().flatten()
    }

    /// Nothing goes in any more; what is in can be taken out.
    pub(super) fn close(&mut self) {
        self.0.state().is_closed = true;
        self.0.room.close();
    }

    fn take(&mut self) -> Result<Option<T>, Empty> {
        let mut state = self.0.state();
        let Some((item, cost)) = state.waiting.pop_front() else {
            return if state.senders == 0 || state.is_closed { Ok(None) } else { Err(Empty) };
        };
        if state.waiting.is_empty() && state.waiting.capacity() > KEPT {
            state.waiting = VecDeque::new();
        }
        drop(state);
        self.0.room.add_permits(cost as usize);
        Ok(Some(item))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        // what is in may hold what others wait for
        let left = std::mem::take(&mut self.0.state().waiting);
        drop(left);
    }
}

/// There is nothing now.
struct Empty;

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, poll};

    use super::*;

    #[tokio::test]
    async fn items_come_in_order_and_then_the_end() {
        let (sender, mut receiver) = mailbox(10);
        let other = sender.clone();
        sender.send(1, 1).await.unwrap();
        other.send(2, 1).await.unwrap();
        drop((sender, other));
        assert_eq!((receiver.recv().await, receiver.recv().await, receiver.recv().await), (Some(1), Some(2), None));
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_something_is_taken_out() {
        let (sender, mut receiver) = mailbox(10);
        sender.send("large", 10).await.unwrap();
        let mut waiting = std::pin::pin!(sender.send("next", 1));
        assert!(poll!(waiting.as_mut()).is_pending());
        assert_eq!(receiver.try_recv(), Some("large"));
        waiting.await.unwrap();
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Some("next"), None));
    }

    #[tokio::test]
    async fn a_receiver_that_waits_is_woken_by_an_item_and_by_the_end() {
        let (sender, mut receiver) = mailbox(1);
        let mut next = std::pin::pin!(async { (receiver.recv().await, receiver.recv().await) });
        assert!(poll!(next.as_mut()).is_pending());
        sender.send(1, 1).await.unwrap();
        assert!(poll!(next.as_mut()).is_pending());
        drop(sender);
        assert_eq!(next.await, (Some(1), None));
    }

    #[tokio::test]
    async fn once_it_is_closed_nothing_goes_in_and_what_is_in_comes_out() {
        let (sender, mut receiver) = mailbox(1);
        sender.send(1, 1).await.unwrap();
        let mut waiting = std::pin::pin!(sender.send(2, 1));
        assert!(poll!(waiting.as_mut()).is_pending());
        receiver.close();
        assert_eq!(waiting.await, Err(Ended));
        assert_eq!((sender.is_closed(), sender.send(3, 1).await), (true, Err(Ended)));
        assert_eq!((receiver.recv().await, receiver.recv().await), (Some(1), None));
        let (sender, receiver) = mailbox(1);
        drop(receiver);
        assert_eq!(sender.send(1, 1).now_or_never(), Some(Err(Ended)));
    }

    #[test]
    fn an_empty_one_gives_its_room_back() {
        let (sender, mut receiver) = mailbox(1_000);
        for item in 0..1_000 {
            sender.send(item, 1).now_or_never().expect("room").unwrap();
        }
        while receiver.try_recv().is_some() {}
        assert_eq!(receiver.0.state().waiting.capacity(), 0);
    }
}
