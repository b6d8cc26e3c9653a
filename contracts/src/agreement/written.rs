//! Whether a body is what its JSON says, to the last key, without writing it anew: every entry is asked this in every replay.
//!
//! The answer is no wherever this is not sure (a float, a key that is no text); then [`super::body::Body::parse`] writes the body and
//! compares, which is what this stands for.

use serde::ser::{self, Impossible, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;

/// Whether `serde_json::to_value(body)` would be `value`.
pub(super) fn is_written_as<T: Serialize + ?Sized>(body: &T, value: &Value) -> bool {
    body.serialize(Against(value)).is_ok()
}

/// Written otherwise, or not known to be written so.
#[derive(Debug)]
struct Otherwise;

impl fmt::Display for Otherwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("written otherwise")
    }
}

impl std::error::Error for Otherwise {}

impl ser::Error for Otherwise {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

fn only(same: bool) -> Result<(), Otherwise> {
    if same { Ok(()) } else { Err(Otherwise) }
}

/// Compares what is serialized with one value.
struct Against<'a>(&'a Value);

impl<'a> Against<'a> {
    fn items(self) -> Result<Items<'a>, Otherwise> {
        self.0.as_array().map(|items| Items(items.iter())).ok_or(Otherwise)
    }

    fn fields(self) -> Result<Fields<'a>, Otherwise> {
        self.0.as_object().map(|map| Fields { map, found: 0, last: None, next: None }).ok_or(Otherwise)
    }

    /// The value of an enum's variant, which is the one field of an object.
    fn variant(self, name: &str) -> Result<Against<'a>, Otherwise> {
        let map = self.0.as_object().filter(|map| map.len() == 1).ok_or(Otherwise)?;
        map.get(name).map(Against).ok_or(Otherwise)
    }
}

impl<'a> Serializer for Against<'a> {
    type Ok = ();
    type Error = Otherwise;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Impossible<(), Otherwise>;
    type SerializeMap = Fields<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    fn serialize_bool(self, v: bool) -> Result<(), Otherwise> {
        only(self.0.as_bool() == Some(v))
    }
    fn serialize_i8(self, v: i8) -> Result<(), Otherwise> {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<(), Otherwise> {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<(), Otherwise> {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<(), Otherwise> {
        only(self.0.as_i64() == Some(v))
    }
    fn serialize_u8(self, v: u8) -> Result<(), Otherwise> {
        self.serialize_u64(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<(), Otherwise> {
        self.serialize_u64(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<(), Otherwise> {
        self.serialize_u64(v.into())
    }
    fn serialize_u64(self, v: u64) -> Result<(), Otherwise> {
        only(self.0.as_u64() == Some(v))
    }
    fn serialize_f32(self, _: f32) -> Result<(), Otherwise> {
        Err(Otherwise)
    }
    fn serialize_f64(self, _: f64) -> Result<(), Otherwise> {
        Err(Otherwise)
    }
    fn serialize_char(self, v: char) -> Result<(), Otherwise> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<(), Otherwise> {
        only(self.0.as_str() == Some(v))
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Otherwise> {
        Err(Otherwise)
    }
    fn serialize_none(self) -> Result<(), Otherwise> {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<(), Otherwise> {
        v.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Otherwise> {
        only(self.0.is_null())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Otherwise> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), Otherwise> {
        self.serialize_str(name)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, v: &T) -> Result<(), Otherwise> {
        v.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        v: &T,
    ) -> Result<(), Otherwise> {
        v.serialize(self.variant(name)?)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Otherwise> {
        self.items()
    }
    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, Otherwise> {
        self.items()
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Otherwise> {
        self.items()
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Otherwise> {
        Err(Otherwise)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Fields<'a>, Otherwise> {
        self.fields()
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Otherwise> {
        self.fields()
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Otherwise> {
        self.variant(name)?.fields()
    }
}

/// What is left of an array.
struct Items<'a>(std::slice::Iter<'a, Value>);

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Otherwise> {
        v.serialize(Against(self.0.next().ok_or(Otherwise)?))
    }

    fn over(self) -> Result<(), Otherwise> {
        only(self.0.as_slice().is_empty())
    }
}

/// An object and how many of its fields were found: all of them are meant when the count comes out, since a struct's names differ and a
/// map's keys have to come in their order.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    found: usize,
    last: Option<String>,
    next: Option<&'a Value>,
}

impl Fields<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, v: &T) -> Result<(), Otherwise> {
        self.found = self.found.checked_add(1).ok_or(Otherwise)?;
        v.serialize(Against(self.map.get(name).ok_or(Otherwise)?))
    }

    fn over(self) -> Result<(), Otherwise> {
        only(self.found == self.map.len() && self.next.is_none())
    }
}

macro_rules! items {
    ($($kind:ident :: $method:ident,)*) => {$(
        impl ser::$kind for Items<'_> {
            type Ok = ();
            type Error = Otherwise;
            fn $method<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Otherwise> {
                self.item(v)
            }
            fn end(self) -> Result<(), Otherwise> {
                self.over()
            }
        }
    )*};
}

items! { SerializeSeq::serialize_element, SerializeTuple::serialize_element, SerializeTupleStruct::serialize_field, }

macro_rules! fields {
    ($($kind:ident,)*) => {$(
        impl ser::$kind for Fields<'_> {
            type Ok = ();
            type Error = Otherwise;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, v: &T) -> Result<(), Otherwise> {
                self.field(name, v)
            }
            fn end(self) -> Result<(), Otherwise> {
                self.over()
            }
        }
    )*};
}

fields! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for Fields<'_> {
    type Ok = ();
    type Error = Otherwise;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Otherwise> {
        let Ok(Value::String(name)) = serde_json::to_value(key) else { return Err(Otherwise) };
        only(self.next.is_none() && self.last.as_ref().is_none_or(|last| *last < name))?;
        self.found = self.found.checked_add(1).ok_or(Otherwise)?;
        self.next = Some(self.map.get(&name).ok_or(Otherwise)?);
        self.last = Some(name);
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Otherwise> {
        v.serialize(Against(self.next.take().ok_or(Otherwise)?))
    }
    fn end(self) -> Result<(), Otherwise> {
        self.over()
    }
}

#[cfg(test)]
#[path = "written_tests.rs"]
mod tests;
