//! A card's state as it is saved.

use super::leave::Leaving;
use super::objects::{Multicast, Offloads};
use super::receive::section_size;
use super::rss::Rss;
use super::sections::Sections;
use super::{LARGEST_FRAME, Network, Rndis, SMALLEST_FRAME, SendBuffer, VERSIONS};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::nvsp::{Capabilities, SEND_SECTION_SIZE, Version};

pub(super) fn save(card: &Network, w: &mut Writer<'_>) {
    w.bytes(&card.mac);
    w.bytes(&card.address);
    w.flag(card.down);
    w.u32(card.version.0);
    w.u64(card.capabilities.0);
    w.u32(card.longest);
    w.flag(card.send.present);
    w.u32(card.send.gpadl);
    w.u32(card.send.sections);
    card.receive.save(w);
    w.flag(card.rndis == Rndis::Initialized);
    w.u32(card.filter);
    card.multicast.save(w);
    card.rss.save(w);
    card.offloads.save(w);
    numbers(card).iter().for_each(|count| w.u64(*count));
    w.flag(card.announce);
    w.flag(card.hungry);
    card.leaving.save(w);
}

pub(super) fn restore(card: &mut Network, r: &mut Reader<'_>) -> Result<(), RestoreError> {
    const PART: RestoreError = RestoreError::Invalid("state of a network card");
    let mut new = Network::new();
    // The embedder has given the card the address of the saved one.
    if r.bytes(card.mac.len())? != card.mac {
        return Err(RestoreError::Invalid("address of a network card"));
    }
    new.mac = card.mac;
    new.address.copy_from_slice(r.bytes(card.address.len())?);
    new.down = r.flag("link")?;
    new.version = Version(r.u32()?);
    new.capabilities = Capabilities(r.u64()?);
    new.longest = r.u32()?;
    new.send = SendBuffer { present: r.flag("send buffer")?, gpadl: r.u32()?, sections: r.u32()? };
    new.receive = Sections::load(r)?;
    new.rndis = if r.flag("network card")? { Rndis::Initialized } else { Rndis::Halted };
    new.filter = r.u32()?;
    new.multicast = Multicast::load(r)?;
    new.rss = Rss::load(r)?;
    new.offloads = Offloads::load(r)?;
    let c = &mut new.counts;
    for count in [
        &mut c.sent,
        &mut c.bytes_sent,
        &mut c.send_discards,
        &mut c.send_errors,
        &mut c.received,
        &mut c.bytes_received,
        &mut c.receive_discards,
        &mut c.no_buffer,
    ] {
        *count = r.u64()?;
    }
    (new.announce, new.hungry) = (r.flag("link")?, r.flag("network card")?);
    new.leaving = Leaving::load(r)?;
    let version = new.version == Version(0) || VERSIONS.contains(&new.version);
    let longest = new.longest == 0 || (SMALLEST_FRAME..=LARGEST_FRAME).contains(&new.longest);
    let sections = new.send.sections.checked_mul(SEND_SECTION_SIZE).is_some()
        && (new.receive.is_none() || new.receive.size() >= section_size(new.longest_received()));
    if !version || !longest || !sections {
        return Err(PART);
    }
    *card = new;
    Ok(())
}

fn numbers(card: &Network) -> [u64; 8] {
    let c = &card.counts;
    [
        c.sent,
        c.bytes_sent,
        c.send_discards,
        c.send_errors,
        c.received,
        c.bytes_received,
        c.receive_discards,
        c.no_buffer,
    ]
}
