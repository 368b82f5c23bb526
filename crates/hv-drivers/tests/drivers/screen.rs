//! The screen: against this project's device; against hosts that lie in `hostile`.

mod hostile;

use hv_devices::storage::Storage;
use hv_devices::video::{self, Picture};
use hv_drivers::hv_vmbus_client::hv_guest::page::Page;
use hv_drivers::hv_vmbus_client::{Open, Window};
use hv_drivers::synthvid::{self, Error, Screen, ScreenArea};
use hv_host::faults::Plan;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vmbus::video::{VERSION_3_2, VERSION_3_5, VRAM_BYTES};
use hv_tlfs::vp::VpIndex;

use crate::host::{TestClient, TestDma, WINDOW, Wire, World, number_of};

type TestScreen = Screen<'static, 'static, TestDma, Wire>;

/// Creates video memory at this address: pages that no host writes to.
#[expect(unsafe_code, reason = "vouches for memory that only the test accesses, by atomics")]
pub(crate) fn window(gpa: u64, bytes: u32) -> Window<'static> {
    let pages: Vec<Page> = (0..bytes / 4096).map(|_| Page::new()).collect();
    // SAFETY: no model of a host puts memory anywhere; the pages live as long as the process.
    unsafe { Window::new(Vec::leak(pages), gpa) }
}

fn open(world: &'static World, window: Window<'static>) -> (TestClient, TestScreen) {
    let mut client = world.client();
    let offer = client.find(guid::VIDEO).unwrap();
    assert_eq!(synthvid::needed(&offer), u64::from(VRAM_BYTES));
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 4, open, &TestDma(world), &mut world.os()).unwrap();
    (client, Screen::new(channel, window))
}

fn ready(world: &'static World) -> (TestClient, TestScreen, Window<'static>) {
    let memory = window(WINDOW, VRAM_BYTES);
    let (client, mut screen) = open(world, memory);
    screen.wait_ready(&mut || Ok(())).unwrap();
    (client, screen, memory)
}

/// Returns what the device shows, and what it was told has changed.
pub(crate) fn shown(world: &World) -> (Option<Picture>, [u32; 4]) {
    let slot = &world.bus.devices().video;
    let look = |device: &mut video::Video| (device.picture(), device.take_changed());
    let (picture, video::ScreenArea { left, top, right, bottom }) =
        world.bus.with(slot, &world.host, |device, _| look(device)).unwrap();
    (picture, [left, top, right, bottom])
}

fn pixel(memory: &Window<'_>, place: usize) -> u32 {
    let mut bytes = [0; 4];
    memory.read(place, &mut bytes);
    u32::from_le_bytes(bytes)
}

#[test]
fn a_picture_is_drawn_and_its_changes_are_told() {
    let world = World::new(Storage::new(), &[]);
    let (mut client, mut screen, memory) = ready(world);
    assert_eq!((screen.version(), screen.size(), screen.sizes().len()), (VERSION_3_5, (1024, 768), 8));
    assert_eq!(screen.sizes()[7], (1920, 1080));
    let picture = Picture { offset: 0, depth: 32, width: 1024, height: 768, pitch: 4096 };
    // The host has asked for changes, and all is new.
    screen.flush().unwrap();
    assert!(screen.is_watched());
    assert_eq!(shown(world), (Some(picture), [0, 0, 1024, 768]));
    screen.flush().unwrap();
    assert_eq!(shown(world).1, [0; 4]);

    screen.fill(ScreenArea::new(101, 50, 75, 3), 0x12_3456);
    screen.write(1022, 767, &[1, 2, 3]);
    screen.write(1024, 3, &[9]);
    screen.write(0, 768, &[9]);
    screen.fill(ScreenArea { left: 5, top: 5, right: 5, bottom: 9 }, 9);
    assert_eq!(shown(world).1, [0; 4], "not before it is flushed");
    screen.flush().unwrap();
    assert_eq!(shown(world).1, [101, 50, 1024, 768]);
    for (column, row, expected) in [
        (100, 50, 0),
        (101, 50, 0x12_3456),
        (175, 52, 0x12_3456),
        (176, 52, 0),
        (101, 53, 0),
        (1021, 767, 0),
        (1022, 767, 1),
        (1023, 767, 2),
        (0, 768, 0),
        (0, 4, 0),
    ] {
        assert_eq!(pixel(&memory, (row * 1024 + column) * 4), expected, "{column} {row}");
    }
    let mut back = [7; 4];
    screen.read(1021, 767, &mut back);
    assert_eq!(back, [0, 1, 2, 7]);

    assert_eq!(screen.ignored(), 0);
    client.close_channel(screen.into_channel(), &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
    assert_eq!(shown(world).0, Some(picture), "the picture stays");
}

#[test]
fn another_size_is_another_picture() {
    let world = World::new(Storage::new(), &[]);
    let (_, mut screen, memory) = ready(world);
    screen.flush().unwrap();
    for (width, height) in [(1920, 1080), (640, 480), (801, 600)] {
        screen.set_size(width, height).unwrap();
        assert_eq!(screen.size(), (width, height));
        screen.fill(ScreenArea::new(0, 0, u32::MAX, u32::MAX), width);
        screen.flush().unwrap();
        let picture = Picture { offset: 0, depth: 32, width, height, pitch: width * 4 };
        assert_eq!(shown(world), (Some(picture), [0, 0, width, height]));
        assert_eq!(pixel(&memory, (width * height * 4 - 4) as usize), width);
    }
    let size = screen.size();
    for (width, height) in [(0, 600), (800, 0), (1921, 100), (100, 1201), (1920, 1200), (u32::MAX, u32::MAX)]
    {
        assert_eq!(screen.set_size(width, height), Err(Error::Size(width, height)));
    }
    screen.flush().unwrap();
    assert_eq!((screen.size(), shown(world).1), (size, [0; 4]));
}

#[test]
fn an_older_host_names_no_sizes() {
    let number = |name: &str| (name == "video").then(|| number_of(&guid::VIDEO).into());
    let plan = |text: &str| Plan::parse(text, &|_, name| number(name)).unwrap();
    let world = World::with_faults(Storage::new(), &[], plan("newest=video:3.2"));
    let (_, mut screen, _) = ready(world);
    assert_eq!((screen.version(), screen.size(), screen.sizes().len()), (VERSION_3_2, (1024, 768), 0));
    screen.set_size(1600, 1200).unwrap();
    assert_eq!(screen.set_size(1680, 1050), Err(Error::Size(1680, 1050)));
    screen.flush().unwrap();
    assert_eq!(shown(world).1, [0, 0, 1600, 1200]);
    let world = World::with_faults(Storage::new(), &[], plan("newest=video:3.1"));
    let (_, mut screen) = open(world, window(WINDOW, VRAM_BYTES));
    assert_eq!(screen.wait_ready(&mut || Ok(())), Err(Error::NoVersion));
    assert_eq!(screen.flush(), Err(Error::NoVersion));
}

#[test]
fn memory_is_where_the_host_has_some() {
    let world = World::new(Storage::new(), &[]);
    let (mut client, mut screen) = open(world, window(WINDOW, VRAM_BYTES - 4096));
    let error = Error::Window { device: u64::from(VRAM_BYTES) };
    assert_eq!(screen.wait_ready(&mut || Ok(())), Err(error));
    assert_eq!(screen.set_size(640, 480), Err(Error::NotReady));
    client.close_channel(screen.into_channel(), &mut world.os()).unwrap();
    for gpa in [0, WINDOW - 4096, WINDOW + 4096] {
        let offer = client.find(guid::VIDEO).unwrap();
        let open = Open::on(VpIndex(0));
        let channel = client.open_channel(&offer, 4, open, &TestDma(world), &mut world.os()).unwrap();
        let memory = window(gpa, VRAM_BYTES);
        let mut screen = Screen::new(channel, memory);
        assert_eq!(screen.wait_ready(&mut || Ok(())), Err(Error::Refused(gpa)));
        // Nothing is drawn where there is no memory.
        screen.fill(ScreenArea::new(0, 0, 10, 10), 1);
        assert_eq!((pixel(&memory, 0), screen.size()), (0, (0, 0)));
        client.close_channel(screen.into_channel(), &mut world.os()).unwrap();
    }
    assert_eq!(world.host.ram.live(), 0);
}

#[cfg(feature = "embedded-graphics")]
mod drawn {
    use embedded_graphics::geometry::{Dimensions as _, Point, Size};
    use embedded_graphics::mono_font::MonoTextStyle;
    use embedded_graphics::mono_font::ascii::FONT_6X10;
    use embedded_graphics::pixelcolor::{Rgb888, RgbColor as _};
    use embedded_graphics::prelude::{DrawTarget, Drawable as _, OriginDimensions, Pixel, Primitive as _};
    use embedded_graphics::primitives::{Circle, PrimitiveStyle, Rectangle};
    use embedded_graphics::text::Text;

    use super::*;

    /// What a target of its own makes of the same drawings, pixel by pixel.
    struct Plain(Vec<u32>);

    impl OriginDimensions for Plain {
        fn size(&self) -> Size {
            Size::new(640, 480)
        }
    }

    impl DrawTarget for Plain {
        type Color = Rgb888;
        type Error = core::convert::Infallible;

        fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
            let on_screen = self.bounding_box();
            for Pixel(point, colour) in pixels.into_iter().filter(|pixel| on_screen.contains(pixel.0)) {
                let [r, g, b] = [colour.r(), colour.g(), colour.b()].map(u32::from);
                self.0[point.y as usize * 640 + point.x as usize] = r << 16 | g << 8 | b;
            }
            Ok(())
        }
    }

    fn draw<T: DrawTarget<Color = Rgb888>>(target: &mut T)
    where
        T::Error: core::fmt::Debug,
    {
        target.clear(Rgb888::new(1, 2, 3)).unwrap();
        let red = PrimitiveStyle::with_fill(Rgb888::RED);
        for (x, y, size) in [(-30, -40, 90), (600, 470, 200), (300, 200, 51), (-100, 30, 50)] {
            Rectangle::new(Point::new(x, y), Size::new(size, size)).into_styled(red).draw(target).unwrap();
            Circle::new(Point::new(x + 20, y + 9), size)
                .into_styled(PrimitiveStyle::with_stroke(Rgb888::YELLOW, 3))
                .draw(target)
                .unwrap();
        }
        let style = MonoTextStyle::new(&FONT_6X10, Rgb888::CYAN);
        Text::new("hv-arm64", Point::new(615, 100), style).draw(target).unwrap();
        let area = Rectangle::new(Point::new(-3, 470), Size::new(9, 20));
        target.fill_contiguous(&area, (0..180).map(|n| Rgb888::new(n, 0, n))).unwrap();
        target
            .fill_solid(&Rectangle::new(Point::new(i32::MAX, 0), Size::new(u32::MAX, 9)), Rgb888::RED)
            .unwrap();
    }

    #[test]
    fn drawings_are_what_any_target_makes_of_them() {
        let world = World::new(Storage::new(), &[]);
        let (_, mut screen, memory) = ready(world);
        screen.set_size(640, 480).unwrap();
        screen.flush().unwrap();
        assert_eq!(OriginDimensions::size(&screen), Size::new(640, 480));
        let _ = shown(world);
        draw(&mut screen);
        screen.flush().unwrap();
        assert_eq!(shown(world).1, [0, 0, 640, 480]);
        let mut plain = Plain(vec![0; 640 * 480]);
        draw(&mut plain);
        for (place, expected) in plain.0.iter().enumerate() {
            assert_eq!(pixel(&memory, place * 4), *expected, "{} {}", place % 640, place / 640);
        }
        assert_eq!(pixel(&memory, 640 * 480 * 4), 0, "behind the picture");
        // Some pixels are one change.
        let dots = (0..100).map(|n| Pixel(Point::new(20 + n, 30 - n % 7), Rgb888::WHITE));
        screen.draw_iter(dots).unwrap();
        screen.flush().unwrap();
        assert_eq!(shown(world).1, [20, 24, 120, 31]);
    }
}
