//! The way of a call: conventions, parameters, lists, statuses.

mutants! {
    "hv-host/src/hypercall.rs" {
        element_skipped "A continued list leaves out an element.":
            "control.with_rep_start(start)" => "control.with_rep_start(start + 1)";
        unknown_code_status "An unknown call code gets another status.":
            "HvStatus::INVALID_HYPERCALL_CODE"
            in "find(control.code()).ok_or(HvStatus::INVALID_HYPERCALL_CODE)"
            => "HvStatus::INVALID_PARAMETER";
        guest_id_not_needed "Calls work without a guest OS id.":
            "!early && self.guest_os_id().load(Ordering::Acquire) == 0" => "false";
        privileges_ignored "Calls work without their privilege.":
            "profile.features.privileges.0 & call.privileges.0 == call.privileges.0" => "true";
        reserved_bits_accepted "Reserved bits of the input value may be set.":
            "control.0 & call.zero" => "control.0 & call.zero & (!RSVD_MASK | 1 << 31)";
        rep_counts_unchecked "Any rep count and start index will do.":
            "control.0 & call.zero != 0 || nothing_to_do"
            => "control.0 & call.zero & !(REP_COMP_MASK | REP_START_MASK) != 0";
        variable_header_accepted "A call without variable header takes one.":
            "control.0 & call.zero" => "control.0 & call.zero & !VARHEAD_MASK";
        spin_wait_fails "A long spin wait fails.":
            "Ok(())" in "Operation::LongSpinWait => Ok(())" => "Err(HvStatus::OPERATION_DENIED)";
        partition_id_wrong "The partition id is another one.":
            "self.config().partition_id" => "self.config().partition_id + 1";
        capability_reserved "A reserved extended capability is told.":
            "0u64" => "1 << 63";
        denied_calls_unknown "A call that the guest may not make counts as unknown.":
            "HvStatus::ACCESS_DENIED"
            in "Operation::Denied || !granted { return Err(HvStatus::ACCESS_DENIED)"
            => "HvStatus::INVALID_HYPERCALL_CODE";
        nested_accepted "The nested bit may be set.":
            "control.0 & call.zero" => "control.0 & call.zero & !(1 << 31)"
            survives "The TLFS does not say what a host does with the bit that is not a VP's L0.";
        addresses_clobbered "A call that is done changes the registers of its addresses.":
            "x.set_x(0, result.0)" => "{ x.set_x(0, result.0); x.set_x(first + 1, 0) }";
        extended_codes_are_one "Any extended call is the query of capabilities.":
            "control.code()" in "find(control.code()).ok_or"
            => "if control.code().0 > 0x8000 { Code::EXT_QUERY_CAPABILITIES } else { control.code() }";
        ipi_unoffered "Sending IPIs is recommended and not offered.":
            "profile.enlightenments.hints.0 & call.hints.0 != call.hints.0"
            => "call.operation == Operation::SendIpi || \
                profile.enlightenments.hints.0 & call.hints.0 != call.hints.0";
        partition_id_untold "The partition id is not told.":
            "frame.write(0, &self.config().partition_id)" => "frame.write(0, &0u64)";
    }

    "hv-host/src/one.rs" {
        fast_get_place "A fast Get returns its value elsewhere.":
            "value_of_one(convention)" in "let output = value_of_one(convention)" => "4";
        high_half_garbage "The high half of a small register is not zero.":
            "x.set_x(output + 1, high)" => "x.set_x(output + 1, !high)";
        reps_of_get_uncounted "A fast Get of one register completes no element.":
            "x.set_x(0, ONE_ELEMENT.0)" in "x.set_x(output + 1, high); x.set_x(0, ONE_ELEMENT.0)"
            => "x.set_x(0, 0)";
        fast_element_unchecked "Reserved words of a fast Set are ignored.":
            "x.x(first + 3) >> 32 == 0 && x.x(first + 4) == 0" => "true";
        fast_set_clobbers "A fast Set changes registers that hold no result.":
            "x.set_x(0, ONE_ELEMENT.0)"
            in "x.set_x(0, ONE_ELEMENT.0); ended(host, vp, convention, HypercallInput(SET_ONE)"
            => "(0..8).for_each(|n| x.set_x(n, ONE_ELEMENT.0))";
    }

    "hv-host/src/frame.rs" {
        reps_of_simple_calls "A simple call completes a rep.":
            "HypercallOutput::from_status(result.err().unwrap_or(HvStatus::SUCCESS))"
            => "HypercallOutput::from_status(result.err().unwrap_or(HvStatus::SUCCESS)).with_reps_completed(1)";
        fast_limit_ignored "Fast parameters may be longer than 128 bytes.":
            "input + output > FAST_BYTES" => "false";
        fast_output_place "Fast output by hvc #0 is not after the input.":
            "2 + input / 8" => "3 + input / 8";
        fast_output_place_hvc1 "Fast output by hvc #1 is not in the last registers.":
            "1 + (FAST_BYTES - output) / 8" => "1 + input / 8";
        overlap_accepted "Input and output may overlap.":
            "!apart" => "false";
        alignment_ignored "Parameters need not be aligned.":
            "!gpa.is_multiple_of(8)" => "false";
        page_crossing_accepted "Parameters may cross a page.":
            "offset + size > page::SIZE" => "false";
        alignment_status "A wrong address gets another status.":
            "HvStatus::INVALID_ALIGNMENT"
            in "!memory.contains(gpa, size as u64) { return Err(HvStatus::INVALID_ALIGNMENT)"
            => "HvStatus::INVALID_PARAMETER";
        start_index_ignored "A list is always processed from its first element.":
            "frame.start" in "(frame.start, frame.count)" => "0";
        last_element_missing "The last element of a list is not processed.":
            "frame.count" in "(frame.start, frame.count)" => "(frame.count - 1).max(1)";
        failed_element_counted "An element that failed counts as done.":
            "HypercallOutput::from_status(status).with_reps_completed(index)"
            => "HypercallOutput::from_status(status).with_reps_completed(index + 1)";
        reps_relative "Completed reps are counted from the start index.":
            "HypercallOutput::SUCCESS.with_reps_completed(frame.count)"
            => "HypercallOutput::SUCCESS.with_reps_completed(frame.count - frame.start)";
        refused_elements_counted "A call with a wrong header counts its elements as done.":
            "HypercallOutput::from_status(status).with_reps_completed(frame.start)"
            => "HypercallOutput::from_status(status).with_reps_completed(frame.count)";
        fast_limit_doubled "Fast parameters may have 256 bytes.":
            "input + output > FAST_BYTES" => "input + output > 256";
        whole_page_refused "Parameters may not end with their page.":
            "offset + size > page::SIZE" => "offset + size >= page::SIZE";
        alignment_to_16 "Parameters have to be aligned to 16 bytes.":
            "!gpa.is_multiple_of(8)" => "!gpa.is_multiple_of(16)";
        one_page_refused "Input and output may not share a page.":
            "!apart" => "!apart || input / 4096 == output / 4096";
        touching_refused "Input and output may not touch.":
            "output + output_size as u64 <= input" => "output + (output_size as u64) < input";
        unused_address_checked "An address that a call does not need has to be a right one.":
            "size == 0" => "false";
        input_written "What was read of the input is cleared.":
            "self.host.memory().read(input + offset as u64, into)"
            => "self.host.memory().read(input + offset as u64, into).and_then(|()| \
                self.host.memory().write(input + offset as u64, &[0]))";
        fast_and_memory_alike "Addresses of hvc #1 are where those of hvc #0 are.":
            "convention.control() + 1" => "2";
        output_too_long "Eight bytes behind the output are written.":
            "self.host.memory().write(output + offset as u64, words)"
            => "self.host.memory().write(output + offset as u64, words).and_then(|()| \
                self.host.memory().write(output + (offset + words.len()) as u64, &[0; 8]))";
        unused_overlap_refused "An address that a call does not need must not lie in the other parameters.":
            "input_size != 0 && output_size != 0" => "true";
        output_behind_refused "Output may not begin where the input ends.":
            "input + input_size as u64 <= output" => "input + (input_size as u64) < output";
    }

    "hv-host/src/calls.rs" {
        partition_unchecked "Any partition id is the own one.":
            "id.0 == PARTITION_ID_SELF || id.0 == self.config().partition_id" => "true";
        vtl_unchecked "Any VTL is there.":
            "vtl.use_target_vtl() && vtl.target_vtl() != 0" => "false";
        any_vp_is_self "HV_ANY_VP means the caller.":
            "index == VpIndex::SELF" => "index >= VpIndex::SELF";
        unknown_vp_is_self "An unknown VP index means the caller.":
            "Err(HvStatus::INVALID_VP_INDEX)" => "Ok(caller)";
        header_reserved_unchecked "Reserved bytes of a register header may be set.":
            "header.reserved != [0; 3]" => "false";
        element_reserved_unchecked "Reserved words of a Set in memory are ignored.":
            "reserved1 == 0 && reserved2 == 0" => "true";
        payload_size_wrong "A message arrives with another size.":
            "size as u8" => "size as u8 / 2";
        message_type_zero_accepted "A message may have type 0.":
            "message_type != 0" => "true";
        hypervisor_type_accepted "A guest may post the hypervisor's message types.":
            "!message.header.message_type.is_hypervisor()" => "true";
        post_reserved_unchecked "The reserved word of a post may be set.":
            "!size_is_good || !type_is_good || reserved != 0" => "!size_is_good || !type_is_good";
        event_port_status "A message to an event port gets another status.":
            "HvStatus::INVALID_PORT_ID"
            in "PortTarget::Message { vp, sint } = port.target else { return Err(HvStatus::INVALID_PORT_ID)"
            => "HvStatus::INVALID_CONNECTION_ID";
        sender_forgotten "A message does not name its port.":
            "u64::from(port.id)" => "0";
        event_reserved_unchecked "The reserved word of an event may be set.":
            "reserved != 0" in "let result = if reserved != 0 {" => "false";
        flag_count_unchecked "A port has all flags.":
            "flag >= count" => "false";
        flag_base_ignored "Flags are not counted from the port's base.":
            "base.checked_add(flag)" => "Some(flag)";
        connection_id_cut "Only 24 bits of a connection id count.":
            "port.connection == connection" => "port.connection == connection & 0xff_ffff";
        any_vp_unchecked "A VP whose SynIC is off is a target too.":
            "can(&vp.synic())" => "true";
        mpidr_index_wrong "The index of an MPIDR is that of another VP.":
            "vp as u64" => "vp as u64 ^ 1";
        deleted_port_status "A connection whose port is gone counts as unknown.":
            "Err(HvStatus::INVALID_PORT_ID)" in "PortTarget::Deleted { Err(HvStatus::INVALID_PORT_ID) }"
            => "Err(HvStatus::INVALID_CONNECTION_ID)";
        start_vtl_unchecked "A VP can be started in any VTL.":
            "target_vtl != 0" => "false";
        started_twice "A VP that runs can be started.":
            "self.start_vp(frame.host, frame.vp, target, &context).map_err(|_| HvStatus::INVALID_VP_STATE)"
            => "self.start_vp(frame.host, frame.vp, target, &context).or(Ok(()))";
        unknown_mpidr_is_vp_0 "An unknown MPIDR is VP 0.":
            "vp.ok_or(HvStatus::INVALID_PARAMETER)?" => "vp.unwrap_or(0)";
        vtl_reserved_unchecked "Reserved bits of a VTL may be set.":
            "vtl.reserved() != 0" => "false";
        another_vp_can_be_set "Registers of another VP can be written.":
            "target == frame.vp" => "true"
            survives "The TLFS lets a call name any VP; that only the own can be set is our host's choice.";
        padding_of_names_checked "What follows the last name of a list has to be zero.":
            "self.get_register(frame.host, target, name)"
            => "if range.start + done + 1 == usize::from(frame.count) && frame.read::<u32>(frame.list + \
                (range.start + done + 1) * NAME).unwrap_or(0) != 0 { Err(HvStatus::INVALID_PARAMETER) } else { \
                self.get_register(frame.host, target, name) }";
        own_index_refused "A VP cannot name itself by its index.":
            "vp < self.vp_count()" in "if vp < self.vp_count() { Ok(vp) }"
            => "vp < self.vp_count() && vp != caller";
        message_port_takes_events "A message port takes events, and drops them.":
            "return Err(HvStatus::INVALID_PORT_ID)"
            in "PortTarget::Event { vp, sint, base, count } = port.target else { return \
                Err(HvStatus::INVALID_PORT_ID)"
            => "return Ok(())";
        unknown_connection_takes_events "A connection that is not there takes events.":
            "host.signal_event(vp, connection, flag)" => "Ok(())";
        unknown_connection_is_the_first "A connection that is not there leads to the first port.":
            "found.ok_or(HvStatus::INVALID_CONNECTION_ID)?"
            => "found.or(self.ports().iter().enumerate().next()).ok_or(HvStatus::INVALID_CONNECTION_ID)?";
        empty_message_refused "A message without payload is refused.":
            "size as usize <= MESSAGE_PAYLOAD_SIZE" => "size != 0 && size as usize <= MESSAGE_PAYLOAD_SIZE";
        high_types_refused "Message types beyond 16 bits are refused.":
            "message_type != 0" in "let type_is_good = message_type != 0"
            => "message_type != 0 && message_type <= 0xffff";
        index_padding_garbage "The padding of a VP index is not zero.":
            "vp as u64" in "&(vp as u64)" => "vp as u64 | 1 << 32";
        long_payload_accepted "A message may claim more than 240 bytes of payload.":
            "!size_is_good" in "!size_is_good || !type_is_good" => "false";
        unused_vtl_refused "A VTL that is not to be used has to be 0.":
            "vtl.use_target_vtl() && vtl.target_vtl() != 0" => "vtl.target_vtl() != 0";
        first_reserved_unchecked "The first reserved word of a Set in memory is ignored.":
            "reserved1 == 0 && reserved2 == 0" => "reserved2 == 0";
    }

    "hv-host/src/partition.rs" {
        registers_survive_stop "A VP that is started keeps its registers.":
            "self.reset_vp(host, vp)" => "()";
        guest_id_at_reset "The guest OS id is not zero after reset.":
            "self.guest_os_id.store(0, Ordering::Release)" => "self.guest_os_id.store(1, Ordering::Release)";
    }

    "hv-host/src/traps.rs" {
        function_beyond_w0 "Bits beyond W0 count in a function id.":
            "x.x(0) as u32 == HYPERCALL" => "x.x(0) == u64::from(HYPERCALL)";
    }

    "hv-host/src/smccc.rs" {
        smccc_old "SMCCC is of version 1.0.":
            "VERSION_1_2" in "VERSION => (VERSION_1_2" => "0x1_0000";
        uid_swapped "The vendor UID has its bytes in the other order.":
            "u64::from(word)" => "u64::from(word.swap_bytes())";
        uid_beyond_32 "The vendor UID has more than 32 bits in a register.":
            "(u64::from(VENDOR_UID[0]), Action::Resume)" => "(u64::from(VENDOR_UID[0]) | 1 << 40, Action::Resume)";
        unknown_function_succeeds "An unknown SMCCC function succeeds.":
            "(NOT_SUPPORTED, Action::Resume)" => "(0, Action::Resume)";
        smccc_clobbers "An SMCCC function changes registers that hold no result.":
            "x.set_x(0, result)" => "(0..6).for_each(|n| x.set_x(n, result))";
        features_of_all "Any SMCCC function has features.":
            "if known { 0 } else { NOT_SUPPORTED }" => "0";
        uid_by_vp "The vendor UID differs from VP to VP.":
            "u64::from(word)" => "u64::from(word) ^ vp as u64";
    }

    "hv-host/src/psci.rs" {
        cpu_on_anyone "A VP that does not exist can be switched on.":
            "INVALID_PARAMETERS" in "partition.vp_count()) else { return INVALID_PARAMETERS" => "SUCCESS";
        already_on_status "A VP that is on can be switched on.":
            "ALREADY_ON" in "Err(Power::On) => ALREADY_ON" => "SUCCESS";
    }
}
