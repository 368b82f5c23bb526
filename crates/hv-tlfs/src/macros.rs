//! The table macros. Each definition of the ABI is written once, in one of these; the Rust item, its docs, its
//! `#[doc(alias)]`es and its row in the look-up table of [`crate::abi`] are all generated from that one definition.
//!
//! * [`open_enum!`]: a newtype for a number that can come from the other side, with no constants yet.
//! * [`constants!`]: constants, either associated with such a newtype or free-standing.
//! * [`bits!`]: a word divided into bit fields, written as in the TLFS: `7:0`, highest bit first.
//! * [`structs!`]: a `#[repr(C)]` structure, every offset and the size asserted at compile time.
//!
//! In all of them the C name follows `=` (the current Linux name, else the TLFS's), other names in square brackets, and
//! `from` names the sources, separated by "; ".

/// The C name of a field: the one given, else the Rust name.
macro_rules! c_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

/// The doc line that lists an item's C names.
macro_rules! c_names {
    ($name:literal $(, $alias:literal)*) => {
        concat!("C name: `", $name, "`", $(", `", $alias, "`",)* ".")
    };
}

/// `bit_range!(hi)` and `bit_range!(hi : lo)`: lowest bit and width.
macro_rules! bit_range {
    ($hi:literal) => {
        ($hi, 1)
    };
    ($hi:literal : $lo:literal) => {
        ($lo, $hi - $lo + 1)
    };
}

/// The table rows of a structure without a Rust field: union members, reserved bits, open-ended arrays.
macro_rules! row {
    ($name:literal @ $offset:literal, $size:literal) => {
        $crate::abi::Field {
            name: $name,
            ty: "",
            offset: $offset,
            size: $size,
            bits: None,
            doc: $crate::abi::Doc(&[]),
        }
    };
    ($name:literal @ $offset:literal, $size:literal, bits $hi:literal $(: $lo:literal)?) => {
        $crate::abi::Field {
            name: $name,
            ty: "",
            offset: $offset,
            size: $size,
            bits: Some(bit_range!($hi $(: $lo)?)),
            doc: $crate::abi::Doc(&[]),
        }
    };
}

/// Gives a type of the table its path, by which its constants are found.
macro_rules! path {
    ($Name:ident) => {
        impl $Name {
            pub(crate) const PATH: &str = concat!(module_path!(), "::", stringify!($Name));
        }
    };
}

/// A newtype over an integer with open values: any number is valid, and [`constants!`] names the known ones. With a C
/// name it has a row among the structures (C has it as an `enum` or a `typedef`). `names` lists the tables of its
/// constants, from which `Debug` takes the name of a value: `HvStatus(INVALID_PARAMETER)`.
macro_rules! open_enum {
    (
        table $TABLE:ident, from $from:literal;
        $(names $names:expr;)?
        $(#[doc = $doc:literal])+
        pub struct $Name:ident($repr:ident) = $cname:literal $([$($alias:literal),+])?;
    ) => {
        $(#[doc = $doc])+
        #[doc = ""]
        #[doc = c_names!($cname $($(, $alias)+)?)]
        #[doc = concat!("Sources: ", $from, ".")]
        #[doc(alias = $cname)]
        $($(#[doc(alias = $alias)])+)?
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
        #[repr(transparent)]
        pub struct $Name(pub $repr);

        impl core::fmt::Debug for $Name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $(if let Some(row) = $crate::abi::named(u64::from(self.0), $names) {
                    return write!(f, concat!(stringify!($Name), "({})"), row.rust);
                })?
                write!(f, concat!(stringify!($Name), "({:#x})"), self.0)
            }
        }

        path!($Name);

        pub(crate) const $TABLE: &[$crate::abi::Struct] = &[$crate::abi::Struct {
            name: $cname,
            aliases: &[$($($alias),+)?],
            rust: stringify!($Name),
            path: $Name::PATH,
            size: size_of::<$Name>(),
            align: align_of::<$Name>(),
            doc: $crate::abi::Doc(&[$($doc),+]),
            sources: $crate::abi::Sources($from),
            fields: &[],
        }];
    };
}

/// Named numbers: with `impl Type` they are associated constants of a newtype, else free-standing ones.
macro_rules! constants {
    (
        table $TABLE:ident, kind $kind:literal, from $from:literal, impl $Type:ident;
        $(
            $(#[doc = $doc:literal])+
            $NAME:ident = $value:expr, $cname:literal $([$($alias:literal),+ $(,)?])?;
        )+
    ) => {
        impl $Type {
            $(
                $(#[doc = $doc])+
                #[doc = ""]
                #[doc = c_names!($cname $($(, $alias)+)?)]
                #[doc = concat!("Sources: ", $from, ".")]
                #[doc(alias = $cname)]
                $($(#[doc(alias = $alias)])+)?
                pub const $NAME: Self = Self($value);
            )+
        }

        pub(crate) const $TABLE: &[$crate::abi::Constant] = &[$(
            $crate::abi::Constant {
                name: $cname,
                aliases: &[$($($alias),+)?],
                rust: stringify!($NAME),
                of: $Type::PATH,
                kind: $kind,
                value: $Type::$NAME.0 as u64,
                doc: $crate::abi::Doc(&[$($doc),+]),
                sources: $crate::abi::Sources($from),
            }
        ),+];
    };
    (
        table $TABLE:ident, kind $kind:literal, from $from:literal;
        $(
            $(#[doc = $doc:literal])+
            pub const $NAME:ident: $ty:ty = $value:expr, $cname:literal $([$($alias:literal),+ $(,)?])?;
        )+
    ) => {
        $(
            $(#[doc = $doc])+
            #[doc = ""]
            #[doc = c_names!($cname $($(, $alias)+)?)]
            #[doc = concat!("Sources: ", $from, ".")]
            #[doc(alias = $cname)]
            $($(#[doc(alias = $alias)])+)?
            pub const $NAME: $ty = $value;
        )+

        pub(crate) const $TABLE: &[$crate::abi::Constant] = &[$(
            $crate::abi::Constant {
                name: $cname,
                aliases: &[$($($alias),+)?],
                rust: stringify!($NAME),
                of: "",
                kind: $kind,
                value: $NAME as u64,
                doc: $crate::abi::Doc(&[$($doc),+]),
                sources: $crate::abi::Sources($from),
            }
        ),+];
    };
}

/// One bit field's getter and setter. Three kinds of value: `bool`, an integer, a newtype over an integer.
macro_rules! bit_accessors {
    ($repr:ident, [$($doc:literal)+], $get:ident, $with:ident, bool, $range:expr $(, $cname:literal)?) => {
        bit_accessors!(@ $repr, [$($doc)+], $get, $with, bool, $range $(, $cname)?;
            raw => raw != 0; value => value as $repr);
    };
    ($repr:ident, [$($doc:literal)+], $get:ident, $with:ident, $ty:ident, $range:expr $(, $cname:literal)?) => {
        bit_accessors!(@ $repr, [$($doc)+], $get, $with, $ty, $range $(, $cname)?;
            raw => raw as $ty; value => value as $repr);
    };
    ($repr:ident, [$($doc:literal)+], $get:ident, $with:ident, $ty:ident($int:ident), $range:expr
        $(, $cname:literal)?) => {
        bit_accessors!(@ $repr, [$($doc)+], $get, $with, $ty, $range $(, $cname)?;
            raw => $ty(raw as $int); value => value.0 as $repr);
    };
    (@ $repr:ident, [$($doc:literal)+], $get:ident, $with:ident, $ty:ident, $range:expr $(, $cname:literal)?;
        $raw:ident => $from:expr; $value:ident => $to:expr) => {
        $(#[doc = $doc])+
        $(#[doc(alias = $cname)])?
        #[inline]
        #[must_use]
        pub const fn $get(self) -> $ty {
            let (low, width): (u32, u32) = $range;
            let $raw = (self.0 >> low) & ($repr::MAX >> ($repr::BITS - width));
            $from
        }

        #[doc = concat!("This word with [`", stringify!($get), "`](Self::", stringify!($get),
            ") replaced; bits of `value` beyond the field's width are dropped.")]
        #[inline]
        #[must_use]
        pub const fn $with(self, $value: $ty) -> Self {
            let (low, width): (u32, u32) = $range;
            let mask = ($repr::MAX >> ($repr::BITS - width)) << low;
            Self((self.0 & !mask) | ((($to) << low) & mask))
        }
    };
}

/// Words cut into bit fields: `get / with_get: type @ hi:lo = "c_name";`. Bits that no field names are reserved.
macro_rules! bits {
    (
        table $TABLE:ident, from $from:literal;
        $(
            $(#[doc = $doc:literal])+
            pub struct $Name:ident($repr:ident) = $cname:literal $([$($alias:literal),+ $(,)?])? {
                $(
                    $(#[doc = $fdoc:literal])+
                    $get:ident / $with:ident: $ty:ident $(($int:ident))? @ $hi:literal $(: $lo:literal)?
                        $(= $fname:literal)?;
                )+
            }
            $(also {$(
                $row:literal @ $offset:literal, $size:literal $(, bits $rhi:literal $(: $rlo:literal)?)?;
            )+})?
        )+
    ) => {
        $(
            $(#[doc = $doc])+
            #[doc = ""]
            #[doc = c_names!($cname $($(, $alias)+)?)]
            #[doc = concat!("Sources: ", $from, ".")]
            #[doc(alias = $cname)]
            $($(#[doc(alias = $alias)])+)?
            #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
            #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
            #[repr(transparent)]
            pub struct $Name(pub $repr);

            impl $Name {
                /// The bits that no field names.
                pub const RESERVED_MASK: $repr = !(0 $(| {
                    let (low, width): (u32, u32) = bit_range!($hi $(: $lo)?);
                    ($repr::MAX >> ($repr::BITS - width)) << low
                })+);

                /// Creates the word from raw bits, including reserved ones.
                #[inline]
                #[must_use]
                pub const fn from_bits(bits: $repr) -> Self {
                    Self(bits)
                }

                /// Returns the raw bits.
                #[inline]
                #[must_use]
                pub const fn bits(self) -> $repr {
                    self.0
                }

                /// Returns the reserved bits that are set: 0 in a valid word.
                #[inline]
                #[must_use]
                pub const fn reserved(self) -> $repr {
                    self.0 & Self::RESERVED_MASK
                }

                $(bit_accessors!($repr, [$($fdoc)+], $get, $with, $ty $(($int))?,
                    bit_range!($hi $(: $lo)?) $(, $fname)?);)+
            }

            impl core::fmt::Debug for $Name {
                fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                    f.debug_struct(stringify!($Name))
                        .field("bits", &format_args!("{:#x}", self.0))
                        $(.field(stringify!($get), &self.$get()))+
                        .finish()
                }
            }

            path!($Name);
        )+

        pub(crate) const $TABLE: &[$crate::abi::Struct] = &[$(
            $crate::abi::Struct {
                name: $cname,
                aliases: &[$($($alias),+)?],
                rust: stringify!($Name),
                path: $Name::PATH,
                size: size_of::<$Name>(),
                align: align_of::<$Name>(),
                doc: $crate::abi::Doc(&[$($doc),+]),
                sources: $crate::abi::Sources($from),
                fields: &[
                    $($crate::abi::Field {
                        name: c_name!($get $($fname)?),
                        ty: stringify!($repr),
                        offset: 0,
                        size: size_of::<$repr>(),
                        bits: Some(bit_range!($hi $(: $lo)?)),
                        doc: $crate::abi::Doc(&[$($fdoc),+]),
                    },)+
                    $($(row!($row @ $offset, $size $(, bits $rhi $(: $rlo)?)?),)+)?
                ],
            }
        ),+];
    };
}

/// Implements `Debug` field by field, unless the structure has an implementation of its own.
macro_rules! debug_fields {
    ($Name:ident { $($field:ident)* }) => {
        impl core::fmt::Debug for $Name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($Name))$(.field(stringify!($field), &self.$field))*.finish()
            }
        }
    };
    ($Name:ident { $($field:ident)* } custom) => {};
}

/// Structures shared with the hypervisor: `field: type = offset "c_name",`. `also` adds rows for what C names but is
/// not a field of the Rust structure: union members, bit fields, open-ended arrays. A structure with `debug custom`
/// implements `Debug` itself.
macro_rules! structs {
    (
        table $TABLE:ident, from $from:literal;
        $(
            $(#[doc = $doc:literal])+
            pub struct $Name:ident = $cname:literal $([$($alias:literal),+ $(,)?])?, size $size:literal
                $(, debug $debug:ident)?
            {
                $(
                    $(#[doc = $fdoc:literal])+
                    $field:ident: $ty:ty = $at:literal $($fname:literal)?,
                )*
            }
            $(also {$(
                $row:literal @ $offset:literal, $rsize:literal $(, bits $rhi:literal $(: $rlo:literal)?)?;
            )+})?
        )+
    ) => {
        $(
            $(#[doc = $doc])+
            #[doc = ""]
            #[doc = c_names!($cname $($(, $alias)+)?)]
            #[doc = concat!("Sources: ", $from, ".")]
            #[doc(alias = $cname)]
            $($(#[doc(alias = $alias)])+)?
            #[derive(Clone, Copy, PartialEq, Eq)]
            #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
            #[repr(C)]
            pub struct $Name {
                $(
                    $(#[doc = $fdoc])+
                    #[doc = concat!("Offset ", $at, ".")]
                    $(#[doc(alias = $fname)])?
                    pub $field: $ty,
                )*
            }

            debug_fields!($Name { $($field)* } $($debug)?);

            const _: () = {
                assert!(size_of::<$Name>() == $size);
                $(assert!(core::mem::offset_of!($Name, $field) == $at);)*
                $($(assert!($rsize <= $size - $offset);)+)?
            };

            path!($Name);
        )+

        pub(crate) const $TABLE: &[$crate::abi::Struct] = &[$(
            $crate::abi::Struct {
                name: $cname,
                aliases: &[$($($alias),+)?],
                rust: stringify!($Name),
                path: $Name::PATH,
                size: size_of::<$Name>(),
                align: align_of::<$Name>(),
                doc: $crate::abi::Doc(&[$($doc),+]),
                sources: $crate::abi::Sources($from),
                fields: &[
                    $($crate::abi::Field {
                        name: c_name!($field $($fname)?),
                        ty: stringify!($ty),
                        offset: $at,
                        size: size_of::<$ty>(),
                        bits: None,
                        doc: $crate::abi::Doc(&[$($fdoc),+]),
                    },)*
                    $($(row!($row @ $offset, $rsize $(, bits $rhi $(: $rlo)?)?),)+)?
                ],
            }
        ),+];
    };
}
