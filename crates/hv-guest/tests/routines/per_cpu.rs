//! Handles in a static, with no unsafe code.

use hv_guest::partition::Vp;
use hv_guest::per_cpu::PerCpu;
use hv_testbed::Wire;

use crate::common::everywhere;

#[test]
fn each_cpu_finds_its_own_handle_and_never_twice_at_a_time() {
    everywhere(|guest| {
        let places: PerCpu<Vp<'_, Wire>, 2> = PerCpu::new();
        let index = |cpu| places.with(cpu, |vp| vp.index().0);
        assert_eq!(index(0), None);
        assert!(places.put(0, guest.vp(0)).is_ok());
        assert_eq!((index(0), index(1), index(2)), (Some(0), None, None));
        // As an interrupt handler does in the middle of it.
        let nested = places.with(0, |_| (index(0), places.take(0).is_none()));
        assert_eq!(nested, Some((None, true)));
        assert_eq!(index(0), Some(0));
        // Threads take turns, or find it in use.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..10).for_each(|_| assert!(matches!(index(0), None | Some(0)))));
            }
        });
        let vp = places.take(0).expect("it is there");
        assert!(places.put(2, vp).is_err(), "there is no CPU 2");
        assert!(places.take(0).is_none());
    });
}
