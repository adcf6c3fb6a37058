//! The unit that travels through the pipeline.

/// The messages that one socket read or poll brought in, in order. Never empty: no constructor makes an empty one.
#[derive(Debug, Clone)]
pub struct Batch<M>(Vec<M>);

// === impl Batch ===

impl<M> Batch<M> {
    /// `None` if there is no message: nothing travels then.
    pub fn new(messages: Vec<M>) -> Option<Self> {
        (!messages.is_empty()).then_some(Self(messages))
    }

    /// A batch of one, which is what an HTTP request is.
    pub fn one(message: M) -> Self {
        Self(vec![message])
    }

    /// Each message as another one; stays as long and as ordered as it was.
    #[must_use]
    pub fn map<N>(self, each: impl FnMut(M) -> N) -> Batch<N> {
        Batch(self.0.into_iter().map(each).collect())
    }

    /// The messages, in order.
    pub fn into_vec(self) -> Vec<M> {
        self.0
    }

    /// The messages, in order.
    pub fn as_slice(&self) -> &[M] {
        &self.0
    }

    /// At least 1.
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_nothing_does_not_exist() {
        assert!(Batch::<u8>::new(Vec::new()).is_none());
    }

    #[test]
    fn a_batch_keeps_the_order() {
        assert_eq!(Batch::new(vec![3, 1, 2]).map(Batch::into_vec), Some(vec![3, 1, 2]));
        assert_eq!(Batch::one(7).as_slice(), [7]);
        assert_eq!(Batch::new(vec![3, 1, 2]).map(|batch| batch.map(|n| n + 1).into_vec()), Some(vec![4, 2, 3]));
    }
}
