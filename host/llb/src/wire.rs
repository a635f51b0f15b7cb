//! The protobuf wire, as far as LLB needs it, written by hand.
//!
//! A vertex is named by the SHA-256 of its exact bytes, and BuildKit's clients write the oneof of a message *after* its plain
//! fields (spec A.3). Protobuf libraries order by field number, so none can be used. Here each message lists its fields
//! in the order in which they are written; one list serves encoding, decoding and both JSON forms (`message!`).
//!
//! The decoder is for hostile bytes: it is strict (unknown fields, unknown enum values and wrong wire types are errors, so that
//! nothing is ever silently left out of what is executed) and it counts the memory it spends against a [`Budget`].
use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::digest::{DigestError, VertexDigest};

/// Bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("{message}: the bytes end in the middle of a field")]
    Truncated {
        /// The message that was read.
        message: &'static str,
    },
    /// A varint has more than ten bytes or more than 64 bits.
    #[error("{message}: a number has more than 64 bits")]
    Varint {
        /// The message that was read.
        message: &'static str,
    },
    /// A field this version of LLB does not have.
    #[error("{message}: field {number} is not known; the definition was made for a newer LLB")]
    UnknownField {
        /// The message that was read.
        message: &'static str,
        /// Its field number.
        number: u64,
    },
    /// A field has another wire type than its definition says.
    #[error("{message}: field {number} has wire type {found}, which its type does not use")]
    WireType {
        /// The message that was read.
        message: &'static str,
        /// The field.
        number: u64,
        /// What was found (0 varint, 1 fixed64, 2 bytes, 5 fixed32).
        found: u8,
    },
    /// A number does not fit the field's type.
    #[error("{message}: field {number} is out of range for {wanted}")]
    OutOfRange {
        /// The message that was read.
        message: &'static str,
        /// The field.
        number: u64,
        /// The type it has to fit.
        wanted: &'static str,
    },
    /// An enum value that does not exist. Enums are closed: an unknown one must never fall back to a default.
    #[error("{message}: `{name}` has no value {value}")]
    UnknownEnum {
        /// The message that was read.
        message: &'static str,
        /// The enum.
        name: &'static str,
        /// What was found.
        value: i64,
    },
    /// A string is not UTF-8.
    #[error("{message}: field {number} is not UTF-8")]
    Utf8 {
        /// The message that was read.
        message: &'static str,
        /// The field.
        number: u64,
    },
    /// A digest is none.
    #[error("{message}: {source}")]
    Digest {
        /// The message that was read.
        message: &'static str,
        /// What is wrong with it.
        source: DigestError,
    },
    /// Decoding would take more memory than allowed.
    #[error("{message}: decoding takes more than {limit} bytes of memory; split the build")]
    TooLarge {
        /// The message that was read.
        message: &'static str,
        /// The allowance, in bytes.
        limit: usize,
    },
    /// Definitions nested in definitions too deep.
    #[error("{message}: messages are nested deeper than {limit}")]
    TooDeep {
        /// The message that was read.
        message: &'static str,
        /// The allowed depth.
        limit: usize,
    },
}

/// How much memory decoding may take, and how deep messages may nest. Shared by one whole decode.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    left: Cell<usize>,
    depth_limit: usize,
    depth: Cell<usize>,
}

impl Budget {
    /// At most `bytes` of decoded data, `depth` levels of messages.
    pub const fn new(bytes: usize, depth: usize) -> Self {
        Self { limit: bytes, left: Cell::new(bytes), depth_limit: depth, depth: Cell::new(0) }
    }

    fn spend(&self, message: &'static str, bytes: usize) -> Result<(), DecodeError> {
        let left = self.left.get().checked_sub(bytes).ok_or(DecodeError::TooLarge { message, limit: self.limit })?;
        self.left.set(left);
        Ok(())
    }
}

/// Which JSON is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JsonStyle {
    /// As Go's `encoding/json` prints BuildKit's structs: empty values left out, numbers and enums as numbers. Enters cache keys.
    Key,
    /// As `protojson` prints them: 64-bit numbers as text, enums by name. For people, and what `convertllb` answers.
    Proto,
}

/// The name of a field: `protojson` folds underscores into capitals, Go's tags keep them.
pub(crate) fn field_name(style: JsonStyle, name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    match style {
        JsonStyle::Key => name.to_owned(),
        JsonStyle::Proto => parts.fold(first, |folded, part| {
            let (head, tail) = part.split_at(part.len().min(1));
            folded + &head.to_ascii_uppercase() + tail
        }),
    }
}

/// One value as it comes off the wire.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Where a value was met: the message, the field number, and what may still be spent.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub message: &'static str,
    pub number: u64,
    pub budget: &'a Budget,
}

impl Place<'_> {
    fn wire_type(&self, found: Raw<'_>) -> DecodeError {
        let found = if matches!(found, Raw::Varint(_)) { 0 } else { 2 };
        DecodeError::WireType { message: self.message, number: self.number, found }
    }

    fn varint(&self, raw: Raw<'_>) -> Result<u64, DecodeError> {
        match raw {
            Raw::Varint(value) => Ok(value),
            Raw::Bytes(_) => Err(self.wire_type(raw)),
        }
    }

    fn bytes<'b>(&self, raw: Raw<'b>) -> Result<&'b [u8], DecodeError> {
        match raw {
            Raw::Bytes(bytes) => {
                self.budget.spend(self.message, bytes.len() + 16)?;
                Ok(bytes)
            }
            Raw::Varint(_) => Err(self.wire_type(raw)),
        }
    }

    fn out_of_range(&self, wanted: &'static str) -> DecodeError {
        DecodeError::OutOfRange { message: self.message, number: self.number, wanted }
    }
}

/// Reads the fields of one message.
pub(crate) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Self { message, rest: bytes }
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated { message: self.message })?;
            self.rest = rest;
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Varint { message: self.message });
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { message: self.message })
    }

    /// The next field, or `None` at the end.
    pub fn next_field(&mut self) -> Result<Option<(u64, Raw<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        match (key & 7) as u8 {
            0 => Ok(Some((number, Raw::Varint(self.varint()?)))),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                if length > self.rest.len() {
                    return Err(DecodeError::Truncated { message: self.message });
                }
                let (bytes, rest) = self.rest.split_at(length);
                self.rest = rest;
                Ok(Some((number, Raw::Bytes(bytes))))
            }
            found => Err(DecodeError::WireType { message: self.message, number, found }),
        }
    }
}

pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3, out);
    put_varint(value, out);
}

pub(crate) fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number) << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A field of a message, of any of the types that LLB uses.
pub(crate) trait Field: Sized {
    /// The value when the field is absent.
    fn absent() -> Self;
    /// Writes it, unless it has its absent value.
    fn put(&self, number: u32, out: &mut Vec<u8>);
    /// Takes one occurrence from the wire.
    fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError>;
    /// Its JSON, or `None` where the style leaves it out.
    fn json(&self, style: JsonStyle) -> Option<Value>;
}

/// A message: fields in the order in which they are written.
pub(crate) trait Message: Sized {
    const NAME: &'static str;
    fn absent() -> Self;
    fn put_fields(&self, out: &mut Vec<u8>);
    fn take_field(&mut self, number: u64, raw: Raw<'_>, budget: &Budget) -> Result<(), DecodeError>;
    fn json(&self, style: JsonStyle) -> Value;

    fn to_wire(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_fields(&mut out);
        out
    }

    fn from_wire(bytes: &[u8], budget: &Budget) -> Result<Self, DecodeError> {
        budget.spend(Self::NAME, size_of::<Self>())?;
        let depth = budget.depth.get() + 1;
        if depth > budget.depth_limit {
            return Err(DecodeError::TooDeep { message: Self::NAME, limit: budget.depth_limit });
        }
        budget.depth.set(depth);
        let mut message = Self::absent();
        let mut reader = Reader::new(Self::NAME, bytes);
        while let Some((number, raw)) = reader.next_field()? {
            message.take_field(number, raw, budget)?;
        }
        budget.depth.set(depth - 1);
        Ok(message)
    }
}

macro_rules! number_field {
    ($($type:ty, $name:literal, $to_wire:expr, $from_wire:expr, $proto:expr;)*) => {$(
        impl Field for $type {
            fn absent() -> Self {
                <$type>::default()
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                if *self != <$type>::default() {
                    put_number(number, $to_wire(*self), out);
                }
            }
            fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
                let from: fn(u64) -> Option<$type> = $from_wire;
                *self = from(place.varint(raw)?).ok_or_else(|| place.out_of_range($name))?;
                Ok(())
            }
            fn json(&self, style: JsonStyle) -> Option<Value> {
                let proto: fn($type) -> Value = $proto;
                (*self != <$type>::default()).then(|| match style {
                    JsonStyle::Key => Value::from(*self),
                    JsonStyle::Proto => proto(*self),
                })
            }
        }
    )*};
}

number_field! {
    bool, "bool", u64::from, |value| match value { 0 => Some(false), 1 => Some(true), _ => None }, Value::from;
    i32, "int32", |value: i32| i64::from(value) as u64, |value| i32::try_from(value as i64).ok(), Value::from;
    i64, "int64", |value: i64| value as u64, |value| Some(value as i64), |value| Value::from(value.to_string());
    u32, "uint32", u64::from, |value| u32::try_from(value).ok(), Value::from;
    u64, "uint64", |value| value, Some, |value| Value::from(value.to_string());
}

impl Field for String {
    fn absent() -> Self {
        Self::new()
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_bytes(number, self.as_bytes(), out);
        }
    }
    fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        let bytes = place.bytes(raw)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::Utf8 { message: place.message, number: place.number })?;
        *self = text.to_owned();
        Ok(())
    }
    fn json(&self, _: JsonStyle) -> Option<Value> {
        (!self.is_empty()).then(|| Value::from(self.as_str()))
    }
}

impl Field for Bytes {
    fn absent() -> Self {
        Self::new()
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_bytes(number, self, out);
        }
    }
    fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        *self = Self::copy_from_slice(place.bytes(raw)?);
        Ok(())
    }
    fn json(&self, _: JsonStyle) -> Option<Value> {
        use base64::Engine;
        (!self.is_empty()).then(|| Value::from(base64::engine::general_purpose::STANDARD.encode(self)))
    }
}

impl Field for VertexDigest {
    fn absent() -> Self {
        Self(crate::Digest::from_raw([0; 32]))
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        put_bytes(number, self.to_string().as_bytes(), out);
    }
    fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        let mut text = String::new();
        text.take(raw, place)?;
        *self = text.parse().map_err(|source| DecodeError::Digest { message: place.message, source })?;
        Ok(())
    }
    fn json(&self, _: JsonStyle) -> Option<Value> {
        Some(Value::from(self.to_string()))
    }
}

/// `optional` messages: a present but empty one is written, and is not the same as none.
impl<M: Message> Field for Option<M> {
    fn absent() -> Self {
        None
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(message) = self {
            put_bytes(number, &message.to_wire(), out);
        }
    }
    fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        // Protobuf would merge two occurrences of one message. No encoder writes two, so the last one simply stands.
        *self = Some(M::from_wire(place.bytes(raw)?, place.budget)?);
        Ok(())
    }
    fn json(&self, style: JsonStyle) -> Option<Value> {
        self.as_ref().map(|message| message.json(style))
    }
}

/// Messages that are `repeated` or behind a box.
impl<M: Message> Field for Vec<M> {
    fn absent() -> Self {
        Self::new()
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        for message in self {
            put_bytes(number, &message.to_wire(), out);
        }
    }
    fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        self.push(M::from_wire(place.bytes(raw)?, place.budget)?);
        Ok(())
    }
    fn json(&self, style: JsonStyle) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(|message| message.json(style)).collect())
    }
}

impl<M: Message> Message for Box<M> {
    const NAME: &'static str = M::NAME;
    fn absent() -> Self {
        Self::new(M::absent())
    }
    fn put_fields(&self, out: &mut Vec<u8>) {
        (**self).put_fields(out);
    }
    fn take_field(&mut self, number: u64, raw: Raw<'_>, budget: &Budget) -> Result<(), DecodeError> {
        (**self).take_field(number, raw, budget)
    }
    fn json(&self, style: JsonStyle) -> Value {
        (**self).json(style)
    }
}

macro_rules! repeated_plain {
    ($($type:ty),*) => {$(
        impl Field for Vec<$type> {
            fn absent() -> Self {
                Self::new()
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                for value in self {
                    put_bytes(number, value.as_ref(), out);
                }
            }
            fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
                place.budget.spend(place.message, size_of::<$type>())?;
                let mut value = <$type as Field>::absent();
                value.take(raw, place)?;
                self.push(value);
                Ok(())
            }
            fn json(&self, style: JsonStyle) -> Option<Value> {
                (!self.is_empty())
                    .then(|| self.iter().map(|value| value.json(style).unwrap_or_else(|| Value::from(""))).collect())
            }
        }
    )*};
}
repeated_plain!(String, Bytes);

macro_rules! packed {
    ($($type:ty),*) => {$(
        /// Written packed, as proto3 does; both forms are read.
        impl Field for Vec<$type> {
            fn absent() -> Self {
                Self::new()
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                if !self.is_empty() {
                    let mut packed = Vec::new();
                    for value in self {
                        put_varint(i64::from(*value) as u64, &mut packed);
                    }
                    put_bytes(number, &packed, out);
                }
            }
            fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
                let mut push = |value: u64| {
                    place.budget.spend(place.message, size_of::<$type>())?;
                    let mut number = <$type as Field>::absent();
                    number.take(Raw::Varint(value), place)?;
                    self.push(number);
                    Ok(())
                };
                match raw {
                    Raw::Varint(value) => push(value),
                    Raw::Bytes(bytes) => {
                        let mut reader = Reader::new(place.message, bytes);
                        while !reader.rest.is_empty() {
                            push(reader.varint()?)?;
                        }
                        Ok(())
                    }
                }
            }
            fn json(&self, style: JsonStyle) -> Option<Value> {
                (!self.is_empty()).then(|| {
                    self.iter()
                        .map(|value| Field::json(value, style).unwrap_or_else(|| Field::json(&<$type>::default(), style)
                            .unwrap_or_else(|| match style {
                                JsonStyle::Proto if size_of::<$type>() == 8 => Value::from("0"),
                                _ => Value::from(0),
                            })))
                        .collect()
                })
            }
        }
    )*};
}
packed!(i32, i64);

/// A map's value: written even when it has its absent value, as Go does.
pub(crate) trait MapValue: Sized {
    fn put_value(&self, out: &mut Vec<u8>);
    fn empty() -> Self;
    fn take_value(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError>;
    fn value_json(&self, style: JsonStyle) -> Value;
}

impl MapValue for String {
    fn put_value(&self, out: &mut Vec<u8>) {
        put_bytes(2, self.as_bytes(), out);
    }
    fn empty() -> Self {
        Self::new()
    }
    fn take_value(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        self.take(raw, place)
    }
    fn value_json(&self, _: JsonStyle) -> Value {
        Value::from(self.as_str())
    }
}

impl MapValue for bool {
    fn put_value(&self, out: &mut Vec<u8>) {
        put_number(2, u64::from(*self), out);
    }
    fn empty() -> Self {
        false
    }
    fn take_value(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        self.take(raw, place)
    }
    fn value_json(&self, _: JsonStyle) -> Value {
        Value::from(*self)
    }
}

impl<M: Message> MapValue for M {
    fn put_value(&self, out: &mut Vec<u8>) {
        put_bytes(2, &self.to_wire(), out);
    }
    fn empty() -> Self {
        M::absent()
    }
    fn take_value(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        *self = M::from_wire(place.bytes(raw)?, place.budget)?;
        Ok(())
    }
    fn value_json(&self, style: JsonStyle) -> Value {
        self.json(style)
    }
}

/// A map's key, as text.
pub(crate) trait MapKey: Ord + Sized {
    fn text(&self) -> std::borrow::Cow<'_, str>;
    fn from_text(text: String, place: Place<'_>) -> Result<Self, DecodeError>;
}

impl MapKey for String {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.as_str().into()
    }
    fn from_text(text: String, _: Place<'_>) -> Result<Self, DecodeError> {
        Ok(text)
    }
}

impl MapKey for VertexDigest {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.to_string().into()
    }
    fn from_text(text: String, place: Place<'_>) -> Result<Self, DecodeError> {
        text.parse().map_err(|source| DecodeError::Digest { message: place.message, source })
    }
}

/// Maps are written sorted by key (Go's deterministic marshalling), which a `BTreeMap` is.
impl<K: MapKey, V: MapValue> Field for BTreeMap<K, V> {
    fn absent() -> Self {
        Self::new()
    }
    fn put(&self, number: u32, out: &mut Vec<u8>) {
        for (key, value) in self {
            let mut entry = Vec::new();
            put_bytes(1, key.text().as_bytes(), &mut entry);
            value.put_value(&mut entry);
            put_bytes(number, &entry, out);
        }
    }
    fn take(&mut self, raw: Raw<'_>, place: Place<'_>) -> Result<(), DecodeError> {
        place.budget.spend(place.message, size_of::<K>() + size_of::<V>() + 16)?;
        let (mut key, mut value) = (String::new(), V::empty());
        let mut reader = Reader::new(place.message, place.bytes(raw)?);
        while let Some((number, raw)) = reader.next_field()? {
            match number {
                1 => key.take(raw, place)?,
                2 => value.take_value(raw, place)?,
                number => return Err(DecodeError::UnknownField { message: place.message, number }),
            }
        }
        self.insert(K::from_text(key, place)?, value);
        Ok(())
    }
    fn json(&self, style: JsonStyle) -> Option<Value> {
        (!self.is_empty()).then(|| {
            Value::Object(
                self.iter()
                    .map(|(key, value)| (key.text().into_owned(), value.value_json(style)))
                    .collect::<Map<_, _>>(),
            )
        })
    }
}

/// Defines a message once: struct, encoder (in the order written here), decoder, JSON.
macro_rules! message {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $number:literal $json:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }
        $crate::wire::message_impl! { $name { $($field = $number $json,)* } }

        impl Default for $name {
            fn default() -> Self {
                $crate::wire::Message::absent()
            }
        }
    };
}

/// The codec of a struct that is defined elsewhere.
macro_rules! message_impl {
    ($name:ident { $($field:ident = $number:literal $json:literal,)* }) => {
        impl $crate::wire::Message for $name {
            const NAME: &'static str = stringify!($name);

            fn absent() -> Self {
                Self { $($field: $crate::wire::Field::absent(),)* }
            }

            fn put_fields(&self, _out: &mut Vec<u8>) {
                $($crate::wire::Field::put(&self.$field, $number, _out);)*
            }

            fn take_field(&mut self, number: u64, raw: $crate::wire::Raw<'_>, budget: &$crate::wire::Budget) -> Result<(), $crate::wire::DecodeError> {
                let place = $crate::wire::Place { message: Self::NAME, number, budget };
                match number {
                    $($number => $crate::wire::Field::take(&mut self.$field, raw, place),)*
                    number => Err($crate::wire::DecodeError::UnknownField { message: place.message, number }),
                }
            }

            fn json(&self, _style: $crate::wire::JsonStyle) -> serde_json::Value {
                let mut _object = serde_json::Map::new();
                $(if let Some(value) = $crate::wire::Field::json(&self.$field, _style) {
                    _object.insert($crate::wire::field_name(_style, $json), value);
                })*
                serde_json::Value::Object(_object)
            }
        }
    };
}

/// A closed enum: values that are not listed are refused.
macro_rules! closed_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$value_doc:meta])* $value:ident = $number:literal $json:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub enum $name {
            $($(#[$value_doc])* $value = $number,)*
        }

        impl $crate::wire::Field for $name {
            fn absent() -> Self {
                Self::default()
            }
            fn put(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::Field::put(&(*self as i32), number, out);
            }
            fn take(&mut self, raw: $crate::wire::Raw<'_>, place: $crate::wire::Place<'_>) -> Result<(), $crate::wire::DecodeError> {
                let mut value = 0i64;
                $crate::wire::Field::take(&mut value, raw, place)?;
                *self = match value {
                    $($number => Self::$value,)*
                    value => return Err($crate::wire::DecodeError::UnknownEnum { message: place.message, name: stringify!($name), value }),
                };
                Ok(())
            }
            fn json(&self, style: $crate::wire::JsonStyle) -> Option<serde_json::Value> {
                (*self != Self::default()).then(|| match style {
                    $crate::wire::JsonStyle::Key => serde_json::Value::from(*self as i32),
                    $crate::wire::JsonStyle::Proto => serde_json::Value::from(match self { $(Self::$value => $json,)* }),
                })
            }
        }
    };
}

pub(crate) use {closed_enum, message, message_impl};
