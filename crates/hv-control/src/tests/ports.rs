//! The ports.

use std::vec;
use std::vec::Vec;

use hv_vmbus::Token;
use hv_wire::control::{FromSockets, MAX_FRAME, Service, ToHypervisor, ToSockets};

use super::embedder::{Done, FakePipe, Own, with};
use crate::{ControlPort, Pipe as _, Port as _, SocketsPort};

fn log(done: &Done) -> Vec<std::string::String> {
    done.log.lock().unwrap().clone()
}

/// Has the guest give memory up: the request is under way.
fn discard(machine: &Own) {
    machine.state.start_discard(Token::from_number(1));
}

fn is_discarding(machine: &Own) -> bool {
    machine.state.discarding.lock().is_under_way()
}

#[test]
fn a_port_is_called_again_if_a_flush_made_room_that_was_missing() {
    with(
        |info| info.services = Service::Kvp.bit(),
        |machine, _| {
            machine.offer(&[]);
            let mut port = ControlPort::new(FakePipe::new());
            let pipe = port.link().pipe();
            // It has a byte too little for an outcome, until the tool takes what waits: that is at the end of the call.
            (pipe.room, pipe.waiting, pipe.busy) = (MAX_FRAME, vec![0], 1);
            port.expect(Service::Kvp, 7);
            machine.state.note_outcome();
            assert!(port.serve(machine));
            assert!(!port.serve(machine));
            // Without such room nothing is to do before the embedder says that there is some.
            let pipe = port.link().pipe();
            (pipe.waiting, pipe.busy) = (vec![0], 9);
            machine.state.note_outcome();
            assert!(!port.serve(machine));
        },
    );
}

#[test]
fn news_of_sockets_go_out_when_a_flush_made_room_for_them() {
    with(
        |_| (),
        |machine, _| {
            machine.serve_sockets();
            let mut port = SocketsPort::new(FakePipe::new());
            let mut frame = [0; MAX_FRAME];
            let len = ToSockets::Connect { request: 5, port: 80 }.encode(0, &mut frame).unwrap();
            port.link().pipe().came.extend(&frame[..len]);
            assert!(!port.serve(machine));
            // No guest takes the connection in time.
            machine.host.0.set_counter(11 * 10_000_000);
            machine.partition.timer_expired(machine.host, 0);
            let pipe = port.link().pipe();
            (pipe.waiting, pipe.busy) = (vec![0; 60 << 10], 1);
            assert!(port.serve(machine));
            port.link().pipe().sent.clear();
            assert!(!port.serve(machine));
            let len = FromSockets::Refused { request: 5 }.encode(0, &mut frame).unwrap();
            assert_eq!(port.link().pipe().sent, &frame[..len]);
        },
    );
}

#[test]
fn a_broken_stream_loses_the_port_and_memory_is_waited_for_no_longer() {
    with(
        |_| (),
        |machine, done| {
            let mut port = ControlPort::new(FakePipe::new());
            discard(machine);
            port.link().pipe().broken = true;
            assert!(!port.serve(machine));
            assert!(port.link().is_lost() && !port.link().hears() && !is_discarding(machine));
            assert_eq!(log(done), ["the control port is lost: broken"]);
            // What the guest gives up later is not waited for either.
            discard(machine);
            assert!(!port.serve(machine));
            assert!(!is_discarding(machine) && log(done).len() == 1);
        },
    );
}

#[test]
fn a_stream_that_an_answer_breaks_is_found_without_another_event() {
    with(
        |_| (),
        |machine, done| {
            let mut port = ControlPort::new(FakePipe::new());
            let pipe = port.link().pipe();
            pipe.breaks = true;
            pipe.ask(1, &ToHypervisor::Hello { version: 1 });
            while port.serve(machine) {}
            assert!(port.link().is_lost());
            assert_eq!(log(done), ["the control port is lost: broken"]);
            machine.serve_sockets();
            let mut port = SocketsPort::new(FakePipe::new());
            port.link().pipe().broken = true;
            assert!(!port.serve(machine) && port.link().is_lost());
            assert_eq!(log(done)[1], "the sockets' port is lost: broken");
        },
    );
}

#[test]
fn frames_are_put_together_from_any_pieces_and_answered_one_by_one() {
    with(
        |info| info.services = Service::Shutdown.bit(),
        |machine, _| {
            machine.offer(&[]);
            let ask = |pipe: &mut FakePipe| {
                pipe.ask(3, &ToHypervisor::Hello { version: 1 });
                pipe.ask(4, &ToHypervisor::Shutdown { action: 9, force: false });
                pipe.ask(5, &ToHypervisor::Memory {});
            };
            let mut whole = FakePipe::new();
            ask(&mut whole);
            let bytes: Vec<u8> = whole.came.into();
            let mut expected = None;
            for at in 0..=bytes.len() {
                let mut port = ControlPort::new(FakePipe::new());
                for part in [&bytes[..at], &bytes[at..]] {
                    port.link().pipe().came.extend(part);
                    while port.serve(machine) {}
                }
                let answers = port.link().pipe().answers();
                assert_eq!(answers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4, 5], "split at {at}");
                assert_eq!(*expected.get_or_insert(answers.clone()), answers);
            }
            let mut port = ControlPort::new(FakePipe::new());
            port.link().pipe().step = 1;
            ask(port.link().pipe());
            while port.serve(machine) {}
            assert_eq!(Some(port.link().pipe().answers()), expected);
        },
    );
}

#[test]
fn after_what_is_no_frame_nothing_more_is_served() {
    with(
        |_| (),
        |machine, done| {
            let mut port = ControlPort::new(FakePipe::new());
            discard(machine);
            let _ = machine.state.take_outcome();
            let pipe = port.link().pipe();
            pipe.came.extend([0xff; 64]);
            pipe.ask(3, &ToHypervisor::Hello { version: 1 });
            while port.serve(machine) {}
            assert!(port.link().is_lost() && !is_discarding(machine));
            assert_eq!(log(done), ["the control port is lost: invalid frame from the tool"]);
            port.link().pipe().ask(4, &ToHypervisor::Hello { version: 1 });
            while port.serve(machine) {}
            assert!(port.link().pipe().answers().is_empty() && log(done).len() == 1);
        },
    );
}

#[test]
fn without_room_for_an_answer_nothing_is_read() {
    with(
        |_| (),
        |machine, _| {
            let mut port = ControlPort::new(FakePipe::new());
            let pipe = port.link().pipe();
            pipe.ask(3, &ToHypervisor::Hello { version: 1 });
            let asked = pipe.came.len();
            (pipe.room, pipe.waiting, pipe.busy) = (MAX_FRAME, vec![0], 2);
            assert!(!port.serve(machine));
            assert!(!port.link().hears() && port.link().pipe().came.len() == asked);
            while port.serve(machine) {}
            port.link().pipe().sent.remove(0);
            let answers = port.link().pipe().answers();
            assert!(matches!(&*answers, [(3, hello)] if hello.starts_with("Hello")), "{answers:?}");
            assert_eq!(port.link().pipe().room(), Ok(MAX_FRAME));
        },
    );
}

#[test]
fn a_request_to_a_device_without_a_channel_is_over() {
    with(
        |_| (),
        |machine, _| {
            let mut port = ControlPort::new(FakePipe::new());
            discard(machine);
            // The device has closed its channel since: there is nothing to tell.
            assert!(!port.serve(machine));
            assert!(!is_discarding(machine) && port.link().pipe().answers().is_empty());
        },
    );
}
