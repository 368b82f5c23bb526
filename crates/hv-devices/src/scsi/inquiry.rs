//! INQUIRY: standard data and pages of vital product data.
//!
//! Sources: SPC-4, "Standard INQUIRY data", "Vital product data parameters"; SBC-3, "Block Limits VPD page", "Block
//! Device Characteristics VPD page", "Logical Block Provisioning VPD page".

use super::Data;
use super::disk::Disk;
use super::parameters::MAX_EXTENTS;
use super::sense::Sense;

/// Vendor, product and revision of a Hyper-V virtual disk. Linux uses the first four bytes as the vendor.
const VENDOR: &[u8; 8] = b"Msft    ";
const PRODUCT: &[u8; 16] = b"Virtual Disk    ";
const DVD_PRODUCT: &[u8; 16] = b"Virtual DVD-ROM ";
const REVISION: &[u8; 4] = b"1.0 ";

/// Version of the standard: SPC-3, as in Hyper-V's disks.
const SPC_3: u8 = 5;
/// Peripheral qualifier and type of a logical unit that does not exist, but could.
const ABSENT: u8 = 0x7f;
/// Peripheral type of a drive of optical media, and the bit of those whose medium can be taken out.
const OPTICAL: u8 = 5;
const REMOVABLE: u8 = 1 << 7;
/// Bytes of the standard data.
const STANDARD_LEN: usize = 36;

const SUPPORTED: u8 = 0x00;
const SERIAL: u8 = 0x80;
const IDENTIFICATION: u8 = 0x83;
const LIMITS: u8 = 0xb0;
const CHARACTERISTICS: u8 = 0xb1;
const PROVISIONING: u8 = 0xb2;
/// Supported pages, in ascending order.
const PAGES: [u8; 6] = [SUPPORTED, SERIAL, IDENTIFICATION, LIMITS, CHARACTERISTICS, PROVISIONING];

/// Returns the standard data of a disk.
pub(crate) fn standard(disk: &Disk) -> Data {
    if disk.drive().is_some() { describe(OPTICAL, REMOVABLE, DVD_PRODUCT) } else { describe(0, 0, PRODUCT) }
}

/// Returns the standard data of a logical unit that does not exist.
#[must_use]
pub(crate) fn absent() -> Data {
    describe(ABSENT, 0, PRODUCT)
}

fn describe(peripheral: u8, removable: u8, product: &[u8; 16]) -> Data {
    const RESPONSE_FORMAT: u8 = 2;
    /// It supports command queuing.
    const CMDQUE: u8 = 1 << 1;
    let mut data = Data::new();
    data.push(&[peripheral, removable, SPC_3, RESPONSE_FORMAT, (STANDARD_LEN - 5) as u8, 0, 0, CMDQUE]);
    data.push(VENDOR);
    data.push(product);
    data.push(REVISION);
    data
}

/// Returns a page of vital product data.
///
/// # Errors
/// [`Sense::INVALID_FIELD`]: there is no such page.
pub(crate) fn page(disk: &Disk, code: u8) -> Result<Data, Sense> {
    let optical = disk.drive().is_some();
    // The last three are of disks alone.
    let pages = if optical { &PAGES[..3] } else { &PAGES };
    if !pages.contains(&code) {
        return Err(Sense::INVALID_FIELD);
    }
    let mut data = Data::new();
    data.push(&[if optical { OPTICAL } else { 0 }, code, 0, 0]);
    match code {
        SUPPORTED => data.push(pages),
        SERIAL => data.push(&hex(&disk.id())),
        IDENTIFICATION => identification(disk, &mut data),
        LIMITS => limits(disk, &mut data),
        CHARACTERISTICS => {
            // Medium rotation rate: not rotating.
            data.push(&[0, 1]);
            data.pad(64);
        }
        PROVISIONING => {
            const LBPU: u8 = 1 << 7;
            const LBPWS: u8 = 1 << 6;
            const LBPWS10: u8 = 1 << 5;
            /// Unmapped blocks read as zeros.
            const LBPRZ: u8 = 1 << 2;
            const THIN: u8 = 2;
            let (bits, kind) = if disk.unmaps() { (LBPU | LBPWS | LBPWS10 | LBPRZ, THIN) } else { (0, 0) };
            data.push(&[0, bits, kind, 0]);
        }
        _ => return Err(Sense::INVALID_FIELD),
    }
    let len = (data.bytes().len() - 4) as u16;
    data.set(2, &len.to_be_bytes());
    Ok(data)
}

/// Writes designators: a name by vendor, and a unique number.
fn identification(disk: &Disk, data: &mut Data) {
    const ASCII: u8 = 2;
    const BINARY: u8 = 1;
    const T10_VENDOR: u8 = 1;
    const NAA: u8 = 3;
    let id = disk.id();
    data.push(&[ASCII, T10_VENDOR, 0, (VENDOR.len() + 2 * id.len()) as u8]);
    data.push(VENDOR);
    data.push(&hex(&id));
    // NAA 6, registered extended, with the company id that Microsoft's disks have (OpenVMM, scsidisk).
    let mut naa = [0x60, 0x02, 0x24, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    naa[4..].copy_from_slice(&id[..12]);
    data.push(&[BINARY, NAA, 0, naa.len() as u8]);
    data.push(&naa);
}

fn limits(disk: &Disk, data: &mut Data) {
    // As long as a physical block: Linux complains about less.
    let granularity = (4096 / disk.block_size()) as u16;
    let transfer = disk.max_transfer_blocks();
    let unmap = if disk.unmaps() { disk.max_clear_blocks() } else { 0 };
    let extents = if disk.unmaps() { MAX_EXTENTS as u32 } else { 0 };
    // No limit on WSNZ; no COMPARE AND WRITE.
    data.push(&[0, 0]);
    data.push(&granularity.to_be_bytes());
    data.push(&transfer.to_be_bytes());
    data.push(&transfer.to_be_bytes());
    data.push(&0u32.to_be_bytes());
    data.push(&unmap.to_be_bytes());
    data.push(&extents.to_be_bytes());
    // Unmap granularity of a page, and no alignment of its own.
    data.push(&(4096 / disk.block_size()).to_be_bytes());
    data.push(&0u32.to_be_bytes());
    data.push(&u64::from(disk.max_clear_blocks()).to_be_bytes());
    data.pad(64);
}

/// Returns the bytes in hexadecimal.
fn hex(bytes: &[u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
