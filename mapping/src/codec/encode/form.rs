//! JSON to `application/x-www-form-urlencoded`: an object of values, or of arrays of values for names that come again.

use std::fmt::Write;

use envelope::json::{Node, View};

use super::{Charset, Unfit, Written, below, scalar};

pub(super) fn write(root: Node<'_>, charset: Charset, out: &mut Vec<u8>) -> Written {
    let members = root.as_object().ok_or_else(|| Unfit::at("", "form data is made of an object"))?;
    let mut text = String::new();
    for (name, value) in members {
        let pointer = below("", name);
        match value.view() {
            View::Array(items) => {
                for (n, item) in items.enumerate() {
                    pair(name, scalar(item, &format!("{pointer}/{n}"))?, charset, &pointer, &mut text)?;
                }
            }
            _ => pair(name, scalar(value, &pointer)?, charset, &pointer, &mut text)?,
        }
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn pair(name: &str, value: &str, charset: Charset, pointer: &str, out: &mut String) -> Written {
    if !out.is_empty() {
        out.push('&');
    }
    escaped(name, charset, pointer, out)?;
    out.push('=');
    escaped(value, charset, pointer, out)
}

fn escaped(text: &str, charset: Charset, pointer: &str, out: &mut String) -> Written {
    let bytes = charset.encode(text).ok_or_else(|| Unfit::at(pointer, format!("{charset} does not have all of it")))?;
    for byte in bytes {
        match byte {
            b' ' => out.push('+'),
            b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            // writing to a String can't fail
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    Ok(())
}
