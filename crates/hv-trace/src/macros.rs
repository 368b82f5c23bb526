//! The macro that makes the kinds of records, their encoding and their decoding of the table.

pub(crate) const fn sum(mut sizes: &[usize]) -> usize {
    let mut sum = 0;
    while let [size, rest @ ..] = sizes {
        (sum, sizes) = (sum + *size, rest);
    }
    sum
}

macro_rules! records {
    ($(
        $(#[doc = $doc:literal])+
        $Name:ident = $number:literal, $label:literal {
            $($(#[doc = $field_doc:literal])+ $field:ident: $type:ty,)*
        }
    )+) => {
        /// The kinds of records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[doc = $doc])+ $Name = $number,)+
        }

        impl Kind {
            /// All kinds, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$Name),+];

            /// Returns the kind with this number; `None` if it is unknown.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$Name),)+
                    _ => None,
                }
            }

            /// Returns its label for users. Labels of related kinds begin with the same words.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$Name => $label,)+
                }
            }
        }

        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum What {
            $($(#[doc = $doc])+ $Name { $($(#[doc = $field_doc])+ $field: $type,)* },)+
            /// Bytes that are not a record of this version.
            Unknown {
                /// Number of the kind.
                kind: u32,
                /// Its fields.
                body: [u8; BODY],
            },
        }

        // A record that does not fit fails to compile.
        $(const _: () = assert!($crate::macros::sum(&[$(<$type as Field>::SIZE),*]) <= BODY);)+

        impl What {
            /// Returns the kind; `None` if it is unknown.
            #[must_use]
            pub const fn kind(&self) -> Option<Kind> {
                match self {
                    $(Self::$Name { .. } => Some(Kind::$Name),)+
                    Self::Unknown { kind, .. } => Kind::from_raw(*kind),
                }
            }

            /// Returns the kind's number and the fields as bytes.
            #[must_use]
            pub fn encode(&self) -> (u32, [u8; BODY]) {
                let mut body = [0; BODY];
                let kind = match self {
                    $(Self::$Name { $($field),* } => {
                        let _place = 0;
                        $(let _place = $field.put(&mut body, _place);)*
                        $number
                    })+
                    Self::Unknown { kind, body } => return (*kind, *body),
                };
                (kind, body)
            }

            /// Decodes the fields of a record.
            ///
            /// Bytes that differ from what this version would write are kept: encoding always returns `body`.
            #[must_use]
            pub fn decode(kind: u32, body: &[u8; BODY]) -> Self {
                let read = Self::read(kind, body);
                // Bytes after the last field do not belong to the record.
                read.filter(|what| what.encode().1 == *body).unwrap_or(Self::Unknown { kind, body: *body })
            }

            fn read(kind: u32, body: &[u8; BODY]) -> Option<Self> {
                Some(match kind {
                    $($number => {
                        let _place = 0;
                        $(
                            let $field = <$type>::take(body, _place)?;
                            let _place = _place + <$type as Field>::SIZE;
                        )*
                        Self::$Name { $($field),* }
                    })+
                    _ => return None,
                })
            }
        }
    };
}

pub(crate) use records;
