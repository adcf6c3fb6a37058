//! `application/x-www-form-urlencoded` (the format of HTML forms) to a JSON object of strings.
//!
//! A name that comes more than once has an array of its values. Strict where browsers are lenient: a `%` that two
//! hexadecimal digits don't follow is malformed, and so is what the charset does not have.

use std::{borrow::Cow, collections::HashMap};

use super::{
    charset::Charset,
    output::{Fault, Output, Place, Step},
};

/// The most names.
const MAX_NAMES: usize = 1 << 16;

/// Writes the pairs of `payload`.
pub(super) fn write(payload: &[u8], charset: Charset, out: &mut Output) -> Step {
    let mut fields: Vec<(Cow<'_, [u8]>, Vec<usize>)> = Vec::new();
    let mut numbers = HashMap::<Cow<'_, [u8]>, usize>::new();
    let mut at = 0;
    for pair in payload.split(|byte| *byte == b'&') {
        let begin = at;
        at += pair.len() + 1;
        if pair.is_empty() {
            continue;
        }
        let length = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let name = unescaped(&pair[..length], begin)?;
        let number = *numbers.entry(name.clone()).or_insert(fields.len());
        if number == fields.len() {
            fields.push((name, Vec::new()));
            if number == MAX_NAMES {
                return Err(Fault::new(format!("more than {MAX_NAMES} names")).at(Place::Byte(begin)));
            }
        }
        fields[number].1.push(begin);
    }
    out.raw("{")?;
    for (n, (name, pairs)) in fields.iter().enumerate() {
        if n > 0 {
            out.raw(",")?;
        }
        let first = pairs.first().copied().unwrap_or_default();
        string(name, charset, out).map_err(|fault| fault.at(Place::Byte(first)))?;
        out.raw(if pairs.len() > 1 { ":[" } else { ":" }).map_err(|fault| fault.at(Place::Byte(first)))?;
        for (n, begin) in pairs.iter().enumerate() {
            if n > 0 {
                out.raw(",")?;
            }
            value(payload, *begin, charset, out).map_err(|fault| fault.at(Place::Byte(*begin)))?;
        }
        if pairs.len() > 1 {
            out.raw("]")?;
        }
    }
    out.raw("}")
}

/// The value of the pair that begins there.
fn value(payload: &[u8], begin: usize, charset: Charset, out: &mut Output) -> Step {
    let rest = &payload[begin..];
    let pair = &rest[..rest.iter().position(|byte| *byte == b'&').unwrap_or(rest.len())];
    match pair.iter().position(|byte| *byte == b'=') {
        Some(equals) => string(&unescaped(&pair[equals + 1..], begin + equals + 1)?, charset, out),
        None => out.string(""),
    }
}

fn string(bytes: &[u8], charset: Charset, out: &mut Output) -> Step {
    match charset.decode_all(bytes) {
        Ok(text) => out.string(&text),
        Err(_) => Err(Fault::new(format!("not {charset}"))),
    }
}

fn unescaped(bytes: &[u8], begin: usize) -> Step<Cow<'_, [u8]>> {
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(bytes));
    }
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'+', ..) => out.push(b' '),
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'%', ..) => {
                let fault = Fault::new("a '%' without two hexadecimal digits behind it");
                return Err(fault.at(Place::Byte(begin + at)));
            }
            _ => out.push(*byte),
        }
        at += 1;
    }
    Ok(Cow::Owned(out))
}
