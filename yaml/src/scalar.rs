//! What a plain scalar means. Numbers, `true`, `false` and `null` are written as in JSON; everything else is text.
//!
//! `no`, `on` and `1e` are text, as in YAML 1.2. What YAML would read as a number, a boolean or null in a spelling
//! that JSON does not have (`0x1F`, `010`, `.5`, `True`) is refused: two readers could take it for two things.

use crate::Kind;

/// Why a plain scalar has no one meaning.
pub(crate) enum Ambiguous {
    /// Written otherwise than in JSON.
    Spelling,
    /// Too large for an IEEE 754 double.
    Range,
}

/// `None`: text.
pub(crate) fn resolve(text: &str) -> Result<Option<Kind>, Ambiguous> {
    match text {
        "" | "~" | "null" => return Ok(Some(Kind::Null)),
        "true" => return Ok(Some(Kind::Bool(true))),
        "false" => return Ok(Some(Kind::Bool(false))),
        "True" | "TRUE" | "False" | "FALSE" | "Null" | "NULL" => return Err(Ambiguous::Spelling),
        _ => {}
    }
    if is_json_number(text) {
        return number(text).map(Some);
    }
    if is_yaml_number(text) { Err(Ambiguous::Spelling) } else { Ok(None) }
}

fn number(text: &str) -> Result<Kind, Ambiguous> {
    if let Ok(value) = text.parse::<i64>() {
        return Ok(Kind::Integer(value, text.into()));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Kind::Float(value, text.into())),
        _ => Err(Ambiguous::Range),
    }
}

/// RFC 8259, section 6.
fn is_json_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// YAML 1.2.2, section 10.3.2 (core schema), where it goes beyond JSON.
fn is_yaml_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.bytes().all(|b| matches!(b, b'0'..=b'7'));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let mantissa_ok = match mantissa.split_once('.') {
        Some((whole, fraction)) => digits(&format!("{whole}{fraction}")),
        None => digits(mantissa),
    };
    mantissa_ok && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// At least one, and nothing else.
fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
