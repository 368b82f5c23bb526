//! Checks that the headers match the sources, and that `hv_guest.h` has all routines of the 2018 patch.

#[path = "../examples/header.rs"]
#[expect(dead_code, reason = "the example's main function writes the headers")]
mod generate;

use std::path::Path;

fn read(name: &str) -> String {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    std::fs::read_to_string(include.join(name)).expect("the header is in the repository")
}

fn header() -> String {
    read("hv_guest.h")
}

#[test]
fn the_headers_are_up_to_date() {
    for (name, fresh) in generate::headers() {
        assert_eq!(read(name), fresh, "run `cargo run -p hv-guest-c --example header`");
    }
}

/// Functions, function-like macros and variables of the 2018 patch and of the versions that followed it.
const ROUTINES: &str = "hv_do_hvc hv_do_hvc_fast_get hv_set_vpreg hv_get_vpreg hv_get_vpreg_128 hv_init_timer \
    hv_init_timer_config hv_get_current_tick hv_get_simp hv_set_simp hv_get_siefp hv_set_siefp \
    hv_get_synic_state hv_set_synic_state hv_get_vp_index hv_signal_eom hv_get_synint_state \
    hv_set_synint_state hv_get_crash_ctl hv_enable_stimer0_percpu_irq hv_disable_stimer0_percpu_irq \
    hv_read_hwclock ms_hyperv hv_do_hypercall hv_do_fast_hypercall8 generate_guest_id vmbus_signal_eom \
    hv_setup_vmbus_irq hv_remove_vmbus_irq hv_enable_vmbus_irq hv_disable_vmbus_irq hv_setup_kexec_handler \
    hv_remove_kexec_handler hv_setup_crash_handler hv_remove_crash_handler hyperv_cs hv_vp_index \
    hv_max_vp_index VP_INVAL hv_cpu_number_to_vp_number hyperv_report_panic hyperv_report_panic_msg \
    hv_is_hyperv_initialized hyperv_cleanup hv_setup_stimer0_irq hv_remove_stimer0_irq hv_read_tsc_page_tsc \
    ms_hyperv_info";

/// Returns true if a text contains a C name as a whole word.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + name.len()..].starts_with(is_word))
}

#[test]
fn every_routine_of_the_patch_is_declared() {
    let header = header();
    let declarations: String =
        header.lines().filter(|line| !line.starts_with("//")).map(|line| format!("{line}\n")).collect();
    for name in ROUTINES.split_whitespace() {
        assert!(names(&declarations, name), "{name}");
    }
}

#[test]
fn every_routine_of_the_patch_has_its_row_in_the_guide_and_its_alias() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hv-guest");
    let guide = std::fs::read_to_string(root.join("guide.md")).expect("the guide is in the repository");
    let table: String = guide.lines().filter(|line| line.starts_with('|')).collect();
    let mut sources = String::new();
    for folder in [
        root.join("src"),
        root.join("src/arch"),
        root.join("../hv-tlfs/src"),
        root.join("../hv-tlfs/src/synic"),
    ] {
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            sources += &std::fs::read_to_string(file.path()).unwrap_or_default();
        }
    }
    for name in ROUTINES.split_whitespace() {
        assert!(names(&table, name), "the guide's table has no row for {name}");
        let alias = format!("#[doc(alias = \"{name}\")]");
        assert!(sources.contains(&alias) || name == "ms_hyperv", "{alias} is not an alias in the sources");
    }
}

/// Returns a source of the C kernel without comments and strings, so that every name in it is used.
fn kernel_source(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bare/c-guest").join(name);
    let source = std::fs::read_to_string(file).expect("the kernel is in the repository");
    let mut code = String::new();
    let mut rest = source.as_str();
    while let Some(at) = rest.find(['"', '/']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        let (end, behind) = match rest.as_bytes() {
            [b'"', ..] => ("\"", &rest[1..]),
            [b'/', b'*', ..] => ("*/", &rest[2..]),
            _ => {
                code.push('/');
                rest = &rest[1..];
                continue;
            }
        };
        rest = behind.split_once(end).expect("comments and strings end").1;
        code.push(' ');
    }
    code + rest
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns functions and macros with arguments: the words before the first parenthesis of declarations and definitions.
fn callable(header: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for line in header.lines() {
        let line = line.strip_prefix("#define ").unwrap_or(line);
        let is_declaration = !line.starts_with([' ', '/', '#', '}', '*']);
        if let (true, Some((before, _))) = (is_declaration, line.split_once('(')) {
            names.push(before.rsplit(|c| !is_word(c)).next().unwrap_or(before));
        }
    }
    names
}

fn calls(code: &str, name: &str) -> bool {
    code.match_indices(name)
        .any(|(at, _)| !code[..at].ends_with(is_word) && code[at + name.len()..].starts_with('('))
}

#[test]
fn the_kernel_in_c_calls_everything_that_the_header_declares() {
    let (header, kernel) = (header(), kernel_source("main.c"));
    let mut names = callable(&header);
    names.extend(["hyperv_cs"]);
    assert!(
        names.len() > 50 && names.contains(&"hv_do_hvc") && names.contains(&"hv_guest_init"),
        "{names:?}"
    );
    // The clock source is called `hyperv_cs` in the patch, and is up to the kernel.
    names.retain(|name| *name != "hv_read_reference_counter");
    let missing: Vec<_> = names.into_iter().filter(|name| !calls(&kernel, name)).collect();
    assert_eq!(missing, [""; 0], "bare/c-guest/main.c does not call these");
    let (header, kernel) = (read("hv_vmbus.h"), kernel_source("devices.c"));
    let mut names = callable(&header);
    assert!(
        names.len() > 25 && names.contains(&"hv_bus_init") && names.contains(&"hv_net_close"),
        "{names:?}"
    );
    names.retain(|name| !calls(&kernel, name));
    assert_eq!(names, [""; 0], "bare/c-guest/devices.c does not call these");
}

#[test]
fn the_kernel_in_c_makes_every_hypercall_that_the_patch_names() {
    let kernel = kernel_source("main.c");
    for name in "FLUSH_VIRTUAL_ADDRESS_SPACE FLUSH_VIRTUAL_ADDRESS_LIST NOTIFY_LONG_SPIN_WAIT SEND_IPI \
        FLUSH_VIRTUAL_ADDRESS_SPACE_EX FLUSH_VIRTUAL_ADDRESS_LIST_EX SEND_IPI_EX GET_VP_REGISTERS \
        SET_VP_REGISTERS POST_MESSAGE SIGNAL_EVENT RETARGET_INTERRUPT START_VIRTUAL_PROCESSOR"
        .split_whitespace()
    {
        let name = format!("HVCALL_{name}");
        let uses = kernel.lines().filter(|line| !line.starts_with("#define")).any(|line| {
            line.match_indices(&name)
                .any(|(at, _)| line[..at].ends_with('(') && !line[at + name.len()..].starts_with(is_word))
        });
        assert!(uses, "bare/c-guest/main.c does not call {name}");
    }
}
