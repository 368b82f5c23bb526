//! The VP assist page's register.

use hv_tlfs::page::SIZE;
use hv_tlfs::register::RegisterName;

use crate::cx::Cx;
use crate::outcome::Outcome;

cases! {
    "virtual_processors";
    "Virtual Processors", "Virtual Processor Assist Page":
        the_assist_page_register_reads_as_written;
}

fn the_assist_page_register_reads_as_written(cx: &Cx<'_>) -> Outcome {
    let offered = cx.facts.features.privileges.access_interrupt_control();
    skip_if!(!offered, "the partition has no VP assist page");
    let before = cx.read_register(RegisterName::VP_ASSIST_PAGE)?;
    let page = cx.page()?;
    check_eq!(page % SIZE as u64, 0);
    cx.write_and_read(RegisterName::VP_ASSIST_PAGE, page | 1)?;
    cx.write_and_read(RegisterName::VP_ASSIST_PAGE, before)
}
