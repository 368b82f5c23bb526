//! The header is what the sources say, and has every routine of the 2018 patch.

use std::path::Path;

fn header() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("include/hv_guest.h")).expect("the header is in the repository")
}

#[test]
fn the_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut fresh = Vec::new();
    cbindgen::generate(root).expect("the sources can be parsed").write(&mut fresh);
    let fresh = String::from_utf8(fresh).expect("a header is text");
    assert_eq!(header(), fresh, "run `cargo run -p hv-guest-c --example header`");
}

#[test]
fn every_routine_of_the_patch_is_declared() {
    let header = header();
    let names = "hv_do_hvc hv_do_hvc_fast_get hv_set_vpreg hv_get_vpreg hv_get_vpreg_128 hv_init_timer \
        hv_init_timer_config hv_get_current_tick hv_get_simp hv_set_simp hv_get_siefp hv_set_siefp \
        hv_get_synic_state hv_set_synic_state hv_get_vp_index hv_signal_eom hv_get_synint_state \
        hv_set_synint_state hv_get_crash_ctl hv_enable_stimer0_percpu_irq hv_disable_stimer0_percpu_irq \
        hv_read_hwclock ms_hyperv hv_do_hypercall hv_do_fast_hypercall8 generate_guest_id vmbus_signal_eom \
        hv_setup_vmbus_irq hv_remove_vmbus_irq hv_enable_vmbus_irq hv_disable_vmbus_irq hv_setup_kexec_handler \
        hv_remove_kexec_handler hv_setup_crash_handler hv_remove_crash_handler hyperv_cs hv_vp_index \
        hv_max_vp_index VP_INVAL hv_cpu_number_to_vp_number hyperv_report_panic hyperv_report_panic_msg \
        hv_is_hyperv_initialized hyperv_cleanup hv_setup_stimer0_irq hv_remove_stimer0_irq hv_read_tsc_page_tsc";
    for name in names.split_whitespace() {
        let declared = header.lines().any(|line| {
            !line.starts_with("//")
                && line.match_indices(name).any(|(at, _)| {
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    !line[..at].ends_with(word) && !line[at + name.len()..].starts_with(word)
                })
        });
        assert!(declared, "{name}");
    }
}
