//! Paths into a JSON payload: `payload.items[0].name`.

use std::fmt::Write;

use envelope::json::{Name, Node};

/// Keys and indexes from the top value on; empty for the payload itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(Name),
    Index(usize),
}

/// The first step that leads nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing<'a> {
    /// Its number, from 0.
    pub(super) step: usize,
    /// What it was looked for in.
    pub(super) within: Node<'a>,
}

// === impl Path ===

impl Path {
    pub(super) fn find<'a>(&self, root: Node<'a>) -> Result<Node<'a>, Missing<'a>> {
        let mut at = root;
        for (step, next) in self.0.iter().enumerate() {
            at = match next.of(at) {
                Some(found) => found,
                None => return Err(Missing { step, within: at }),
            };
        }
        Ok(at)
    }

    /// Steps that [`Self::find`] may take: members are looked for one by one.
    pub(super) fn cost(&self, root: Node<'_>) -> usize {
        let (mut at, mut cost) = (root, 1);
        for next in &self.0 {
            cost += at.as_object().map_or(0, |members| members.len()) / 4 + 1;
            cost += at.as_array().map_or(0, |items| items.len()) / 4;
            match next.of(at) {
                Some(found) => at = found,
                None => break,
            }
        }
        cost
    }

    /// JSON Pointer (RFC 6901) of the first `steps` steps.
    pub(super) fn pointer(&self, steps: usize) -> String {
        let mut out = String::new();
        for step in self.0.iter().take(steps) {
            out.push('/');
            match step {
                Step::Key(key) => out.push_str(&key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => {
                    // writing to a String can't fail
                    let _ = write!(out, "{index}");
                }
            }
        }
        out
    }

    /// JSON Pointer of the whole path.
    pub(super) fn whole(&self) -> String {
        self.pointer(self.0.len())
    }
}

// === impl Step ===

impl Step {
    fn of<'a>(&self, node: Node<'a>) -> Option<Node<'a>> {
        match self {
            Self::Key(key) => node.member(key),
            Self::Index(index) => node.item(*index),
        }
    }
}

// === impl Step ===

impl Step {
    /// Says that a value of this type has nothing here.
    pub(super) fn missing_in(&self, found: &str) -> String {
        let quoted = |key: &str| format!("{:?}", key.chars().take(64).collect::<String>());
        match self {
            Self::Key(key) if found == "object" => format!("member {} is missing", quoted(key)),
            Self::Key(key) => format!("member {} is looked for in a value of type {found}", quoted(key)),
            Self::Index(index) if found == "array" => format!("element {index} is missing"),
            Self::Index(index) => format!("element {index} is looked for in a value of type {found}"),
        }
    }
}

// === impl Missing ===

impl Missing<'_> {
    /// The sentence for the sender.
    pub(super) fn problem(&self, path: &Path) -> String {
        path.0[self.step].missing_in(self.within.type_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_what_rfc_6901_wants_escaped() {
        let path = Path(vec![Step::Key(Name::new("a/b")), Step::Index(3), Step::Key(Name::new("~m"))]);
        assert_eq!(path.whole(), "/a~1b/3/~0m");
        assert_eq!(path.pointer(0), "");
    }
}
