//! VMBus: the messages, rings and packets by which devices are offered and used.

use crate::abi::Tables;

/// The tables of this module's parts, joined.
pub(crate) const TABLES: Tables = Tables { constants: &[], structs: &[] };
