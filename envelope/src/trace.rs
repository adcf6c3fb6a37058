//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>), carried across every protocol.

use std::sync::Arc;

/// A `traceparent` and the `tracestate` that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

/// The most bytes of `tracestate` that are carried on; a longer one is dropped, as the standard allows.
const MAX_STATE: usize = 512;

/// The length of a `traceparent` of version 00.
pub const TRACEPARENT_BYTES: usize = 55;

// === impl TraceContext ===

impl TraceContext {
    /// A new trace, not sampled.
    pub fn root() -> Self {
        let nonzero = |value: u64| value.max(1);
        let trace_id = (u128::from(nonzero(fastrand::u64(..))) << 64) | u128::from(fastrand::u64(..));
        Self { trace_id, parent_id: nonzero(fastrand::u64(..)), flags: 0, state: None }
    }

    /// Reads the two headers. `None` if `traceparent` is not valid: the standard then wants a new trace.
    /// A version other than 00 is read by the rules of 00, as the standard says.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim();
        let mut fields = text.splitn(5, '-');
        let version = hex(fields.next()?, 2)?;
        let trace_id = hex(fields.next()?, 32)?;
        let parent_id = hex(fields.next()?, 16)?;
        let flags = hex(fields.next()?, 2)?;
        let extended = fields.next().is_some();
        if version == 0xff || (version == 0 && extended) || trace_id == 0 || parent_id == 0 {
            return None;
        }
        let state = tracestate.filter(|state| !state.is_empty() && state.len() <= MAX_STATE).map(Arc::from);
        Some(Self { trace_id, parent_id: parent_id as u64, flags: flags as u8 & 1, state })
    }

    /// The same trace with a new parent id: what this gateway hands on.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { parent_id: fastrand::u64(1..), ..self.clone() }
    }

    /// The `traceparent` header, version 00: 55 bytes.
    pub fn traceparent(&self) -> String {
        let mut text = Vec::with_capacity(TRACEPARENT_BYTES);
        self.write_traceparent(&mut text);
        text.into_iter().map(char::from).collect()
    }

    /// Appends [`Self::traceparent`]. Not by `format!`: each stored message has one.
    pub fn write_traceparent(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"00-");
        push_hex(out, &self.trace_id.to_be_bytes());
        out.push(b'-');
        push_hex(out, &self.parent_id.to_be_bytes());
        out.push(b'-');
        push_hex(out, &[self.flags]);
    }

    /// The `tracestate` header, if there is one.
    pub fn tracestate(&self) -> Option<&Arc<str>> {
        self.state.as_ref()
    }

    /// The trace id, for logs.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let valid = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_back() {
        let trace = TraceContext::parse(VALID, Some("vendor=1")).unwrap();
        assert_eq!(trace.traceparent(), VALID);
        assert_eq!(trace.tracestate().map(|s| &**s), Some("vendor=1"));
        assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn a_child_keeps_the_trace_and_changes_the_parent() {
        let trace = TraceContext::parse(VALID, None).unwrap();
        let child = trace.child();
        assert_eq!(child.trace_id(), trace.trace_id());
        assert_ne!(child.traceparent(), trace.traceparent());
    }

    #[test]
    fn a_root_is_valid() {
        let root = TraceContext::root();
        assert_eq!(TraceContext::parse(&root.traceparent(), None), Some(root));
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é6-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad}");
        }
        assert!(TraceContext::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None).is_some());
    }

    #[test]
    fn a_tracestate_over_the_bound_is_dropped() {
        let long = "a".repeat(MAX_STATE + 1);
        assert_eq!(TraceContext::parse(VALID, Some(&long)).unwrap().tracestate(), None);
    }
}
