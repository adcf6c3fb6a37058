//! JSON to MessagePack in its shortest form. Whole numbers have 64 bits; all other numbers are doubles.

use envelope::json::{Node, View};

use super::{Unfit, Written, below};

/// Depth is bounded by the parser of the tree.
pub(super) fn write(node: Node<'_>, out: &mut Vec<u8>) -> Written {
    value(node, "", out)
}

fn value(node: Node<'_>, pointer: &str, out: &mut Vec<u8>) -> Written {
    match node.view() {
        View::Null => out.push(0xc0),
        View::Bool(value) => out.push(if value { 0xc3 } else { 0xc2 }),
        View::Number(number) => write_number(number, pointer, out)?,
        View::String(value) => text(value, pointer, out)?,
        View::Array(items) => {
            head(items.len(), [(15, 0x90), (0xffff, 0xdc), (u32::MAX, 0xdd)], pointer, out)?;
            for (n, item) in items.enumerate() {
                value(item, &format!("{pointer}/{n}"), out)?;
            }
        }
        View::Object(members) => {
            head(members.len(), [(15, 0x80), (0xffff, 0xde), (u32::MAX, 0xdf)], pointer, out)?;
            for (key, member) in members {
                let pointer = below(pointer, key);
                text(key, &pointer, out)?;
                value(member, &pointer, out)?;
            }
        }
    }
    Ok(())
}

fn text(value: &str, pointer: &str, out: &mut Vec<u8>) -> Written {
    if let (32..=255, Ok(length)) = (value.len(), u8::try_from(value.len())) {
        out.extend_from_slice(&[0xd9, length]);
    } else {
        head(value.len(), [(31, 0xa0), (0xffff, 0xda), (u32::MAX, 0xdb)], pointer, out)?;
    }
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

/// The narrowest of three heads: the length within the byte, behind it in two bytes, or in four.
fn head(length: usize, heads: [(u32, u8); 3], pointer: &str, out: &mut Vec<u8>) -> Written {
    let [(short, within), (wide, two), (_, four)] = heads;
    let length = u32::try_from(length).map_err(|_| Unfit::at(pointer, "longer than MessagePack can say"))?;
    let bytes = length.to_be_bytes();
    if length <= short {
        out.push(within | bytes[3]);
    } else if length <= wide {
        out.push(two);
        out.extend_from_slice(&bytes[2..]);
    } else {
        out.push(four);
        out.extend_from_slice(&bytes);
    }
    Ok(())
}

fn write_number(text: &str, pointer: &str, out: &mut Vec<u8>) -> Written {
    if text.contains(['.', 'e', 'E']) || text == "-0" {
        // the tree has only numbers within the range of a double
        let value: f64 = text.parse().map_err(|_| Unfit::at(pointer, "not a number"))?;
        out.push(0xcb);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Ok(value) = text.parse::<u64>() {
        unsigned(value, out);
    } else if let Ok(value) = text.parse::<i64>() {
        negative(value, out);
    } else {
        return Err(Unfit::at(pointer, "a whole number of more than 64 bits"));
    }
    Ok(())
}

fn unsigned(value: u64, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let (head, from) = match value {
        0..=0x7f => return out.push(bytes[7]),
        0x80..=0xff => (0xcc, 7),
        0x100..=0xffff => (0xcd, 6),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        _ => (0xcf, 0),
    };
    out.push(head);
    out.extend_from_slice(&bytes[from..]);
}

fn negative(value: i64, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let (head, from) = match value {
        -32.. => return out.push(bytes[7]),
        -0x80..-32 => (0xd0, 7),
        -0x8000..-0x80 => (0xd1, 6),
        -0x8000_0000..-0x8000 => (0xd2, 4),
        _ => (0xd3, 0),
    };
    out.push(head);
    out.extend_from_slice(&bytes[from..]);
}
