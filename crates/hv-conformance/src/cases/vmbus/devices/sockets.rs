//! Sockets: a connection to a service that nothing serves.

use hv_tlfs::vmbus::socket::service;
use hv_tlfs::vmbus::{
    Guid, MessageHeader, MessageType, NtStatus, TlConnectRequest, TlConnectRequestSilo, TlConnectResult,
    Version,
};

use crate::cx::{Bus, Cx};
use crate::outcome::{Outcome, Stop};

cases! {
    "vmbus_sockets";
    "Linux 6.12, drivers/hv/channel_mgmt.c", "vmbus_ontlconnectresult":
        a_connection_that_nothing_serves_is_refused,
        a_refusal_names_both_ends,
        a_request_without_a_container_is_answered_too;
    "OpenVMM, vmbus_server", "channels.rs: send_tl_connect_result":
        a_refusal_is_not_told_before_version_4_1;
}

/// A port on which nothing listens.
const NOTHING: Guid = service(0x7ffe_4321);
const OWN: Guid = service(0x4001_0203);

fn request() -> TlConnectRequest {
    TlConnectRequest {
        header: MessageHeader::new(MessageType::TL_CONNECT_REQUEST),
        endpoint: OWN,
        service: NOTHING,
    }
}

/// Requests a connection, and returns the answer.
fn refused(bus: &Bus<'_, '_>) -> Result<TlConnectResult, Stop> {
    bus.say(&TlConnectRequestSilo { request: request(), silo: Guid::ZERO })?;
    bus.expect(MessageType::TL_CONNECT_RESULT)
}

fn a_connection_that_nothing_serves_is_refused(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V5_2, |bus| {
        check_eq!(refused(bus)?.status.0, NtStatus::CONNECTION_REFUSED.0);
        Ok(())
    })
}

fn a_refusal_names_both_ends(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V5_2, |bus| {
        let answer = refused(bus)?;
        check!(answer.endpoint == OWN);
        check!(answer.service == NOTHING);
        Ok(())
    })
}

fn a_request_without_a_container_is_answered_too(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V5_2, |bus| {
        bus.say(&request())?;
        let answer: TlConnectResult = bus.expect(MessageType::TL_CONNECT_RESULT)?;
        check!(answer.status.0 != 0);
        Ok(())
    })
}

fn a_refusal_is_not_told_before_version_4_1(cx: &Cx<'_>) -> Outcome {
    cx.connected_by(Version::V4_0, |bus| {
        bus.say(&request())?;
        bus.silence()?;
        bus.unload_in_silence()
    })
}
