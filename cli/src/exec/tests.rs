//! Tests of the parts that need no guest; the scenarios `exec/` have one.

use super::input::Keys;
use super::*;

#[test]
fn the_code_is_the_commands_if_it_ended() {
    let ended = |outcome| code(Some(outcome), Exit::Success);
    assert_eq!(ended(Outcome::Exited(0)), 0);
    assert_eq!(ended(Outcome::Exited(77)), 77);
    assert_eq!(ended(Outcome::Killed(9)), 137);
    assert_eq!(ended(Outcome::NotStarted(2)), NOT_FOUND);
    assert_eq!(ended(Outcome::NotStarted(13)), NO_PROGRAM);
}

#[test]
fn the_machines_end_counts_where_the_command_has_none() {
    assert_eq!(code(None, Exit::Success), LOST);
    assert_eq!(code(None, Exit::Machine), LOST);
    assert_eq!(code(None, Exit::Timeout), TIMEOUT);
    assert_eq!(code(None, Exit::Crash), CRASH);
    assert_eq!(code(None, Exit::Usage), FAILED);
    assert_eq!(code(None, Exit::Interrupted), 130);
    assert_eq!(code(Some(Outcome::Exited(0)), Exit::Crash), CRASH);
}

#[test]
fn a_broken_rule_fails_a_command_that_succeeded() {
    assert_eq!(code(Some(Outcome::Exited(0)), Exit::Strict), STRICT);
    assert_eq!(code(Some(Outcome::Exited(3)), Exit::Strict), 3);
}

#[test]
fn every_code_of_its_own_is_in_the_help() {
    for code in [STRICT, LOST, CRASH, TIMEOUT, FAILED, NO_PROGRAM, NOT_FOUND, Exit::Interrupted as u8] {
        assert!(HELP.contains(&format!("\n  {code}  ")), "{code}");
    }
}

#[test]
fn ctrl_a_is_the_tools() {
    let mut keys = Keys::default();
    assert_eq!(keys.pass(b"ls\x03\r"), b"ls\x03\r");
    assert_eq!(keys.pass(b"a\x01"), b"a");
    assert_eq!(keys.pass(b"\x01b"), b"\x01b");
    assert_eq!(keys.pass(b"\x01k"), b"\x01k");
    assert!(!keys.ended);
    assert_eq!(keys.pass(b"\x01x"), b"");
    assert!(keys.ended);
}
