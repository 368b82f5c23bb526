//! Connections that lead back to the guest, for hosts that can offer them.
//!
//! A guest cannot create connections, and a host's own are in use. A host under test that is set up with the
//! connections below lets the suite check messages and events to the last bit; without them those cases are skipped,
//! and messages come only from timers and VMBus. The environment reports whether they are available
//! ([`Env::loopback`](crate::Env::loopback)).
//!
//! | connection | kind | VP | SINT | port id |
//! |---|---|---|---|---|
//! | [`MESSAGE`] | messages | 0 | [`MESSAGE_SINT`] | [`MESSAGE_PORT`] |
//! | [`MESSAGE_TO_VP1`] | messages | 1 | [`MESSAGE_SINT`] | any |
//! | [`MESSAGE_TO_ANY`] | messages | chosen by the host | [`MESSAGE_SINT`] | any |
//! | [`MESSAGE_SECOND`] | messages | 0 | [`SECOND_SINT`] | any |
//! | [`EVENT`] | events, flags from [`EVENT_BASE`] on, [`EVENT_COUNT`] of them | 0 | [`EVENT_SINT`] | any |
//! | [`EVENT_TO_VP1`] | events, all 2048 flags | 1 | [`EVENT_SINT`] | any |
//! | [`EVENT_TO_ANY`] | events, all 2048 flags | chosen by the host | [`EVENT_SINT`] | any |
//! | [`DELETED`] | its port was deleted | | | |
//!
//! VP 0 and VP 1 are VP indices. With one VP those of VP 1 may be missing.

/// Messages to VP 0.
pub const MESSAGE: u32 = 0x7e_0001;
/// Messages to VP 1.
pub const MESSAGE_TO_VP1: u32 = 0x7e_0002;
/// Messages to a VP of the host's choice.
pub const MESSAGE_TO_ANY: u32 = 0x7e_0003;
/// Messages to VP 0, another SINT.
pub const MESSAGE_SECOND: u32 = 0x7e_0004;
/// Events to VP 0.
pub const EVENT: u32 = 0x7e_0011;
/// Events to VP 1.
pub const EVENT_TO_VP1: u32 = 0x7e_0012;
/// Events to a VP of the host's choice.
pub const EVENT_TO_ANY: u32 = 0x7e_0013;
/// A connection whose port was deleted.
pub const DELETED: u32 = 0x7e_0021;
/// A connection id that does not exist.
pub const NOTHING: u32 = 0x7e_00ff;

/// SINT of the message ports.
pub const MESSAGE_SINT: u8 = 5;
/// SINT of [`MESSAGE_SECOND`].
pub const SECOND_SINT: u8 = 7;
/// SINT of the event ports.
pub const EVENT_SINT: u8 = 6;
/// Port id behind [`MESSAGE`].
pub const MESSAGE_PORT: u32 = 0x5a_0001;
/// First flag of [`EVENT`].
pub const EVENT_BASE: u16 = 40;
/// Number of flags of [`EVENT`].
pub const EVENT_COUNT: u16 = 8;
