//! Functions that make one type of another, and those that read what is written inside a text.

use base64::{Engine, engine::general_purpose::STANDARD};
use envelope::Json;
use sha2::{Digest, Sha256, Sha512};

use super::{
    call::Arguments,
    number::{self, Number},
    time::{self, Duration, Field},
    value::{Evaluated, Value},
    zone::{self, Zone},
};

// === impl Arguments ===

impl<'a> Arguments<'_, '_, 'a> {
    pub(super) fn int(&mut self) -> Evaluated<Value<'a>> {
        let value = self.take(0);
        let whole = match &value {
            Value::Text(text) => {
                return match text.trim().parse() {
                    Ok(whole) => Ok(Value::Number(Number::Int(whole))),
                    Err(_) => Err(self.terms[0].fault("no whole number of 64 bits")),
                };
            }
            Value::Time(time) => Ok(time::seconds(*time)),
            other => match other.exact() {
                Some(number) => number.truncated(),
                None => return Err(self.terms[0].wrong_type("a number, a string or a timestamp", other)),
            },
        };
        Ok(Value::Number(Number::Int(self.known(whole)?)))
    }

    pub(super) fn timestamp(&mut self) -> Evaluated<Value<'a>> {
        let value = self.take(0);
        let time = match &value {
            Value::Time(time) => Ok(*time),
            Value::Text(text) => time::parse(text),
            other => match other.exact().map(Number::whole) {
                Some(Some(seconds)) => time::from_seconds(seconds),
                Some(None) => Err("expected whole seconds since 1970"),
                None => return Err(self.terms[0].wrong_type("an RFC 3339 string or seconds since 1970", other)),
            },
        };
        time.map(Value::Time).map_err(|problem| self.terms[0].fault(problem))
    }

    pub(super) fn double(&mut self) -> Evaluated<Value<'a>> {
        let value = match self.take(0) {
            Value::Text(text) => number::double_of_text(text.trim())
                .ok_or_else(|| self.terms[0].fault("no number of a double's range"))?,
            other => match other.number() {
                Some(number) => number.as_f64(),
                None => return Err(self.terms[0].wrong_type("a number or a string", &other)),
            },
        };
        Ok(Value::Number(Number::Double(value)))
    }

    pub(super) fn bool(&mut self) -> Evaluated<Value<'a>> {
        match self.take(0) {
            Value::Bool(value) => Ok(Value::Bool(value)),
            Value::Text(text) => match &*text {
                "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
                "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
                _ => Err(self.terms[0].fault("expected \"true\" or \"false\"")),
            },
            other => Err(self.terms[0].wrong_type("true, false or a string", &other)),
        }
    }

    pub(super) fn duration(&mut self) -> Evaluated<Value<'a>> {
        match self.take(0) {
            Value::Duration(duration) => Ok(Value::Duration(duration)),
            Value::Text(text) => match Duration::parse(&text) {
                Some(duration) => Ok(Value::Duration(duration)),
                None => Err(self.terms[0].fault("no duration, as in 90s, 1h30m or 250ms")),
            },
            other => Err(self.terms[0].wrong_type("a string such as 90s", &other)),
        }
    }

    pub(super) fn field(&mut self, field: Field) -> Evaluated<Value<'a>> {
        let value = match self.take(0) {
            Value::Time(time) if self.given(1) => {
                let zone = Zone::parse(&self.text(1)?).ok_or_else(|| self.terms[1].fault(zone::WANTED))?;
                field.of(time, zone.offset_at(time))
            }
            Value::Time(time) => field.of(time, 0),
            Value::Duration(duration) if !self.given(1) => match field.of_duration(duration) {
                Some(value) => value,
                None => return Err(self.terms[0].wrong_type("a timestamp", &Value::Duration(duration))),
            },
            other => return Err(self.terms[0].wrong_type("a timestamp", &other)),
        };
        Ok(Value::Number(Number::Int(value)))
    }

    pub(super) fn decoded(&mut self) -> Evaluated<Value<'a>> {
        let bytes = STANDARD.decode(&*self.text(0)?);
        let bytes = bytes.map_err(|_| self.terms[0].fault("no base64 (RFC 4648, padded)"))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(text.into())),
            Err(_) => Err(self.terms[0].fault("what it encodes is not UTF-8")),
        }
    }

    pub(super) fn hash(&mut self) -> Evaluated<Value<'a>> {
        let (by, of) = (self.text(0)?, self.text(1)?);
        // dearer than to read it
        self.call.charge_bytes(self.frame, of.len().saturating_mul(4))?;
        match &*by {
            "sha256" => Ok(Value::Text(hex(&Sha256::digest(of.as_bytes())).into())),
            "sha512" => Ok(Value::Text(hex(&Sha512::digest(of.as_bytes())).into())),
            _ => Err(self.terms[0].fault("expected \"sha256\" or \"sha512\"")),
        }
    }

    /// The first 122 bits of a SHA-256 as UUIDv8 (RFC 9562).
    pub(super) fn uuid(&mut self) -> Evaluated<Value<'a>> {
        let of = self.text(0)?;
        self.call.charge_bytes(self.frame, of.len().saturating_mul(4))?;
        let mut bytes: [u8; 32] = Sha256::digest(of.as_bytes()).into();
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = hex(&bytes[..16]);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(Value::Text(parts.join("-").into()))
    }

    pub(super) fn parsed(&mut self) -> Evaluated<Value<'a>> {
        let text = self.text(0)?;
        // a value of a few bytes is a whole node
        self.call.charge(self.frame, text.len() / 4)?;
        let json = Json::parse(text.into_owned().into());
        json.map(|json| Value::copied(json.root())).map_err(|error| self.terms[0].fault(error.to_string()))
    }
}

/// A name that `hash` takes.
pub(super) fn is_hash(name: &str) -> bool {
    matches!(name, "sha256" | "sha512")
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
