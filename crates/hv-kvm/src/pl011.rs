//! The console: a PL011 UART.
//!
//! Source: PrimeCell UART (PL011) Technical Reference Manual (DDI 0183), "Register descriptions". Output leaves at
//! once, so the transmit FIFO is always empty. There is no modem, no DMA and no loopback.

use std::collections::VecDeque;

use hv_memory::save::{Reader, RestoreError, Writer};

/// Input that the guest has not read: the FIFO, and what waits after it.
const INPUT_BYTES: usize = 4096;
/// Bytes of the receive FIFO.
const FIFO: usize = 16;

/// Flags of UARTFR.
mod flag {
    pub(super) const RXFE: u32 = 1 << 4;
    pub(super) const RXFF: u32 = 1 << 6;
    pub(super) const TXFE: u32 = 1 << 7;
}

/// Interrupts of UARTRIS.
mod interrupt {
    pub(super) const RX: u32 = 1 << 4;
    pub(super) const TX: u32 = 1 << 5;
    pub(super) const RX_TIMEOUT: u32 = 1 << 6;
    pub(super) const ALL: u32 = 0x7ff;
}

/// FEN of UARTLCR_H: the FIFOs are on.
const FEN: u32 = 1 << 4;
/// UARTPeriphID0 to 3 and UARTPCellID0 to 3.
const IDENTIFICATION: [u8; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// A PL011.
#[derive(Clone, Debug)]
pub(crate) struct Pl011 {
    input: VecDeque<u8>,
    ilpr: u32,
    ibrd: u32,
    fbrd: u32,
    lcr_h: u32,
    cr: u32,
    ifls: u32,
    imsc: u32,
    ris: u32,
    dmacr: u32,
}

impl Pl011 {
    /// Creates one as it is after a reset.
    pub(crate) fn new() -> Self {
        Self {
            input: VecDeque::new(),
            ilpr: 0,
            ibrd: 0,
            fbrd: 0,
            lcr_h: 0,
            cr: 0x300,
            ifls: 0x12,
            imsc: 0,
            ris: 0,
            dmacr: 0,
        }
    }

    /// Writes its state.
    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        w.count(self.input.len());
        let (first, second) = self.input.as_slices();
        w.bytes(first);
        w.bytes(second);
        let Self { input: _, ilpr, ibrd, fbrd, lcr_h, cr, ifls, imsc, ris, dmacr } = self;
        for register in [ilpr, ibrd, fbrd, lcr_h, cr, ifls, imsc, ris, dmacr] {
            w.u32(*register);
        }
    }

    /// Creates one with a saved state. Bits that no register has are dropped.
    ///
    /// # Errors
    /// The state ends too early, or has more input than there is room for.
    pub(crate) fn restore(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let count = r.count()?;
        if count > INPUT_BYTES {
            return Err(RestoreError::NoRoom);
        }
        let mut uart = Self { input: r.bytes(count)?.iter().copied().collect(), ..Self::new() };
        for offset in [0x020, 0x024, 0x028, 0x02c, 0x030, 0x034, 0x038] {
            uart.write(offset, r.u32()?);
        }
        uart.ris = r.u32()? & interrupt::ALL;
        uart.write(0x048, r.u32()?);
        Ok(uart)
    }

    /// Returns true while it requests its interrupt.
    pub(crate) const fn interrupt(&self) -> bool {
        self.ris & self.imsc != 0
    }

    /// Reads the register at an offset. One that does not exist reads as zero.
    pub(crate) fn read(&mut self, offset: u64) -> u32 {
        match offset {
            0x000 => self.receive(),
            0x018 => self.flags(),
            0x020 => self.ilpr,
            0x024 => self.ibrd,
            0x028 => self.fbrd,
            0x02c => self.lcr_h,
            0x030 => self.cr,
            0x034 => self.ifls,
            0x038 => self.imsc,
            0x03c => self.ris,
            0x040 => self.ris & self.imsc,
            0x048 => self.dmacr,
            0xfe0..=0xffc if offset.is_multiple_of(4) => {
                u32::from(IDENTIFICATION[((offset - 0xfe0) / 4) as usize])
            }
            // Among them UARTRSR: no byte is received with an error.
            _ => 0,
        }
    }

    /// Writes the register at an offset. Returns the byte that it sends, if it does.
    pub(crate) fn write(&mut self, offset: u64, value: u32) -> Option<u8> {
        match offset {
            0x000 => {
                // Sent, so there is room again.
                self.ris |= interrupt::TX;
                return Some(value as u8);
            }
            0x020 => self.ilpr = value & 0xff,
            0x024 => self.ibrd = value & 0xffff,
            0x028 => self.fbrd = value & 0x3f,
            0x02c => {
                self.lcr_h = value & 0xff;
                self.update_input();
            }
            0x030 => self.cr = value & 0xff87,
            0x034 => {
                self.ifls = value & 0x3f;
                self.update_input();
            }
            0x038 => self.imsc = value & interrupt::ALL,
            0x044 => self.ris &= !value,
            0x048 => self.dmacr = value & 7,
            _ => {}
        }
        None
    }

    /// Receives bytes. Returns how many there was room for.
    pub(crate) fn input(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(INPUT_BYTES - self.input.len());
        self.input.extend(&bytes[..taken]);
        self.update_input();
        taken
    }

    /// Returns the number of received bytes that have not been read.
    pub(crate) fn unread(&self) -> usize {
        self.input.len()
    }

    fn flags(&self) -> u32 {
        let full = if self.input.len() >= self.capacity() { flag::RXFF } else { 0 };
        let empty = if self.input.is_empty() { flag::RXFE } else { 0 };
        flag::TXFE | full | empty
    }

    fn receive(&mut self) -> u32 {
        let byte = self.input.pop_front().map_or(0, u32::from);
        self.update_input();
        byte
    }

    /// Returns the bytes that the receive FIFO has room for.
    const fn capacity(&self) -> usize {
        if self.lcr_h & FEN != 0 { FIFO } else { 1 }
    }

    /// Returns the number of bytes from which on the receive interrupt is requested.
    const fn trigger(&self) -> usize {
        if self.lcr_h & FEN == 0 {
            return 1;
        }
        match self.ifls >> 3 & 7 {
            0 => FIFO / 8,
            1 => FIFO / 4,
            2 => FIFO / 2,
            3 => FIFO / 4 * 3,
            _ => FIFO / 8 * 7,
        }
    }

    /// Requests the receive interrupts, or no longer. No more comes soon, so the timeout has passed at once.
    fn update_input(&mut self) {
        self.ris &= !(interrupt::RX | interrupt::RX_TIMEOUT);
        if self.input.len() >= self.trigger() {
            self.ris |= interrupt::RX;
        }
        if !self.input.is_empty() {
            self.ris |= interrupt::RX_TIMEOUT;
        }
    }
}

#[cfg(test)]
mod tests {
    use hv_memory::save::{Reader, RestoreError, Writer};

    use super::{FEN, INPUT_BYTES, Pl011};

    const DR: u64 = 0x000;
    const FR: u64 = 0x018;
    const LCR_H: u64 = 0x02c;
    const IMSC: u64 = 0x038;
    const RIS: u64 = 0x03c;
    const MIS: u64 = 0x040;
    const ICR: u64 = 0x044;

    #[test]
    fn a_driver_finds_it_by_its_identification() {
        let mut uart = Pl011::new();
        let id: Vec<u32> = (0..8).map(|n| uart.read(0xfe0 + n * 4)).collect();
        assert_eq!(id, [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
        assert_eq!(uart.read(0xfe1), 0);
        assert_eq!(uart.read(FR), 0x90);
    }

    #[test]
    fn a_byte_is_sent_and_asks_for_the_next() {
        let mut uart = Pl011::new();
        assert_eq!(uart.write(DR, 0x141), Some(0x41));
        assert!(!uart.interrupt());
        uart.write(IMSC, 1 << 5);
        assert!(uart.interrupt());
        uart.write(ICR, 1 << 5);
        assert!(!uart.interrupt());
    }

    #[test]
    fn input_interrupts_until_it_is_read() {
        let mut uart = Pl011::new();
        uart.write(LCR_H, FEN);
        uart.write(IMSC, 1 << 4 | 1 << 6);
        assert_eq!(uart.input(b"ab"), 2);
        // Below the trigger level: the timeout alone.
        assert_eq!((uart.read(RIS), uart.read(MIS)), (1 << 6, 1 << 6));
        assert_eq!(uart.input(b"cdefghij"), 8);
        assert_eq!(uart.read(RIS), 1 << 4 | 1 << 6);
        let read: Vec<u8> = (0..10).map(|_| uart.read(DR) as u8).collect();
        assert_eq!(read, b"abcdefghij");
        assert!(!uart.interrupt());
        assert_eq!((uart.read(FR), uart.read(DR)), (0x90, 0));
    }

    #[test]
    fn without_fifos_one_byte_is_full_and_interrupts() {
        let mut uart = Pl011::new();
        uart.input(b"x");
        assert_eq!((uart.read(FR), uart.read(RIS)), (0xc0, 1 << 4 | 1 << 6));
    }

    #[test]
    fn a_saved_state_is_the_same_again_and_no_other_is_taken() {
        let mut uart = Pl011::new();
        for (offset, value) in [
            (0x020, 1),
            (0x024, 2),
            (0x028, 3),
            (LCR_H, FEN),
            (0x030, 0x301),
            (IMSC, 0x50),
            (0x048, 4),
            (DR, 5),
        ] {
            uart.write(offset, value);
        }
        assert_eq!(uart.input(b"abc"), 3);
        uart.read(DR);
        let image = |uart: &Pl011| {
            let mut bytes = Vec::new();
            uart.save(&mut Writer::new(&mut |part| bytes.extend_from_slice(part)));
            bytes
        };
        let saved = image(&uart);
        let mut restored = Pl011::restore(&mut Reader::new(&saved)).unwrap();
        assert_eq!(image(&restored), saved);
        assert_eq!((restored.interrupt(), restored.read(DR), restored.read(DR)), (true, 0x62, 0x63));
        assert!((0..saved.len()).all(|len| Pl011::restore(&mut Reader::new(&saved[..len])).is_err()));
        // An interrupt that the guest has cleared stays so, although bytes are left.
        uart.write(0x044, 0x7ff);
        let cleared = image(&uart);
        let restored = Pl011::restore(&mut Reader::new(&cleared)).unwrap();
        assert_eq!((image(&restored), restored.interrupt()), (cleared, false));
        let much = [&4097_u32.to_le_bytes()[..], &[0; 5000]].concat();
        assert_eq!(Pl011::restore(&mut Reader::new(&much)).err(), Some(RestoreError::NoRoom));
        // Bits that no register has.
        let hostile = [&[0; 4][..], &[0xff; 36]].concat();
        let mut restored = Pl011::restore(&mut Reader::new(&hostile)).unwrap();
        assert_eq!((restored.read(IMSC), restored.read(LCR_H), restored.read(RIS)), (0x7ff, 0xff, 0x7ff));
    }

    #[test]
    fn input_that_is_not_read_is_bounded() {
        let mut uart = Pl011::new();
        assert_eq!(uart.input(&[1; INPUT_BYTES + 1]), INPUT_BYTES);
        assert_eq!((uart.input(&[1]), uart.unread()), (0, INPUT_BYTES));
        uart.read(DR);
        assert_eq!(uart.input(&[1, 2]), 1);
    }
}
