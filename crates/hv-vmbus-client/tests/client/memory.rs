//! Runs of pages.

use hv_testbed::Convention;
use hv_vmbus_client::PageRun;

use crate::guest::{Guest, config};

#[test]
fn bytes_are_where_they_were_put_across_pages() {
    let guest = Guest::<4>::new(config(), Convention::Smccc, 1);
    let run = PageRun::new(&guest.dma, 1).unwrap();
    assert_eq!((run.pages().len(), run.bytes()), (4, 16384), "a whole page of the guest");
    let data: Vec<u8> = (0..9000).map(|n| (n % 251) as u8).collect();
    for offset in [0, 1, 4090, 7000] {
        run.write(offset, &data);
        let mut back = vec![0; data.len()];
        run.read(offset, &mut back);
        assert!(back == data, "{offset}");
    }
    run.write(16380, &data);
    let mut end = [9; 8];
    run.read(16380, &mut end);
    assert_eq!(end, [data[0], data[1], data[2], data[3], 9, 9, 9, 9], "nothing after the end");
    assert_eq!(run.pfn(1), run.pfn(0).map(|pfn| pfn + 1));
    assert_eq!(run.pfn(4), None);
}
