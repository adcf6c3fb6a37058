//! Whether a condition can be true only where another is: then nothing gets past the other to the mapping behind it.
//!
//! It goes by the shape of the two: `a && b` implies `a`, and `a` implies `a || b`. What is true for other reasons is not seen.

use super::{Expr, Op, Pattern, Term, lookup::Lookup};

/// The most pairs of terms that are held against each other.
const MAX_PAIRS: usize = 4_096;

// === impl Expr ===

impl Expr {
    /// Wherever this is true, so is the other; both read names of the same meaning.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        implies(&self.root, &other.root, &mut MAX_PAIRS.clone())
    }

    /// It says the same, wherever it stands.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

/// A condition that is true has a value, and so has each side that makes it so: a side without one decides nothing.
fn implies(this: &Term, other: &Term, pairs: &mut usize) -> bool {
    let Some(left) = pairs.checked_sub(1) else { return false };
    *pairs = left;
    if this == other {
        return true;
    }
    match (&this.op, &other.op) {
        (Op::Or(sides), _) => sides.iter().all(|side| implies(side, other, pairs)),
        (_, Op::And(sides)) => sides.iter().all(|side| implies(this, side, pairs)),
        (Op::And(sides), Op::Or(others)) => {
            others.iter().any(|other| implies(this, other, pairs))
                || sides.iter().any(|side| implies(side, other, pairs))
        }
        (Op::And(sides), _) => sides.iter().any(|side| implies(side, other, pairs)),
        (_, Op::Or(others)) => others.iter().any(|other| implies(this, other, pairs)),
        // one of fewer words
        (Op::InList(item, words), Op::InList(of, others)) => {
            item == of && words.iter().all(|word| others.contains(word))
        }
        (Op::Equal { sides, negated: false }, Op::InList(of, others)) => {
            let [a, b] = &**sides;
            a == &**of && others.contains(b) || b == &**of && others.contains(a)
        }
        (Op::Equal { sides, negated }, Op::Equal { sides: others, negated: other }) => {
            negated == other && sides[0] == others[1] && sides[1] == others[0]
        }
        (_, _) => false,
    }
}

// === what is the same ===

impl PartialEq for Term {
    /// By what it does, not by where it stands.
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str()
    }
}

impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        self.cell() == other.cell() && self.key == other.key && self.default == other.default
    }
}
