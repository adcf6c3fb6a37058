//! JSON to CBOR (RFC 8949) in its shortest form: definite lengths, the narrowest head. Whole numbers keep every digit up
//! to 128 bits, all other numbers are doubles.

use envelope::json::{Node, View};

use super::{Unfit, Written, below};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Depth is bounded by the parser of the tree.
pub(super) fn write(node: Node<'_>, out: &mut Vec<u8>) -> Written {
    value(node, "", out)
}

fn value(node: Node<'_>, pointer: &str, out: &mut Vec<u8>) -> Written {
    match node.view() {
        View::Null => out.push(0xf6),
        View::Bool(value) => out.push(if value { 0xf5 } else { 0xf4 }),
        View::Number(number) => write_number(number, pointer, out)?,
        View::String(value) => {
            head(TEXT, value.len() as u64, out);
            out.extend_from_slice(value.as_bytes());
        }
        View::Array(items) => {
            head(ARRAY, items.len() as u64, out);
            for (n, item) in items.enumerate() {
                value(item, &format!("{pointer}/{n}"), out)?;
            }
        }
        View::Object(members) => {
            head(MAP, members.len() as u64, out);
            for (key, member) in members {
                head(TEXT, key.len() as u64, out);
                out.extend_from_slice(key.as_bytes());
                value(member, &below(pointer, key), out)?;
            }
        }
    }
    Ok(())
}

fn write_number(text: &str, pointer: &str, out: &mut Vec<u8>) -> Written {
    let whole = !text.contains(['.', 'e', 'E']) && text != "-0";
    if !whole {
        // the tree has only numbers within the range of a double
        let value: f64 = text.parse().map_err(|_| Unfit::at(pointer, "not a number"))?;
        out.push(0xfb);
        out.extend_from_slice(&value.to_be_bytes());
        return Ok(());
    }
    let (major, magnitude) = match text.strip_prefix('-') {
        Some(digits) => (NEGATIVE, digits.parse::<u128>().ok().and_then(|magnitude| magnitude.checked_sub(1))),
        None => (UNSIGNED, text.parse::<u128>().ok()),
    };
    let magnitude = magnitude.ok_or_else(|| Unfit::at(pointer, "a whole number of more than 128 bits"))?;
    match u64::try_from(magnitude) {
        Ok(small) => head(major, small, out),
        Err(_) => {
            let bytes = magnitude.to_be_bytes();
            let digits = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(15)..];
            head(TAG, if major == NEGATIVE { 3 } else { 2 }, out);
            head(BYTES, digits.len() as u64, out);
            out.extend_from_slice(digits);
        }
    }
    Ok(())
}

fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}
