//! GPADLs: the memory that a guest lends to the host.

use hv_tlfs::vmbus::{
    ChannelId, GpadlCreated, GpadlId, GpadlTorndown, MessageHeader, MessageType, OfferChannel,
};

use crate::cx::{Bus, Cx};
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "vmbus_gpadls";
    "Linux 6.12, drivers/hv/channel.c", "__vmbus_establish_gpadl":
        a_gpadl_is_created,
        the_answer_names_the_gpadl_and_the_channel,
        a_gpadl_that_fills_the_header_needs_no_body,
        a_gpadl_of_27_pages_needs_a_body,
        a_gpadl_may_have_several_bodies,
        nothing_is_answered_before_the_last_body,
        a_gpadl_has_any_number_for_a_name,
        several_gpadls_exist_at_a_time,
        the_gpadls_of_two_channels_are_apart;
    "Linux 6.12, drivers/hv/channel.c", "vmbus_teardown_gpadl":
        a_teardown_is_answered,
        a_teardown_leaves_the_other_gpadls,
        a_name_is_free_after_the_teardown;
    "OpenVMM, vmbus_server", "channels.rs: handle_gpadl_header":
        a_gpadl_may_have_two_ranges,
        a_range_may_begin_within_a_page,
        a_range_may_end_within_a_page,
        a_message_may_be_longer_than_its_page_numbers,
        a_name_in_use_is_refused,
        an_unknown_channel_has_no_gpadls;
    "OpenVMM, vmbus_ring", "gparange.rs: validate_gpa_ranges":
        a_gpadl_without_ranges_is_refused,
        a_gpadl_without_words_is_refused,
        a_range_without_bytes_is_refused,
        a_range_that_begins_beyond_its_first_page_is_refused,
        a_range_with_too_few_pages_is_refused,
        a_second_range_that_is_missing_is_refused;
    "OpenVMM, vmbus_server", "channels.rs: handle_gpadl_body":
        a_body_without_a_header_is_ignored,
        a_body_after_the_last_one_is_ignored;
    "OpenVMM, vmbus_server", "channels.rs: handle_gpadl_teardown":
        a_gpadl_is_torn_down_on_its_own_channel_alone;
}

const NAME: GpadlId = GpadlId(0xe1e10);
const PAGE: u64 = 4096;

/// Runs something with the first channel that is offered.
fn on_channel(cx: &Cx<'_>, work: impl FnOnce(&Bus<'_, '_>, ChannelId) -> Outcome) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        work(bus, offer.channel)
    })
}

/// Returns the words of one range of whole pages.
fn whole<const WORDS: usize>(cx: &Cx<'_>) -> Result<[u64; WORDS], Stop> {
    let mut words = [(WORDS as u64 - 1) * PAGE; WORDS];
    for word in &mut words[1..] {
        *word = cx.page()? / PAGE;
    }
    Ok(words)
}

/// Creates a GPADL and takes it back.
fn come_and_go(bus: &Bus<'_, '_>, channel: ChannelId, ranges: u16, words: &[u64]) -> Outcome {
    check_eq!(bus.create(channel, NAME, ranges, words)?.0, 0);
    bus.teardown(channel, NAME)
}

/// Checks that a GPADL is not created: the host says so, or says nothing of it.
fn not_created(bus: &Bus<'_, '_>, channel: ChannelId, ranges: u16, words: &[u64]) -> Outcome {
    bus.gpadl_header(channel, NAME, [size_of_val(words) as u16, ranges], words)?;
    still_works(bus, channel)
}

/// Creates another GPADL. Fails if the host says before that the one of this name was created.
fn still_works(bus: &Bus<'_, '_>, channel: ChannelId) -> Outcome {
    const OTHER: GpadlId = GpadlId(0x777);
    let words: [u64; 2] = whole(bus.cx)?;
    bus.gpadl_header(channel, OTHER, [16, 1], &words)?;
    for _ in 0..3 {
        let answer: GpadlCreated = bus.expect(MessageType::GPADL_CREATED)?;
        if answer.gpadl == OTHER {
            check_eq!(answer.status.0, 0);
            return bus.teardown(channel, OTHER);
        }
        check!(answer.status.0 != 0);
    }
    Err(fail("another GPADL is created"))
}

fn a_gpadl_is_created(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        check_eq!(bus.create(channel, NAME, 1, &whole::<2>(cx)?)?.0, 0);
        Ok(())
    })
}

fn the_answer_names_the_gpadl_and_the_channel(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        bus.gpadl_header(channel, NAME, [16, 1], &whole::<2>(cx)?)?;
        let answer: GpadlCreated = bus.expect(MessageType::GPADL_CREATED)?;
        check_eq!(answer.gpadl.0, NAME.0);
        check_eq!(answer.channel.0, channel.0);
        Ok(())
    })
}

fn a_gpadl_that_fills_the_header_needs_no_body(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 27] = whole(cx)?;
        let rest = bus.gpadl_header(channel, NAME, [size_of_val(&words) as u16, 1], &words)?;
        check_eq!(rest.len(), 0);
        check_eq!(bus.created(channel, NAME)?.0, 0);
        bus.teardown(channel, NAME)
    })
}

fn a_gpadl_of_27_pages_needs_a_body(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| come_and_go(bus, channel, 1, &whole::<28>(cx)?))
}

fn a_gpadl_may_have_several_bodies(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| come_and_go(bus, channel, 1, &whole::<71>(cx)?))
}

fn nothing_is_answered_before_the_last_body(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 71] = whole(cx)?;
        let rest = bus.gpadl_header(channel, NAME, [size_of_val(&words) as u16, 1], &words)?;
        bus.silence()?;
        let rest = bus.gpadl_body(NAME, rest)?;
        bus.silence()?;
        check_eq!(bus.gpadl_body(NAME, rest)?.len(), 0);
        check_eq!(bus.created(channel, NAME)?.0, 0);
        Ok(())
    })
}

fn a_gpadl_has_any_number_for_a_name(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        for name in [1, 0x8000_0000, u32::MAX] {
            check_eq!(bus.create(channel, GpadlId(name), 1, &whole::<2>(cx)?)?.0, 0);
            bus.teardown(channel, GpadlId(name))?;
        }
        Ok(())
    })
}

fn several_gpadls_exist_at_a_time(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        for name in 1..=8 {
            check_eq!(bus.create(channel, GpadlId(name), 1, &whole::<3>(cx)?)?.0, 0);
        }
        (1..=8).try_for_each(|name| bus.teardown(channel, GpadlId(name)))
    })
}

fn the_gpadls_of_two_channels_are_apart(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let [one, other] = bus.two()?;
        check_eq!(bus.create(one.channel, NAME, 1, &whole::<2>(cx)?)?.0, 0);
        check_eq!(bus.create(other.channel, GpadlId(NAME.0 + 1), 1, &whole::<2>(cx)?)?.0, 0);
        bus.teardown(one.channel, NAME)?;
        bus.teardown(other.channel, GpadlId(NAME.0 + 1))
    })
}

fn a_teardown_is_answered(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| come_and_go(bus, channel, 1, &whole::<2>(cx)?))
}

fn a_teardown_leaves_the_other_gpadls(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.any()?;
        let opening = bus.opening();
        let rings = bus.rings(offer.channel, opening.gpadl, opening.pages)?;
        come_and_go(bus, offer.channel, 1, &whole::<2>(cx)?)?;
        let channel = bus.channel(&offer, opening.gpadl, rings);
        check_eq!(bus.ask_to_open(&channel.request(opening.target_vp))?.0, 0);
        channel.end()
    })
}

fn a_name_is_free_after_the_teardown(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 2] = whole(cx)?;
        come_and_go(bus, channel, 1, &words)?;
        come_and_go(bus, channel, 1, &words)
    })
}

fn a_gpadl_may_have_two_ranges(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let ([one, two], [three, four]) = (whole::<2>(cx)?, whole::<2>(cx)?);
        come_and_go(bus, channel, 2, &[one, two, three, four])
    })
}

fn a_range_may_begin_within_a_page(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 3] = whole(cx)?;
        come_and_go(bus, channel, 1, &[0x800 << 32 | PAGE, words[1], words[2]])
    })
}

fn a_range_may_end_within_a_page(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 3] = whole(cx)?;
        come_and_go(bus, channel, 1, &[PAGE + 0x10, words[1], words[2]])
    })
}

fn a_message_may_be_longer_than_its_page_numbers(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        // UEFI firmware posts all 240 bytes, whatever it has to say (mu_msvm, VmbusDxe).
        let mut words = [u64::MAX; 27];
        words[..2].copy_from_slice(&whole::<2>(cx)?);
        bus.gpadl_header(channel, NAME, [16, 1], &words)?;
        check_eq!(bus.created(channel, NAME)?.0, 0);
        bus.teardown(channel, NAME)
    })
}

fn a_name_in_use_is_refused(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        check_eq!(bus.create(channel, NAME, 1, &whole::<2>(cx)?)?.0, 0);
        not_created(bus, channel, 1, &whole::<3>(cx)?)?;
        bus.teardown(channel, NAME)
    })
}

fn an_unknown_channel_has_no_gpadls(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        for unknown in [0, 2047, 2048, u32::MAX] {
            let words: [u64; 2] = whole(cx)?;
            bus.gpadl_header(ChannelId(unknown), NAME, [16, 1], &words)?;
            still_works(bus, channel)?;
        }
        Ok(())
    })
}

fn a_gpadl_without_ranges_is_refused(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| not_created(bus, channel, 0, &whole::<2>(cx)?))
}

fn a_gpadl_without_words_is_refused(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| not_created(bus, channel, 1, &[]))
}

fn a_range_without_bytes_is_refused(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 2] = whole(cx)?;
        not_created(bus, channel, 1, &[0, words[1]])
    })
}

fn a_range_that_begins_beyond_its_first_page_is_refused(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 4] = whole(cx)?;
        not_created(bus, channel, 1, &[PAGE << 32 | PAGE, words[1], words[2], words[3]])
    })
}

fn a_range_with_too_few_pages_is_refused(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| {
        let words: [u64; 2] = whole(cx)?;
        not_created(bus, channel, 1, &[2 * PAGE, words[1]])
    })
}

fn a_second_range_that_is_missing_is_refused(cx: &Cx<'_>) -> Outcome {
    on_channel(cx, |bus, channel| not_created(bus, channel, 2, &whole::<2>(cx)?))
}

fn a_body_without_a_header_is_ignored(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let OfferChannel { channel, .. } = bus.any()?;
        bus.gpadl_body(NAME, &whole::<3>(cx)?)?;
        come_and_go(bus, channel, 1, &whole::<2>(cx)?)?;
        bus.unload_in_silence()
    })
}

fn a_body_after_the_last_one_is_ignored(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let OfferChannel { channel, .. } = bus.any()?;
        check_eq!(bus.create(channel, NAME, 1, &whole::<28>(cx)?)?.0, 0);
        bus.gpadl_body(NAME, &whole::<3>(cx)?)?;
        bus.teardown(channel, NAME)?;
        bus.unload_in_silence()
    })
}

fn a_gpadl_is_torn_down_on_its_own_channel_alone(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let [one, other] = bus.two()?;
        check_eq!(bus.create(one.channel, NAME, 1, &whole::<2>(cx)?)?.0, 0);
        let teardown = |channel| hv_tlfs::vmbus::GpadlTeardown {
            header: MessageHeader::new(MessageType::GPADL_TEARDOWN),
            channel,
            gpadl: NAME,
        };
        bus.say(&teardown(other.channel))?;
        bus.silence()?;
        bus.say(&teardown(one.channel))?;
        check_eq!(bus.expect::<GpadlTorndown>(MessageType::GPADL_TORNDOWN)?.gpadl.0, NAME.0);
        bus.unload_in_silence()
    })
}
