//! Protocol Buffers, as far as Perfetto's messages need them: messages declared as structures, written and read.
//!
//! Source: Protocol Buffers' documentation, "Encoding". A reader skips unknown fields; groups, which are out of use,
//! are refused.

use anyhow::{Context as _, bail};

/// Wire types.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;
/// Bits of a varint's byte that are part of the number.
const PART: u32 = 7;

/// A field's contents.
#[derive(Clone, Copy)]
pub(super) enum Value<'b> {
    Number(u64),
    Fixed(u64),
    Bytes(&'b [u8]),
}

/// A message: its fields by number.
pub(super) trait Message: Default {
    /// Writes the fields behind `out`.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes a field; `None` if its contents are not of the field's type. Unknown fields are skipped.
    fn take(&mut self, tag: u32, value: Value<'_>) -> Option<()>;

    /// Returns the message's bytes.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Reads a message, whose bytes are not trusted.
    fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut message = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let place = bytes.len() - rest.len();
            let (tag, value) = field(&mut rest).with_context(|| format!("no field at byte {place}"))?;
            if message.take(tag, value).is_none() {
                bail!("field {tag} at byte {place} has a value of another type");
            }
        }
        Ok(message)
    }
}

/// Takes the next field.
fn field<'b>(rest: &mut &'b [u8]) -> Option<(u32, Value<'b>)> {
    let key = u32::try_from(varint(rest)?).ok()?;
    let value = match key & 7 {
        VARINT => Value::Number(varint(rest)?),
        FIXED64 => Value::Fixed(u64::from_le_bytes(*take(rest, 8)?.first_chunk()?)),
        FIXED32 => Value::Fixed(u32::from_le_bytes(*take(rest, 4)?.first_chunk()?).into()),
        BYTES => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, length)?)
        }
        _ => return None,
    };
    Some((key >> 3, value)).filter(|(tag, _)| *tag != 0)
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// Takes a number in parts of seven bits, the lowest first.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for n in 0..u64::BITS.div_ceil(PART) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        let part = u64::from(byte & 0x7f);
        let shifted = part << (n * PART);
        if shifted >> (n * PART) != part {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Writes a number in parts of seven bits.
pub(super) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= PART;
    }
    out.push(number as u8);
}

fn key(tag: u32, wire: u32, out: &mut Vec<u8>) {
    put_varint(u64::from(tag << 3 | wire), out);
}

fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    key(tag, BYTES, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Numbers that are varints: the bits of a negative one are those of its 64-bit form.
pub(super) trait Number: Copy {
    fn bits(self) -> u64;
    fn of(bits: u64) -> Self;
}

macro_rules! numbers {
    ($($Number:ty),+) => {
        $(impl Number for $Number {
            fn bits(self) -> u64 {
                i128::from(self) as u64
            }

            fn of(bits: u64) -> Self {
                bits as Self
            }
        })+
    };
}
numbers!(u32, u64, i32);

/// Defines a kind of field: how a value of its type is written, and how one occurrence is read.
macro_rules! kind {
    ($name:ident<$T:ident: $Bound:path>, $Type:ty, |$tag:ident, $from:ident, $out:ident| $put:expr, |$into:ident, $value:ident| $take:expr) => {
        pub(super) mod $name {
            use super::*;

            pub(in super::super) fn put<$T: $Bound>($tag: u32, $from: &$Type, $out: &mut Vec<u8>) {
                $put
            }

            pub(in super::super) fn take<$T: $Bound>($into: &mut $Type, $value: Value<'_>) -> Option<()> {
                $take
            }
        }
    };
    ($name:ident, $Type:ty, |$tag:ident, $from:ident, $out:ident| $put:expr, |$into:ident, $value:ident| $take:expr) => {
        pub(super) mod $name {
            use super::*;

            pub(in super::super) fn put($tag: u32, $from: &$Type, $out: &mut Vec<u8>) {
                $put
            }

            pub(in super::super) fn take($into: &mut $Type, $value: Value<'_>) -> Option<()> {
                $take
            }
        }
    };
}

kind!(optional<T: Number>, Option<T>, |tag, from, out| if let Some(number) = from {
    key(tag, VARINT, out);
    put_varint(number.bits(), out);
}, |into, value| {
    let Value::Number(bits) = value else { return None };
    *into = Some(T::of(bits));
    Some(())
});
kind!(number<T: Number>, T, |tag, from, out| if from.bits() != 0 {
    optional::put(tag, &Some(*from), out);
}, |into, value| {
    let Value::Number(bits) = value else { return None };
    *into = T::of(bits);
    Some(())
});
kind!(
    numbers,
    Vec<u64>,
    |tag, from, out| for number in from {
        optional::put(tag, &Some(*number), out);
    },
    |into, value| packed::take(into, value)
);
kind!(
    packed,
    Vec<u64>,
    |tag, from, out| if !from.is_empty() {
        let mut bytes = Vec::new();
        from.iter().for_each(|number| put_varint(*number, &mut bytes));
        put_bytes(tag, &bytes, out);
    },
    |into, value| {
        match value {
            Value::Number(number) => into.push(number),
            Value::Bytes(mut rest) => {
                while !rest.is_empty() {
                    into.push(varint(&mut rest)?);
                }
            }
            Value::Fixed(_) => return None,
        }
        Some(())
    }
);
kind!(
    fixed,
    Vec<u64>,
    |tag, from, out| for number in from {
        key(tag, FIXED64, out);
        out.extend_from_slice(&number.to_le_bytes());
    },
    |into, value| {
        match value {
            Value::Fixed(number) => into.push(number),
            Value::Bytes(bytes) if bytes.len().is_multiple_of(8) => {
                into.extend(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)));
            }
            _ => return None,
        }
        Some(())
    }
);
kind!(
    bytes,
    Vec<u8>,
    |tag, from, out| if !from.is_empty() {
        put_bytes(tag, from, out);
    },
    |into, value| {
        let Value::Bytes(bytes) = value else { return None };
        *into = bytes.to_vec();
        Some(())
    }
);
kind!(
    optional_text,
    Option<String>,
    |tag, from, out| if let Some(text) = from {
        put_bytes(tag, text.as_bytes(), out);
    },
    |into, value| {
        let Value::Bytes(bytes) = value else { return None };
        *into = Some(str::from_utf8(bytes).ok()?.to_owned());
        Some(())
    }
);
kind!(
    text,
    String,
    |tag, from, out| if !from.is_empty() {
        put_bytes(tag, from.as_bytes(), out);
    },
    |into, value| {
        let Value::Bytes(bytes) = value else { return None };
        *into = str::from_utf8(bytes).ok()?.to_owned();
        Some(())
    }
);
kind!(message<M: Message>, Option<M>, |tag, from, out| if let Some(message) = from {
    put_bytes(tag, &message.encode(), out);
}, |into, value| {
    let Value::Bytes(bytes) = value else { return None };
    *into = Some(M::decode(bytes).ok()?);
    Some(())
});
kind!(messages<M: Message>, Vec<M>, |tag, from, out| for message in from {
    put_bytes(tag, &message.encode(), out);
}, |into, value| {
    let Value::Bytes(bytes) = value else { return None };
    into.push(M::decode(bytes).ok()?);
    Some(())
});

/// Declares messages: each field has its number, and its kind, which is a module of this file.
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $Type:ty = $tag:literal as $kind:ident,)+
        }
    )+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Debug, Default, PartialEq)]
            $vis struct $Name {
                $($(#[$field_meta])* $field_vis $field: $Type,)+
            }

            impl $crate::trace::proto::Message for $Name {
                fn write(&self, out: &mut Vec<u8>) {
                    $($crate::trace::proto::$kind::put($tag, &self.$field, out);)+
                }

                fn take(&mut self, tag: u32, value: $crate::trace::proto::Value<'_>) -> Option<()> {
                    match tag {
                        $($tag => $crate::trace::proto::$kind::take(&mut self.$field, value),)+
                        _ => Some(()),
                    }
                }
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    messages! {
        struct Inner {
            number: u32 = 1 as number,
            text: String = 2 as text,
        }
        struct Outer {
            negative: Option<i32> = 1 as optional,
            none: Option<u64> = 2 as optional,
            packed: Vec<u64> = 3 as packed,
            numbers: Vec<u64> = 4 as numbers,
            fixed: Vec<u64> = 47 as fixed,
            inner: Option<Inner> = 60 as message,
            all: Vec<Inner> = 61 as messages,
            bytes: Vec<u8> = 1901 as bytes,
            name: Option<String> = 5 as optional_text,
        }
    }

    fn sample() -> Outer {
        let inner = Inner { number: 150, text: "testing".to_owned() };
        Outer {
            negative: Some(-2),
            none: None,
            packed: vec![3, 270, 86_942, u64::MAX],
            numbers: vec![0, 1],
            fixed: vec![1, u64::MAX],
            inner: Some(Inner::default()),
            all: vec![inner.clone(), inner],
            bytes: vec![0, 0xff],
            name: Some(String::new()),
        }
    }

    /// Checks the examples of Protocol Buffers' documentation.
    #[test]
    fn messages_have_the_bytes_of_the_documentation() {
        let one = Inner { number: 150, text: String::new() };
        assert_eq!(one.encode(), [0x08, 0x96, 0x01]);
        let two = Inner { number: 0, text: "testing".to_owned() };
        assert_eq!(two.encode(), *b"\x12\x07testing");
        let inside = Outer { all: vec![one], ..Outer::default() };
        assert_eq!(inside.encode(), [0xea, 0x03, 0x03, 0x08, 0x96, 0x01]);
        let packed = Outer { packed: vec![3, 270, 86_942], ..Outer::default() };
        assert_eq!(packed.encode(), [0x1a, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]);
        let negative = Outer { negative: Some(-2), ..Outer::default() };
        assert_eq!(negative.encode(), [8, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn what_is_written_is_read_and_unknown_fields_are_skipped() {
        let mut bytes = sample().encode();
        assert_eq!(Outer::decode(&bytes).unwrap(), sample());
        bytes.extend([0x30, 5, 0x3d, 1, 2, 3, 4, 0x39, 1, 2, 3, 4, 5, 6, 7, 8, 0x32, 1, 9]);
        assert_eq!(Outer::decode(&bytes).unwrap(), sample());
        assert_eq!(Outer::decode(&[]).unwrap(), Outer::default());
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        for wrong in [
            &[0x08][..],                                                   // no number
            &[0x08, 0x80],                                                 // a number without an end
            &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], // of 65 bits
            &[0x2a, 2, b'x'],                                              // cut off
            &[0x2a, 1, 0xff],                                              // no UTF-8
            &[0x2a, 0xff, 0xff, 0xff, 0xff, 0x0f],                         // a length beyond all
            &[0x28, 1],                                                    // a number in place of a text
            &[0x0b],                                                       // a group
            &[0x00, 1],                                                    // field 0
            &[0xe2, 3, 1, 8],                                              // a message that is cut off
        ] {
            assert!(Outer::decode(wrong).is_err(), "{wrong:x?}");
        }
        let good = sample().encode();
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = Outer::decode(&bytes);
            }
            let _ = Outer::decode(&good[..at]);
        }
    }
}
