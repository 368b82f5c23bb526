//! MODE SENSE.
//!
//! Sources: SPC-4, "Mode parameters"; SBC-3, "Caching mode page".

use super::Data;
use super::disk::Disk;
use super::sense::Sense;

/// The parameters of a MODE SENSE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) long: bool,
    pub(crate) no_descriptor: bool,
    pub(crate) control: u8,
    pub(crate) page: u8,
    pub(crate) subpage: u8,
}

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const CAPABILITIES: u8 = 0x2a;
const ALL: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;

const CHANGEABLE: u8 = 1;
const SAVED: u8 = 3;

/// Returns the header, a block descriptor, and the pages.
///
/// # Errors
/// [`Sense::NO_SAVED_PAGES`], [`Sense::INVALID_FIELD`] for an unsupported page.
pub(crate) fn sense(disk: &Disk, wanted: Wanted) -> Result<Data, Sense> {
    if wanted.control == SAVED {
        return Err(Sense::NO_SAVED_PAGES);
    }
    let all = wanted.page == ALL;
    let pages = if disk.drive().is_some() {
        [(CONTROL, control()), (CAPABILITIES, capabilities())]
    } else {
        [(CACHING, caching(disk)), (CONTROL, control())]
    };
    if !(all || pages.iter().any(|(code, _)| *code == wanted.page))
        || !(wanted.subpage == 0 || wanted.subpage == ALL_SUBPAGES && all)
    {
        return Err(Sense::INVALID_FIELD);
    }
    let mut data = Data::new();
    header(disk, wanted, &mut data);
    for (code, page) in pages {
        if all || wanted.page == code {
            // Nothing can be changed, so the masks are zero.
            let page = if wanted.control == CHANGEABLE { mask(page) } else { page };
            data.push(&page[..usize::from(page[1]) + 2]);
        }
    }
    // The length counts the bytes after it.
    let len = data.bytes().len();
    if wanted.long {
        data.set(0, &((len - 2) as u16).to_be_bytes());
    } else {
        data.set(0, &[(len - 1) as u8]);
    }
    Ok(data)
}

fn header(disk: &Disk, wanted: Wanted, data: &mut Data) {
    const WRITE_PROTECTED: u8 = 1 << 7;
    const DPOFUA: u8 = 1 << 4;
    let flags = match (disk.drive(), disk.is_read_only()) {
        // These bits are of disks alone.
        (Some(_), _) => 0,
        (None, true) => DPOFUA | WRITE_PROTECTED,
        (None, false) => DPOFUA,
    };
    let descriptor: u8 = if wanted.no_descriptor { 0 } else { 8 };
    if wanted.long {
        data.push(&[0, 0, 0, flags, 0, 0, 0, descriptor]);
    } else {
        data.push(&[0, 0, flags, descriptor]);
    }
    if !wanted.no_descriptor {
        let blocks = u32::try_from(disk.blocks()).unwrap_or(u32::MAX);
        data.push(&blocks.to_be_bytes());
        data.push(&disk.block_size().to_be_bytes());
    }
}

type Page = [u8; 20];

/// Returns the caching page: the cache is write-back, so initiators must flush.
fn caching(disk: &Disk) -> Page {
    const WCE: u8 = 1 << 2;
    let mut page = [0; 20];
    page[0] = CACHING;
    page[1] = 18;
    page[2] = if disk.is_read_only() { 0 } else { WCE };
    page
}

fn control() -> Page {
    let mut page = [0; 20];
    page[0] = CONTROL;
    page[1] = 10;
    page
}

/// Returns the page of CD/DVD capabilities and mechanical status: reads DVDs and CDs, with a tray that can be locked
/// and ejected.
///
/// Source: MMC-3, "CD/DVD Capabilities and Mechanical Status Mode Page".
fn capabilities() -> Page {
    const READS_CD_R: u8 = 1 << 0;
    const READS_DVD_ROM: u8 = 1 << 3;
    const LOCK: u8 = 1 << 0;
    const EJECT: u8 = 1 << 3;
    const TRAY: u8 = 1 << 5;
    /// In units of 1000 bytes a second: 8 times the speed of a DVD.
    const SPEED: u16 = 11_080;
    let mut page = [0; 20];
    page[0] = CAPABILITIES;
    page[1] = 18;
    page[2] = READS_CD_R | READS_DVD_ROM;
    page[6] = LOCK | EJECT | TRAY;
    page[8..10].copy_from_slice(&SPEED.to_be_bytes());
    page[14..16].copy_from_slice(&SPEED.to_be_bytes());
    page
}

fn mask(page: Page) -> Page {
    let mut mask = [0; 20];
    mask[..2].copy_from_slice(&page[..2]);
    mask
}
