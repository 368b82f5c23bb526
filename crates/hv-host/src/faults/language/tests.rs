use super::*;

/// Returns the rejected part and the reason.
fn refused(text: &str) -> (&str, &'static str) {
    let bad = Plan::parse(text, &|_, _| None).expect_err(text);
    (&text[bad.start..bad.end], bad.reason)
}

#[test]
fn a_refusal_points_to_the_part_that_is_wrong() {
    for (text, part, reason) in [
        ("", "", "an empty clause"),
        ("lost,", "", "an empty clause"),
        ("lost, ,twice", "", "an empty clause"),
        ("@3", "", "an empty clause"),
        ("seed=7", "seed=7", "a seed alone"),
        ("seed=x,lost", "x", "a seed is a number"),
        ("seed=1,lost,seed=2", "seed=2", "a seed was given"),
        ("lost, fly=3@4", "fly", "no such fault"),
        ("lost=15", "15", "from 16 to 1019"),
        ("twice=+18", "+18", "from 16 to 1019"),
        ("spurious@5ms", "spurious", "write spurious=INTID"),
        ("spurious=18", "spurious=18", "needs a period"),
        ("migrate@3", "3", "needs a period"),
        ("lost@50ms", "50ms", "takes no period"),
        ("lost@0%", "0%", "1% to 100%"),
        ("lost@101%", "101%", "1% to 100%"),
        ("lost@/0", "/0", "after @"),
        ("lost@", "", "after @"),
        ("silent=20@50ms", "20", "a time in ms"),
        ("silent=60ms@50ms", "silent=60ms@50ms", "longer than its period"),
        ("migrate@99999999999999999999ms", "99999999999999999999ms", "after @"),
        ("disturb=all@5ms", "all", "disturb=messages"),
        ("buffers=3", "3", "no argument"),
        ("call=0x5d", "call=0x5d", "CODE:STATUS"),
        ("call=0x10000:3", "0x10000", "no such hypercall"),
        ("call=0x5d:HV_STATUS_NO", "HV_STATUS_NO", "no such status"),
        ("call=0x5d:0", "0", "expected the status of a failure"),
        ("srb=1", "1", "expected the status of a failure"),
        ("srb=0x40", "0x40", "an SRB status"),
        ("srb=4:256", "256", "a SCSI status"),
        ("sense=3/11", "3/11", "hexadecimal"),
        ("sense=10/0/0", "10/0/0", "hexadecimal"),
        ("sense=+3/1/1", "+3/1/1", "hexadecimal"),
        ("media=8", "8", "first and the last sector"),
        ("media=8-7", "8-7", "first and the last sector"),
        ("media=0-0xffffffffffffffff", "0xffffffffffffffff", "first and the last sector"),
        ("late=20", "20", "a time in ms"),
        ("late=20ms@50ms", "50ms", "takes no period"),
        ("rescind", "rescind", "name a device"),
        ("rescind=nothing", "nothing", "no such device"),
        ("newest=5.1", "newest=5.1", "write newest=DEVICE:5.1"),
        ("newest=1:5", "5", "a version is written"),
        ("mute=20ms", "mute=20ms", "needs a period"),
        ("mute=60ms@50ms", "mute=60ms@50ms", "longer than its period"),
        ("sent", "sent", "lost, twice, corrupt or reorder"),
        ("received=late", "late", "lost, twice, corrupt or reorder"),
        ("sent=lost@50ms", "50ms", "takes no period"),
        ("link=20@50ms", "20", "a time in ms"),
        ("link=20ms", "link=20ms", "needs a period"),
        ("link=60ms@50ms", "link=60ms@50ms", "longer than its period"),
    ] {
        let (found, why) = refused(text);
        assert!(found == part && why.contains(reason), "{text:?}: {found:?}, {why}");
    }
}

#[test]
fn a_rule_that_can_never_strike_is_refused() {
    for text in [
        "lost@10%,lost@10%",
        "lost,twice",
        "lost,lost=18",
        "lost=18,twice=18@3",
        "call=any:3,call=0x5d:4@2",
        "call=0x5d:3@2,call=0x5d:4@2",
        "call=0x5d:3@/2,call=0x5d:4@4",
        "call=0x5d:3@/2,call=0x5d:4@/4",
        "delay@100%,delay@3",
        "migrate@50ms,migrate@50ms",
        "silent=20ms@50ms,silent=10ms@50ms",
        "mute=20ms@50ms,mute=10ms@50ms",
        "stuck,late=20ms",
        "busy,media=0-7",
        "media=0-100,media=10-20",
        "rescind=any,rescind=7@3",
        "newest=1:5.0,newest=1:6.0",
        "sent=lost,sent=twice@/3",
        "link=20ms@50ms,link=10ms@50ms",
    ] {
        let (part, reason) = refused(text);
        assert_eq!(part, text.split_once(',').unwrap().1, "{text}");
        assert!(reason.contains("earlier"), "{text}: {reason}");
    }
    for text in [
        "lost=18,lost",
        "lost=18,lost=19",
        "lost@3,twice",
        "call=0x5d:3@2,call=any:4@2",
        "call=any:3@2,call=0x5d:4@2",
        "call=0x5d:3@/4,call=0x5d:4@2",
        "call=0x5d:3@50%,call=0x5d:4@50%",
        "migrate@50ms,migrate@70ms",
        "late=20ms@3,stuck",
        "media=10-20,media=0-100",
        "rescind=7,rescind-open=7",
        "rescind=7,rescind=8",
        "newest=1:6.0,newest=1:5.0",
        "sent=lost,received=lost",
        "sent=lost@3,sent=corrupt@4",
    ] {
        assert!(Plan::parse(text, &|_, _| None).is_ok(), "{text}");
    }
}

#[test]
fn names_are_asked_for_by_their_kind() {
    let names = |kind, name: &str| match (kind, name) {
        (Name::Hypercall, "CALL") => Some(0x5d),
        (Name::Status, "STATUS") => Some(0x13),
        _ => None,
    };
    let plan = Plan::parse("call=CALL:STATUS", &names).unwrap();
    assert_eq!(Ok(plan), Plan::parse("call=0x5d:0x13", &|_, _| None));
    assert!(Plan::parse("call=STATUS:CALL", &names).is_err());
}

#[test]
fn there_is_a_form_for_every_fault_and_no_other() {
    for (form, _) in FORMS {
        for form in form.split(", ").filter(|form| !form.starts_with("...")) {
            let name = form.split(['=', '|']).next().unwrap();
            let refused = Plan::parse(&std::format!("{name}=?"), &|_, _| None).unwrap_err();
            assert_ne!(refused.reason, "no such fault", "{form}");
        }
    }
}
