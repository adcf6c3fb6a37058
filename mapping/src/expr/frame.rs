//! What stands still while an expression runs: the message, the variables of the macros around, and the steps left.

use std::cell::Cell;

use super::{
    Term,
    value::{Evaluated, Fault, Scope, Value},
};

/// The most steps that all expressions of a file may take over one message: tens of milliseconds.
pub(crate) const MAX_STEPS: usize = 2_000_000;

/// How many bytes of text are one step.
const BYTES_A_STEP: usize = 64;

/// What a term reads. `'a`: the message and the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'f, 'a> {
    pub(super) scope: &'f Scope<'a>,
    locals: Option<&'f Local<'f, 'a>>,
    steps: &'f Cell<usize>,
}

#[derive(Debug)]
struct Local<'f, 'a> {
    value: Value<'a>,
    outer: Option<&'f Local<'f, 'a>>,
}

// === impl Frame ===

impl<'f, 'a> Frame<'f, 'a> {
    /// Runs one expression with the steps that its message has left; with all of them where nobody counts.
    pub(super) fn run<T>(scope: &Scope<'a>, with: impl FnOnce(&Frame<'_, 'a>) -> T) -> T {
        match scope.steps {
            Some(steps) => with(&Frame { scope, locals: None, steps }),
            None => with(&Frame { scope, locals: None, steps: &Cell::new(0) }),
        }
    }

    /// With one variable more, the innermost.
    pub(super) fn within<T>(&self, value: Value<'a>, with: impl FnOnce(&Frame<'_, 'a>) -> T) -> T {
        let local = Local { value, outer: self.locals };
        with(&Frame { scope: self.scope, locals: Some(&local), steps: self.steps })
    }

    /// The variable by how many macros lie between, from 0.
    pub(super) fn local(&self, outward: usize) -> Option<&'f Value<'a>> {
        let mut at = self.locals?;
        for _ in 0..outward {
            at = at.outer?;
        }
        Some(&at.value)
    }

    /// Inside a macro, where work may be done again and again.
    pub(super) fn repeats(&self) -> bool {
        self.locals.is_some()
    }

    /// The same of the payload, which each item of `each` may read again.
    pub(super) fn repeats_payload(&self) -> bool {
        self.locals.is_some() || self.scope.item.is_some()
    }
}

// === impl Term ===

impl Term {
    /// Takes steps, or refuses: they are at an end.
    pub(super) fn charge(&self, frame: &Frame<'_, '_>, steps: usize) -> Evaluated<()> {
        let taken = frame.steps.get().saturating_add(steps);
        frame.steps.set(taken);
        if taken <= MAX_STEPS {
            return Ok(());
        }
        let problem = format!("the message takes more than {MAX_STEPS} steps").into();
        Err(Box::new(Fault { span: self.span, pointer: None, problem, too_large: true }))
    }

    /// [`Self::charge`] for text that is read.
    pub(super) fn charge_bytes(&self, frame: &Frame<'_, '_>, bytes: usize) -> Evaluated<()> {
        self.charge(frame, bytes / BYTES_A_STEP + 1)
    }
}
