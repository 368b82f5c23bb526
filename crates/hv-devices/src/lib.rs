//! VMBus devices of a Hyper-V host: state machines behind the trait of `hv-vmbus`.
//!
//! They do no I/O, do not allocate, and are independent of their back ends: packets, outcomes and time go in, answers
//! and requests go out. An embedder puts those that it wants into slots (`hv_vmbus::devices!`) and serves their
//! requests.
#![no_std]
#![forbid(unsafe_code)]

pub mod any;
pub mod balloon;
pub mod echo;
pub mod fcopy;
pub mod heartbeat;
pub mod ic;
pub mod input;
pub mod keyboard;
pub mod kvp;
pub mod mouse;
pub mod network;
pub mod scsi;
pub mod shutdown;
pub mod sockets;
pub mod storage;
pub mod time_sync;
pub mod video;
pub mod vss;

pub use any::Any;
pub use balloon::Balloon;
pub use echo::Echo;
pub use fcopy::Fcopy;
pub use heartbeat::Heartbeat;
pub use keyboard::Keyboard;
pub use kvp::Kvp;
pub use mouse::Mouse;
pub use network::Network;
pub use shutdown::Shutdown;
pub use sockets::Sockets;
pub use storage::Storage;
pub use time_sync::TimeSync;
pub use video::Video;
pub use vss::Vss;
