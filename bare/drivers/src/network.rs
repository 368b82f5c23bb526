//! The network card: one frame out, and its answer.

use bus::{Os, Pool};
use hv_drivers::hv_vmbus_client::{Client, Open};
use hv_drivers::network::{self, Frames as _, Sizes};
use hv_guest::arch::Either;
use hv_tlfs::vmbus::guid;

/// The guest's address on QEMU's user network, and that of the gateway.
const OWN: [u8; 4] = [10, 0, 2, 15];
const GATEWAY: [u8; 4] = [10, 0, 2, 2];
/// Bytes of a frame with an ARP packet.
pub(crate) const ARP: usize = 14 + 28;

/// Asks the network for the gateway's address, if there is a card.
pub(crate) fn run(client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    let Some(offer) = client.find(guid::NETWORK) else { return };
    let (place, size) = ((&offer, Open::on(os.vp())), (1500, Sizes::default()));
    let card = network::open(client, place, size, &Pool, &mut &*os);
    let mut card = card.expect("the card is initialized");
    let mac = card.mac();
    rt::println!(
        "drivers: card {mac:02x?}, version {:#x}, MTU {}, up {}",
        card.version().0,
        card.mtu(),
        card.is_up()
    );
    card.send(&request(mac)).expect("the frame is sent");
    let mut frame = [0; 1518];
    let gateway = loop {
        match card.receive(&mut frame).expect("the card works") {
            // ARP, an answer, from the gateway.
            Some(len) if len >= ARP && frame[12..14] == [8, 6] && frame[20..22] == [0, 2] => {
                break (frame[28..32] == GATEWAY).then(|| frame[22..28].first_chunk::<6>().copied());
            }
            Some(_) => {}
            None => os.wait().expect("there is no limit"),
        }
    };
    rt::println!("drivers: the gateway answers: {:02x?}", gateway.flatten().unwrap_or_default());
    let closing = card.close(client).expect("the host takes the message");
    client.block_on(closing, &mut &*os).expect("the host gives the memory back");
}

/// Builds an ARP request for the gateway (RFC 826).
pub(crate) fn request(mac: [u8; 6]) -> [u8; ARP] {
    let mut frame = [0; ARP];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&OWN);
    frame[38..42].copy_from_slice(&GATEWAY);
    frame
}
