//! Messages like those of a file's tests: most of one stays, so that its conditions hold, and some of it is of another value,
//! of another type, missing or there twice.

use envelope::json::{Node, View, write_string};

use crate::proof::{Kinds, Samples, Type};

/// One value in so many is another one.
const ANOTHER: u8 = 8;
/// Of those, one in so many is of any type.
const ANY_TYPE: u8 = 3;
/// One member or element in so many is missing, or is there twice.
const ODD: u8 = 24;

/// JSON text of a value like this one.
pub(super) fn varied(samples: &mut Samples, from: Node<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    value(samples, from, &mut out);
    out
}

fn value(samples: &mut Samples, from: Node<'_>, out: &mut Vec<u8>) {
    if samples.one_in(ANOTHER)
        && let Some(other) = another(samples, from)
    {
        return out.extend_from_slice(&other);
    }
    match from.view() {
        View::Array(items) => {
            let items: Vec<_> = items.flat_map(|item| std::iter::repeat_n(item, times(samples))).collect();
            all(&items, *b"[]", out, |item, out| value(samples, *item, out));
        }
        View::Object(members) => {
            // a name is never there twice: no codec lets that in
            let members: Vec<_> = members.filter(|_| times(samples) > 0).collect();
            all(&members, *b"{}", out, |(name, member), out| {
                write_string(out, name);
                out.push(b':');
                value(samples, *member, out);
            });
        }
        View::String(text) => write_string(out, text),
        View::Null | View::Bool(_) | View::Number(_) => out.extend_from_slice(from.source().as_bytes()),
    }
}

/// A value of the same type, or of any.
fn another(samples: &mut Samples, from: Node<'_>) -> Option<Vec<u8>> {
    if samples.one_in(ANY_TYPE) {
        return samples.json(&Type::ANY);
    }
    let kind = match from.view() {
        View::Null => Kinds::NULL,
        View::Bool(_) => Kinds::BOOL,
        View::Number(_) => Kinds::NUMBER,
        View::String(_) => Kinds::TEXT,
        View::Array(_) => Kinds::LIST,
        View::Object(_) => Kinds::OBJECT,
    };
    samples.json(&Type::ANY.of_kinds(kind))
}

/// How often a member or an element is there.
fn times(samples: &mut Samples) -> usize {
    match samples.one_in(ODD) {
        true if samples.one_in(2) => 2,
        true => 0,
        false => 1,
    }
}

fn all<T>(items: &[T], brackets: [u8; 2], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(brackets[0]);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(brackets[1]);
}
