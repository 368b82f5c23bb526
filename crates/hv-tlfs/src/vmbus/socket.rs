//! Hyper-V sockets: a channel for each connection, as a stream of bytes in both directions.
//!
//! A socket's offer is a pipe with the flag [`socket`](super::OfferFlags::socket): its interface is the service, its
//! instance the endpoint that connects, and its user-defined data are [`Parameters`]. A guest asks for a connection
//! with [`TlConnectRequest`](super::TlConnectRequest); a host offers one without being asked.
//!
//! In-band packets begin with a [`PipeHeader`](super::ic::PipeHeader) and carry at most [`MAX_PAYLOAD`] bytes. One
//! without bytes is the end of its direction. When both directions have ended, the host rescinds the channel: Linux
//! waits for that without a time limit.

use super::Guid;
use zerocopy::little_endian::U32;

/// Service of port 0 of Linux's AF_VSOCK; that of another port has the port as its first group ([`service`]).
///
/// C name: `srv_id_template`. Sources: Linux 6.12, net/vmw_vsock/hyperv_transport.c.
#[doc(alias = "srv_id_template")]
pub const VSOCK_TEMPLATE: Guid =
    Guid::new(0, 0xfacb, 0x11e6, [0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3]);

/// Returns the service, or endpoint, of an AF_VSOCK port.
///
/// Sources: Linux 6.12, net/vmw_vsock/hyperv_transport.c.
#[must_use]
pub const fn service(port: u32) -> Guid {
    Guid::new(port, 0xfacb, 0x11e6, [0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3])
}

/// Returns the AF_VSOCK port of a service or endpoint; `None` if it has none.
///
/// Sources: Linux 6.12, net/vmw_vsock/hyperv_transport.c.
#[must_use]
pub fn port(service: Guid) -> Option<u32> {
    let [a, b, c, d, ..] = service.bytes;
    let port = u32::from_le_bytes([a, b, c, d]);
    (self::service(port) == service).then_some(port)
}

constants! {
    table LIMITS, kind "socket-limit", from "Linux 6.12, net/vmw_vsock/hyperv_transport.c";

    /// Maximum payload of a packet, in bytes, without its [`PipeHeader`](super::ic::PipeHeader).
    pub const MAX_PAYLOAD: u32 = 0x4000, "HVS_MTU_SIZE";
    /// Maximum payload that Linux sends.
    pub const LINUX_PAYLOAD: u32 = 4088, "HVS_SEND_BUF_SIZE";
    /// Minimum size of the data of a ring; before VMBus 5.0 the only one.
    pub const MIN_RING: u32 = 0x6000, "RINGBUFFER_HVS_RCV_SIZE" ["RINGBUFFER_HVS_SND_SIZE"];
    /// Maximum size of the data of a ring of Linux's.
    pub const MAX_RING: u32 = 0x4_0000, "RINGBUFFER_HVS_MAX_SIZE";
}

constants! {
    table ADDRESSES, kind "socket-address", from "Linux 6.12, include/uapi/linux/vm_sockets.h";

    /// The host, as a context id of AF_VSOCK: the only one that a Hyper-V guest can connect to.
    pub const CID_HOST: u32 = 2, "VMADDR_CID_HOST";
    /// Any context id, or any port.
    pub const CID_ANY: u32 = u32::MAX, "VMADDR_CID_ANY" ["VMADDR_PORT_ANY"];
}

constants! {
    table VERSIONS, kind "socket-version", from "OpenVMM, vmbus_core/protocol.rs";

    /// In [`Parameters::version`]: before Windows 10, version 1809.
    pub const VERSION_PRE_RS5: u32 = 0, "HvsockParametersVersionPreRs5";
    /// Since Windows 10, version 1809.
    pub const VERSION_RS5: u32 = 1, "HvsockParametersVersionRs5";
}

structs! {
    table STRUCTS, from "OpenVMM, vmbus_core/protocol.rs; Linux 6.12, net/vmw_vsock/hyperv_transport.c";

    /// User-defined data of a socket's offer.
    pub struct Parameters = "HvsockUserDefinedParameters", size 28 {
        /// [`PipeMode::BYTE`](super::PipeMode::BYTE).
        pipe_mode: U32 = 0 "pipe_params.pipe_type",
        /// 1: the host connects to a guest service. All that Linux reads.
        host_connects: u8 = 4 "is_for_guest_accept",
        /// 1: to a container in the guest.
        for_container: u8 = 5 "is_for_guest_container",
        /// [`VERSION_RS5`].
        version: U32 = 6,
        /// The container.
        silo: Guid = 10 "silo_id",
        /// Zero.
        padding: [u8; 2] = 26 "_padding",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_first_group_of_its_service() {
        extern crate std;
        use std::string::ToString;
        assert_eq!(service(0x1234).to_string(), "00001234-facb-11e6-bd58-64006a7986d3");
        assert_eq!(service(0), VSOCK_TEMPLATE);
        assert_eq!(
            [port(service(u32::MAX)), port(service(0)), port(Guid::ZERO)],
            [Some(u32::MAX), Some(0), None]
        );
    }
}
