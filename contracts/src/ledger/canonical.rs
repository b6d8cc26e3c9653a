//! Canonical JSON: one value, one encoding (RFC 8785), narrowed to what a ledger may hold.
//!
//! Integers only, `|n| <= 2^53` (the range every JSON reader in every language keeps exactly); no floats; no duplicate keys;
//! at most [`DEPTH_MAX`] levels. A reader re-encodes what it parsed and refuses anything that is not byte-equal to its input, so
//! a signature or a hash over the bytes is a signature or a hash over the meaning.

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;
use std::io::Write as _;

/// Largest magnitude of an integer: 2^53.
pub const INTEGER_MAX: u64 = 1 << 53;
/// Deepest nesting of arrays and objects; a bare number has depth 0.
pub const DEPTH_MAX: usize = 32;

/// Why bytes or a value are not canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// More bytes than the caller allows.
    #[error("the JSON is {bytes} bytes, the limit here is {bytes_max}; detach large bodies and record their hash")]
    TooLarge {
        /// Length of the input.
        bytes: usize,
        /// The caller's limit.
        bytes_max: usize,
    },
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("the JSON is nested deeper than {DEPTH_MAX} levels; flatten it")]
    TooDeep,
    /// A key appears twice in one object.
    #[error("the key {0:?} appears twice in one object; keep one")]
    DuplicateKey(String),
    /// A number that is not an integer within ±2^53.
    #[error(
        "the number {0} is not a plain integer within ±2^53 (no fraction, no exponent, no minus zero); write it as a decimal string"
    )]
    Number(String),
    /// Not JSON at all.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// JSON, but not the one canonical encoding of its value.
    #[error("the JSON is not canonical (RFC 8785) from byte {at}; re-encode it with sorted keys and no white space")]
    NotCanonical {
        /// First byte that differs from the canonical encoding.
        at: usize,
    },
    /// Canonical JSON that does not have the fields the type needs.
    #[error("the JSON does not fit: {0}")]
    Shape(String),
}

/// Encodes a value; the only encoder used for anything signed or hashed.
///
/// # Errors
/// Floats, integers beyond ±2^53, nesting beyond [`DEPTH_MAX`], map keys that are not strings.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(value).map_err(|e| CanonicalError::Shape(e.to_string()))?;
    value_to_bytes(&value)
}

/// Encodes a JSON value; see [`to_bytes`].
///
/// # Errors
/// As [`to_bytes`].
pub fn value_to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(256);
    write_value(value, 0, &mut out)?;
    Ok(out)
}

/// Parses canonical JSON of at most `bytes_max` bytes into `T`.
///
/// Give `T` `#[serde(deny_unknown_fields)]`; where `T` also encodes, prefer [`from_bytes_exact`].
///
/// # Errors
/// Each [`CanonicalError`] by its own name; [`CanonicalError::NotCanonical`] when the input is not byte-equal to its re-encoding.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, CanonicalError> {
    let value = parse_value(bytes, bytes_max)?;
    serde_json::from_value(value).map_err(|e| CanonicalError::Shape(e.to_string()))
}

/// As [`from_bytes`], and the typed value must encode to the same bytes: an explicit `null` for an absent field, or a default
/// written out, is refused too.
///
/// # Errors
/// As [`from_bytes`].
pub fn from_bytes_exact<T: DeserializeOwned + Serialize>(bytes: &[u8], bytes_max: usize) -> Result<T, CanonicalError> {
    let value = parse_strict(bytes, bytes_max)?;
    let typed: T = serde_json::from_value(value).map_err(|e| CanonicalError::Shape(e.to_string()))?;
    // The encoder's output is canonical, so equality with it says that the input is.
    same(&to_bytes(&typed)?, bytes)?;
    Ok(typed)
}

/// Parses canonical JSON into a bare value; see [`from_bytes`].
///
/// # Errors
/// As [`from_bytes`].
pub fn parse_value(bytes: &[u8], bytes_max: usize) -> Result<Value, CanonicalError> {
    let value = parse_strict(bytes, bytes_max)?;
    same(&value_to_bytes(&value)?, bytes)?;
    Ok(value)
}

/// Writes one object field by field, for a type whose fields are known: the caller gives them in the order of their names.
pub(super) struct Fields(Vec<u8>);

impl Fields {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(1024))
    }

    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        write_string(key, &mut self.0);
        self.0.push(b':');
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        write_string(text, &mut self.0);
    }

    pub(super) fn number(&mut self, key: &str, number: u64) -> Result<(), CanonicalError> {
        self.key(key);
        write_number(&Number::from(number), &mut self.0)
    }

    pub(super) fn value(&mut self, key: &str, value: &Value) -> Result<(), CanonicalError> {
        self.key(key);
        write_value(value, 1, &mut self.0)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

fn parse_strict(bytes: &[u8], bytes_max: usize) -> Result<Value, CanonicalError> {
    if bytes.len() > bytes_max {
        return Err(CanonicalError::TooLarge { bytes: bytes.len(), bytes_max });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| CanonicalError::Syntax(format!("byte {} is not UTF-8", e.valid_up_to())))?;
    if text.starts_with('\u{feff}') {
        return Err(CanonicalError::Syntax("it starts with a byte order mark; leave it out".into()));
    }
    let named = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    Strict { depth: 0, named: &named }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| named.take().unwrap_or_else(|| CanonicalError::Syntax(e.to_string())))
}

fn same(encoded: &[u8], input: &[u8]) -> Result<(), CanonicalError> {
    if encoded == input {
        return Ok(());
    }
    let at = encoded.iter().zip(input).take_while(|(a, b)| a == b).count();
    Err(CanonicalError::NotCanonical { at })
}

/// Reads any JSON value; leaves the named reason of a refusal in `named`, since serde's own error is only a string.
struct Strict<'a> {
    depth: usize,
    named: &'a RefCell<Option<CanonicalError>>,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(&self, why: CanonicalError) -> E {
        let error = E::custom(&why);
        self.named.replace(Some(why));
        error
    }

    fn deeper<E: serde::de::Error>(&self) -> Result<Strict<'_>, E> {
        if self.depth >= DEPTH_MAX {
            return Err(self.refuse(CanonicalError::TooDeep));
        }
        Ok(Strict { depth: self.depth + 1, named: self.named })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without floats")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        if v > INTEGER_MAX {
            return Err(self.refuse(CanonicalError::Number(v.to_string())));
        }
        Ok(Value::Number(Number::from(v)))
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        if v.unsigned_abs() > INTEGER_MAX {
            return Err(self.refuse(CanonicalError::Number(v.to_string())));
        }
        Ok(Value::Number(Number::from(v)))
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Err(self.refuse(CanonicalError::Number(v.to_string())))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(self.deeper()?)? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                return Err(self.refuse(CanonicalError::DuplicateKey(key)));
            }
            if out.len() >= usize::from(u16::MAX) {
                return Err(A::Error::custom("an object with more than 65535 keys"));
            }
            let value = map.next_value_seed(self.deeper()?)?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

fn write_value(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) => write_number(n, out)?,
        Value::String(s) => write_string(s, out),
        Value::Array(items) => {
            let depth = deeper(depth)?;
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(item, depth, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let depth = deeper(depth)?;
            // A map in the order of its keys' bytes, as they mostly come, needs no sorting where those are ASCII.
            let ordered = fields.keys().all(|key| key.is_ascii()) && fields.keys().is_sorted();
            out.push(b'{');
            match ordered {
                true => write_fields(fields, depth, out)?,
                false => {
                    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
                    fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
                    write_fields(fields, depth, out)?;
                }
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_fields<'a>(
    fields: impl IntoIterator<Item = (&'a String, &'a Value)>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), CanonicalError> {
    for (i, (key, item)) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        write_value(item, depth, out)?;
    }
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, CanonicalError> {
    if depth >= DEPTH_MAX { Err(CanonicalError::TooDeep) } else { Ok(depth + 1) }
}

fn write_number(n: &Number, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    let fits = match (n.as_u64(), n.as_i64()) {
        (Some(v), _) => v <= INTEGER_MAX,
        (None, Some(v)) => v.unsigned_abs() <= INTEGER_MAX,
        (None, None) => false,
    };
    if !fits {
        return Err(CanonicalError::Number(n.to_string()));
    }
    // Into a Vec, which takes everything.
    let _ = write!(out, "{n}");
    Ok(())
}

/// RFC 8785 section 3.2.2.2: the two-letter escapes where they exist, lower-case `\u00xx` for the other controls, all else verbatim.
fn write_string(s: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = s.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0x00..=0x1f)) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, tail)) = tail.split_first() else { break };
        write_escaped(*byte, out);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        0x08 => out.extend_from_slice(b"\\b"),
        0x09 => out.extend_from_slice(b"\\t"),
        0x0a => out.extend_from_slice(b"\\n"),
        0x0c => out.extend_from_slice(b"\\f"),
        0x0d => out.extend_from_slice(b"\\r"),
        control => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(control >> 4) & 15]);
            out.push(HEX[usize::from(control & 15)]);
        }
    }
}

#[cfg(test)]
#[path = "canonical_tests.rs"]
mod tests;
