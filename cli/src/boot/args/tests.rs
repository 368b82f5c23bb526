//! Tests of the options.

use clap::Parser;

use hv_tlfs::rules::Severity;

use super::*;

#[test]
fn what_is_appended_is_one_line_with_its_quotes_closed() {
    assert_eq!(appended("a=\"b c\"\td").as_deref(), Ok("a=\"b c\"\td"));
    assert!(appended("a\nb").unwrap_err().starts_with("character '\\n' at byte 1"));
    assert_eq!(appended("a\u{1b}[2J").as_deref(), Ok("a\u{1b}[2J"), "the guest may print it");
    assert!(appended("a=\"b").unwrap_err().contains("not closed"));
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

pub(super) fn parse(words: &str) -> Result<Args, clap::Error> {
    Line::try_parse_from(std::iter::once("hv").chain(words.split_whitespace())).map(|line| line.args)
}

#[test]
fn memory_is_what_the_hypervisor_maps() {
    assert_eq!((memory("2"), memory("255G")), (Ok(2 << 20), Ok(255 << 30)));
    for (bad, said) in
        [("0", "it is 0 bytes"), ("1", "it is 1 MiB"), ("3M", "it is 3 MiB"), ("256G", "it is 256 GiB")]
    {
        let error = memory(bad).unwrap_err();
        assert!(error.starts_with(said) && error.contains("multiple of 2 MiB up to 255 GiB"), "{error}");
    }
    assert!(memory("lots").is_err() && memory("99999T").is_err());
}

#[test]
fn contradictions_and_values_out_of_range_are_refused() {
    for bad in [
        "--vps 0",
        "--vps 121",
        "--vps two",
        "--stock 6.1 --kernel x",
        "--stock 5.10",
        "--run crash --initrd x",
        "--modules x --initrd y",
        "--no-initrd --run crash",
        "--tree x --kernel y",
        "--tree x --stock 6.1",
        "--run fly",
        "--firmware uefi",
        "--gdb 0",
        "--gdb 1234",
        "--gdb tcp:0",
        "--gdb tcp:65536",
        "--gdb tcp:",
        "--memory lots",
        "--memory 1",
        "--uuid x",
        "--timeout -1",
        "--trace-buffer 4M",
        "--trace-limit 4M",
        "--trace x --trace-limit lots",
        "--trace x --trace-limit 64K",
        "--trace x --trace-limit 0",
        "--trace x --trace-buffer lots",
        "--strict=fatal",
        "--strict error",
        "--devices disk",
        "--devices all,kvp",
        "--frobnicate",
        "stray",
    ] {
        let error = parse(bad).err().unwrap_or_else(|| panic!("{bad} was accepted"));
        assert_eq!(error.exit_code(), 2, "{bad}");
    }
}

#[test]
fn control_brings_the_services_unless_told_otherwise() {
    let services = |words| parse(words).unwrap().services();
    assert_eq!(services(""), Services::NONE);
    assert_eq!(services("--control x"), Services::all());
    assert_eq!(services("--control"), Services::all());
    assert_eq!(services("--name web"), Services::all());
    assert_eq!(services("--control x --devices none"), Services::NONE);
    assert_eq!(services("--devices kvp"), "kvp".parse().unwrap());
    let own = |words| parse(words).unwrap().with_system("ro", true).unwrap().services();
    assert_eq!(own("--disk a"), Services::all());
    assert_eq!(own("--disk a --devices time"), "time".parse().unwrap());
    assert_eq!(services("--disk a"), Services::NONE);
}

#[test]
fn a_control_port_may_have_a_socket_and_a_machine_a_name() {
    let control = |words| parse(words).unwrap().control;
    assert_eq!(control("--name web"), None);
    assert_eq!(control("--control --run wait"), Some(None));
    assert_eq!(control("--name web --control x --hotplug-room 1G"), Some(Some("x".into())));
    assert!(parse("--name web --hotplug-room 1G").is_ok() && parse("--control --hotplug-room 1G").is_ok());
    assert!(parse("--hotplug-room 1G").is_err() && parse("--name status").is_err());
}

#[test]
fn strict_takes_a_level_or_none() {
    let level = |words| parse(words).unwrap().strict.map(Strict::fails_from);
    assert_eq!(level(""), None);
    assert_eq!(level("--strict"), Some(None));
    assert_eq!(level("--strict --quiet"), Some(None));
    assert_eq!(level("--strict=error"), Some(Some(Severity::Error)));
    assert_eq!(level("--strict=warning"), Some(Some(Severity::Warning)));
    assert_eq!(level("--strict=note"), Some(Some(Severity::Note)));
}

#[test]
fn the_command_line_of_the_user_comes_first_and_wins() {
    assert_eq!(parse("").unwrap().command_line(), "panic=-1");
    let args = parse("--append panic=30 --deterministic --run hotplug,crash").unwrap();
    assert_eq!(args.command_line(), "panic=30 nokaslr hv.run=hotplug,crash");
}

#[test]
fn a_shell_and_a_command_find_the_network_configured() {
    let run = |words: &str, agent: bool| {
        let mut args = parse(words).unwrap();
        args.agent = agent.then(Vec::new);
        args.actions().join(",")
    };
    assert_eq!(run("--net user", true), "net,agent");
    assert_eq!(run("--net user --run hotplug", true), "hotplug,net,agent");
    assert_eq!(
        run("--net user --run net,hotplug", true),
        "net,hotplug,agent",
        "once, and where the user wants it"
    );
    assert_eq!(run("", true), "agent");
    assert_eq!(run("--net user --run hotplug,shell", false), "hotplug,net,shell");
    assert_eq!(run("--net user --run shell,shell", false), "net,shell,shell");
    assert_eq!(run("--net user,forward=tcp:2222:22 --run net,shell", false), "net,shell");
    assert_eq!(run("--net none --run shell", false), "shell");
    assert_eq!(run("--net user --run poweroff", false), "poweroff", "others do without");
    assert_eq!(run("--net user", false), "");
}

#[test]
fn a_network_that_is_not_there_is_not_configured() {
    let judged = |words: &str| parse(words).unwrap().judge_actions().map_err(|error| error.to_string());
    for words in ["--run net", "--run hotplug,net --net none"] {
        assert!(judged(words).unwrap_err().contains("give --net user too"), "{words}");
    }
    assert!(judged("--net user --run net").is_ok() && judged("--run shell").is_ok());
}

#[test]
fn what_we_add_is_for_the_kernel_and_not_for_init() {
    let line = |append: &str| {
        let args = Line::try_parse_from(["hv", "--run", "reset", "--append", append]).unwrap().args;
        args.command_line()
    };
    let ours = "panic=-1 hv.run=reset";
    assert_eq!(line("x -- y"), format!("x {ours} -- y"));
    assert_eq!(line("-- single panic=5 --"), format!("{ours} -- single panic=5 --"));
    assert_eq!(line("--"), format!("{ours} --"));
    assert_eq!(line("a--b --c d--"), format!("a--b --c d-- {ours}"));
    assert_eq!(line("a\t--\tb"), format!("a {ours} --\tb"));
}

#[test]
fn a_quoted_value_is_one_word() {
    let line = |append: &str| {
        let args = Line::try_parse_from(["hv", "--deterministic", "--append", append]).unwrap().args;
        args.command_line()
    };
    // The dashes and the panic= in quotes have no effect.
    assert_eq!(line("dyndbg=\"a -- panic=3 b\" c"), "dyndbg=\"a -- panic=3 b\" c panic=-1 nokaslr");
    assert_eq!(line("\"panic=3\" \"nokaslr\" -- z"), "\"panic=3\" \"nokaslr\" -- z");
    assert!(
        Line::try_parse_from(["hv", "--append", "x=\"-- y"]).is_err(),
        "it would take our words into the quotes"
    );
}

#[test]
fn a_run_with_a_person_at_it_has_no_limit() {
    let limit = |words, person| parse(words).unwrap().limit(person).map(|limit| limit.as_secs());
    assert_eq!((limit("", true), limit("--gdb", false)), (Some(300), None));
    assert_eq!((limit("--run shell", true), limit("--run shell", false)), (None, Some(300)));
    assert_eq!((limit("--run shell --timeout 5", true), limit("--timeout 0", false)), (Some(5), None));
    let exec = |words, on_terminal| {
        let mut args = parse(words).unwrap();
        let agent = crate::boot::Agent { terminal: on_terminal, ..Default::default() };
        args.set_agent(agent, Some(std::path::Path::new("/x"))).unwrap();
        args.limit(on_terminal).map(|limit| limit.as_secs())
    };
    assert_eq!((exec("", true), exec("--timeout 5", true), exec("", false)), (None, Some(5), Some(300)));
}

#[test]
fn what_is_piped_goes_to_guests_that_read_it() {
    let piped = |words, is_linux| match parse(words).unwrap().piped(is_linux) {
        Typing::Pipe { from, .. } => Some(from),
        _ => None,
    };
    for words in ["", "--run hotplug,crash", "--append root=/dev/sda --run poke"] {
        assert_eq!(piped(words, true), None, "{words}");
    }
    assert_eq!(piped("--run shell", true), Some(Begin::Prompt(Some("hv: shell\r\n"))));
    for words in ["--initrd x", "--no-initrd", "--append root=/dev/sda"] {
        assert_eq!(piped(words, true), Some(Begin::Prompt(None)), "{words}");
    }
    assert_eq!(piped("--kernel x", false), Some(Begin::Start));
    assert!(parse("--kernel -").unwrap().reads_stdin() && !parse("--kernel x").unwrap().reads_stdin());
}

#[test]
fn a_disks_own_system_boots_unless_something_else_is_asked_for() {
    let may = |words: &str| parse(words).unwrap().may_boot_disk();
    assert!(may("--disk a") && may("--disk a --net user --append quiet") && may("--disk a --entry x"));
    assert!(!may("") && !may("--dvd a"));
    for words in [
        "--kernel k",
        "--tree t",
        "--stock 6.12",
        "--initrd i",
        "--no-initrd",
        "--modules m",
        "--load hv_utils",
    ] {
        assert!(!may(&format!("--disk a {words}")), "{words}");
        assert!(parse(&format!("--disk a --entry x {words}")).is_err(), "{words}");
    }
    for words in ["--run shell", "--append root=/dev/sda1", "--append rdinit=/x"] {
        assert!(!may(&format!("--disk a {words}")), "{words}");
    }
    assert!(parse("--entry x").is_err());
}

#[test]
fn a_disks_own_system_keeps_its_command_line_and_gets_the_machines_console() {
    let line = |options: &str, words: &str| {
        parse(words).unwrap().with_system(options, true).map(|args| args.append).map_err(|e| e.to_string())
    };
    assert_eq!(line("root=UUID=1 ro", "--disk a").unwrap(), "root=UUID=1 ro");
    assert_eq!(
        line("ro console=ttyS0", "--disk a --append x").unwrap(),
        "ro console=ttyS0 console=ttyAMA0 x"
    );
    assert_eq!(line("console=ttyAMA0,115200", "--disk a").unwrap(), "console=ttyAMA0,115200");
    assert_eq!(
        line("console=ttyS0", "--disk a --append console=hvc0").unwrap(),
        "console=ttyS0 console=hvc0"
    );
    assert!(line("x=\"y", "--disk a").unwrap_err().contains("not closed"));
    assert!(line("x\ny", "--disk a").unwrap_err().contains("one line"));
    let own = parse("--disk a").unwrap().with_system("ro", true).unwrap();
    assert_eq!((own.limit(true), own.limit(false).map(|limit| limit.as_secs())), (None, Some(300)));
}
