//! The screen, with the keyboard before it.

use bus::{Os, Pool};
use embedded_graphics::mono_font::{MonoTextStyle, ascii::FONT_10X20};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor as _};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::Text;
use hv_drivers::ic::Shutdown;
use hv_drivers::keyboard::Keyboard;
use hv_drivers::synthvid::{self, Screen, ScreenArea};
use hv_guest::arch::Either;
use hv_tlfs::vmbus::{Guid, guid};

type Client = hv_drivers::hv_vmbus_client::Client<'static, Either>;
type Channel = hv_drivers::hv_vmbus_client::Channel<'static, Pool, Either>;

/// Pages of each ring.
const RING: usize = 16;
/// Columns and rows of the squares, and the first row of those that keys draw.
const SQUARE: u32 = 32;
const KEYS_ROW: u32 = 200;

/// Draws, and continues with each key, until the host asks for the end.
pub(crate) fn run(hardware: &rt::Hardware, client: &mut Client, os: &Os<'_, '_>) {
    let offer = client.find(guid::VIDEO).expect("there is a screen");
    let window = bus::window(hardware, synthvid::needed(&offer)).expect("the window has room for its memory");
    let mut screen = Screen::new(open(client, os, guid::VIDEO), window);
    let mut keyboard = Keyboard::new(open(client, os, guid::KEYBOARD));
    let mut shutdown = Shutdown::new(open(client, os, guid::SHUTDOWN));
    screen.wait_ready(&mut os.waiter()).expect("the screen is initialized");
    let (width, height) = screen.size();
    rt::println!(
        "drivers: screen {:#x}, {width} by {height}, {} sizes",
        screen.version(),
        screen.sizes().len()
    );
    draw(&mut screen).unwrap_or_else(|never| match never {});
    screen.flush().expect("the host takes the changes");
    let (mut drawn, mut keys) = (false, 0);
    let stop = loop {
        screen.poll().expect("the screen works");
        while let Some(key) = keyboard.poll().expect("the keyboard works") {
            if !key.released {
                screen.fill(ScreenArea::new(keys * 2 * SQUARE, KEYS_ROW, SQUARE, SQUARE), 0xff_ff00);
                keys += 1;
            }
        }
        screen.flush().expect("the host takes the changes");
        if !drawn && keyboard.is_ready() && screen.is_watched() {
            drawn = true;
            rt::println!("drivers: drawn");
        }
        if let Some(order) = shutdown.poll(|_| true).expect("the service works") {
            break order.stop;
        }
        os.wait().expect("there is no limit");
    };
    rt::println!("drivers: {stop:?} after {keys} keys");
    for channel in [screen.into_channel(), keyboard.into_channel(), shutdown.into_service().into_channel()] {
        client.close_channel(channel, &mut &*os).expect("the host gives the rings back");
    }
}

fn open(client: &mut Client, os: &Os<'_, '_>, device: Guid) -> Channel {
    let offer = client.find(device).expect("the device is offered");
    os.open(client, &offer, RING).expect("the channel opens")
}

// ANCHOR: draw
/// Draws a ground, a square of each of three colours, and a line of text.
fn draw<T: DrawTarget<Color = Rgb888>>(target: &mut T) -> Result<(), T::Error> {
    target.clear(Rgb888::new(0x10, 0x20, 0x30))?;
    for (n, colour) in [Rgb888::RED, Rgb888::GREEN, Rgb888::BLUE].into_iter().enumerate() {
        let corner = Point::new((n as u32 * 2 * SQUARE) as i32, 100);
        let square = Rectangle::new(corner, Size::new(SQUARE, SQUARE));
        square.into_styled(PrimitiveStyle::with_fill(colour)).draw(target)?;
    }
    let style = MonoTextStyle::new(&FONT_10X20, Rgb888::WHITE);
    Text::new("HHH", Point::new(300, 60), style).draw(target).map(|_| ())
}
// ANCHOR_END: draw
