//! What the host says of the screen: its resolutions, and its description.

use hv_tlfs::vmbus::video::{EDID_BYTES, MAX_RESOLUTIONS, Resolution};
use zerocopy::little_endian::U16;

const fn resolution(width: u16, height: u16) -> Resolution {
    Resolution { width: U16::new(width), height: U16::new(height) }
}

/// The resolutions that a guest may choose from. It begins with the first.
pub(super) const RESOLUTIONS: [Resolution; 8] = [
    resolution(1024, 768),
    resolution(640, 480),
    resolution(800, 600),
    resolution(1280, 720),
    resolution(1280, 1024),
    resolution(1600, 900),
    resolution(1600, 1200),
    resolution(1920, 1080),
];
const _: () = assert!(RESOLUTIONS.len() <= MAX_RESOLUTIONS);

/// The screen's description (VESA E-EDID 1.4): maker and name of Hyper-V's, the timing of the first resolution.
pub(super) const EDID: [u8; EDID_BYTES] = {
    const PARTS: [(usize, &[u8]); 6] = [
        (0, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]),
        // "MSH", product, week and year of the model, version, digital, no size, gamma 2.2, RGB alone.
        (8, &[0x36, 0x68, 0x2e, 0x06, 0, 0, 0, 0, 0xff, 0x15, 1, 4, 0x80, 0, 0, 0x78, 0x22]),
        // sRGB.
        (25, &[0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]),
        // No standard timings.
        (38, &[1; 16]),
        // 1024x768 at 60 Hz: 65 MHz, blanking of 320 columns and 38 rows.
        (54, &[0x64, 0x19, 0, 0x40, 0x41, 0, 0x26, 0x30, 0x18, 0x88, 0x36, 0, 0, 0, 0, 0, 0, 0x18]),
        (72, b"\0\0\0\xfc\0HyperVMonitor\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10"),
    ];
    let (mut edid, mut part, mut sum) = ([0; EDID_BYTES], 0, 0_u8);
    while part < PARTS.len() {
        let (at, bytes) = PARTS[part];
        let mut n = 0;
        while n < bytes.len() {
            edid[at + n] = bytes[n];
            sum = sum.wrapping_add(bytes[n]);
            n += 1;
        }
        part += 1;
    }
    edid[EDID_BYTES - 1] = 0_u8.wrapping_sub(sum);
    edid
};
