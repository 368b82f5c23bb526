//! The protocols of the devices.

mutants! {
    "hv-devices/src/ic.rs" {
        versions_unasked "A service offers no versions.":
            "negotiate(Self::PROTOCOL, io)" => "()";
        versions_twice "A service offers its versions twice.":
            "negotiate(Self::PROTOCOL, io)"
            => "{ negotiate(Self::PROTOCOL, io); negotiate(Self::PROTOCOL, io) }";
        versions_uncounted "A service offers a version less than it says.":
            "versions.len() as u16" in "message_versions: versions.len() as u16" => "0";
        versions_of_the_future "A service offers versions that do not exist.":
            "versions.as_bytes()" in "[negotiate.as_bytes(), protocol.frameworks.as_bytes(), versions.as_bytes()]"
            => "(const { &[0x7fu8; 16] } as &[u8]).split_at(versions.as_bytes().len()).0";
        service_kind_wrong "The first message of a service is of its own kind.":
            "MessageType::NEGOTIATE" in "header.message_type = MessageType::NEGOTIATE" => "protocol.kind";
        service_wants_nothing "A message of a service wants no answer.":
            "FLAG_TRANSACTION | FLAG_REQUEST" in "header.flags = FLAG_TRANSACTION | FLAG_REQUEST"
            => "FLAG_RESPONSE";
        service_size_wrong "A message of a service says that it is longer.":
            "len as u16" in "header.message_size = len as u16" => "len as u16 + 4";
        service_versions_wrong "A message of a service has other versions.":
            "header.message_version = version"
            => "header.message_version = Version { major: 9, minor: 9 }";
        no_version_is_one "A guest without a version has the newest.":
            "(one_each && protocol.offers(framework, version)).then_some((framework, version))"
            => "(protocol.offers(framework, version) || !one_each).then_some((protocol.frameworks[0], \
                protocol.versions[0]))";
    }

    "hv-devices/src/heartbeat.rs" {
        heartbeat_missing "No heartbeat comes.":
            "Some(self.next)" => "None";
        heartbeat_stands_still "A heartbeat does not go on.":
            "self.sequence = answer" => "()";
    }

    "hv-devices/src/time_sync.rs" {
        time_missing "No time comes.":
            "(!link.is_waiting()).then_some(self.next)" => "None";
        time_since_start "The time is that since the start.":
            "self.origin.wrapping_add(now)" => "FileTime(now.ticks())";
        time_is_sample "The first time is a sample.":
            "TIME_SYNC_SYNC" in "TIME_SYNC_SAMPLE } else { TIME_SYNC_SYNC }" => "TIME_SYNC_SAMPLE";
        time_without_reference "The time has no reference.":
            "now.ticks().into()" in "body.reference_time = now.ticks().into()" => "0u64.into()";
        time_always_new "The time has its reference in every version.":
            "version.major >= 4" => "true";
    }

    "hv-devices/src/storage.rs" {
        storage_version_unknown "A controller speaks no version.":
            "!known || io.refuses(u32::from(major) << 16 | u32::from(minor))" => "true";
        storage_version_any "A controller speaks any version.":
            "!known || io.refuses(u32::from(major) << 16 | u32::from(minor))" => "false";
        storage_operation_any "Any operation succeeds.":
            "NtStatus::NOT_SUPPORTED" => "NtStatus::SUCCESS";
        storage_begun_always "A controller needs no beginning.":
            "self.state == State::Start" => "false";
        storage_transfers_nothing "A controller takes no bytes.":
            "properties.max_transfer_bytes = MAX_TRANSFER" => "()";
        storage_channels_untold "A controller does not say that it has sub-channels.":
            "if channels > 1 { FLAG_MULTI_CHANNEL } else { 0 }" => "0";
        storage_never_succeeds "No operation succeeds.":
            "NtStatus::SUCCESS" in "_ => return NtStatus::NOT_SUPPORTED, } NtStatus::SUCCESS"
            => "NtStatus::UNSUCCESSFUL";
        storage_reset_unknown "A reset of the bus fails.":
            "self.units.iter_mut().filter_map(Bay::unit_mut).for_each(|unit| unit.disk.reset())"
            => "return NtStatus::NOT_SUPPORTED";
        storage_subchannels_any "Any number of sub-channels is granted.":
            "usize::from(count) >= io.channels() || io.subchannels(count) != count"
            => "{ io.subchannels(count); false }";
        storage_subchannels_fewer "A sub-channel less is offered than was asked for.":
            "io.subchannels(count) != count" => "{ io.subchannels(count - 1); false }";
        storage_subchannels_refused "No sub-channels are granted.":
            "usize::from(count) >= io.channels() || io.subchannels(count) != count" => "true";
    }

    "hv-devices/src/storage/device.rs" {
        storage_answer_kind "An answer has its request's operation.":
            "answer.header.operation = Operation::COMPLETE_IO" => "()";
        storage_answer_short "An answer is shorter than its request.":
            "&answer.as_bytes()[..len]" => "&answer.as_bytes()[..len - 16]";
        storage_early_request "A request is carried out before the last packet.":
            "srb.operation() == Operation::EXECUTE_SRB && self.state == State::Ready"
            => "srb.operation() == Operation::EXECUTE_SRB";
        storage_last_packet_ignored "A controller never carries a request out.":
            "self.state == State::Ready" in "srb.operation() == Operation::EXECUTE_SRB && self.state == State::Ready"
            => "false";
    }

    "hv-devices/src/storage/srb.rs" {
        absent_unit_good "An absent unit answers.":
            "SrbStatus::INVALID_LUN" => "SrbStatus::SUCCESS";
        invalid_request_good "An invalid request succeeds.":
            "SrbStatus::INVALID_REQUEST" => "SrbStatus::SUCCESS";
        sense_not_told "Sense data are not announced.":
            "request.srb_status |= AUTOSENSE_VALID" => "()";
        sense_length_wrong "Sense data have no length.":
            "Sense::LEN as u8" in "request.sense_length = Sense::LEN as u8" => "0";
        refusal_moves_data "A refusal says that it moved data.":
            "self.ended(SrbStatus::ERROR, Status::CheckCondition, 0)"
            => "{ let len = self.transfer(); self.ended(SrbStatus::ERROR, Status::CheckCondition, len) }";
        good_moves_nothing "A request that succeeds says that it moved nothing.":
            "self.ended(status, Status::Good, bytes)" => "self.ended(status, Status::Good, 0)";
    }

    "hv-devices/src/storage/command.rs" {
        unit_list_empty "The list of units is empty.":
            "8 * count" in "let bytes: u32 = 8 * count" => "0";
        unit_list_odd "The list of units has a part of an entry.":
            "8 * count" in "let bytes: u32 = 8 * count" => "8 * count + 4";
        unit_list_wrong "The list of units has other numbers.":
            "unit.lun" in "entry[1] = unit.lun" => "unit.lun + 1";
    }

    "hv-devices/src/scsi/command.rs" {
        unknown_command_field "An unknown command has an invalid field.":
            "Sense::INVALID_OPCODE" in "_ => return Err(Sense::INVALID_OPCODE)" => "Sense::INVALID_FIELD";
        page_code_ignored "A page code without EVPD is ignored.":
            "page.is_none() && cdb[2] != 0" => "false";
        long_read_elsewhere "READ(16) reads the next block.":
            "be64(cdb, 2)" => "be64(cdb, 2) + 1";
    }

    "hv-devices/src/scsi/inquiry.rs" {
        disk_is_optical "A disk is an optical one.":
            "describe(0, 0, PRODUCT)" => "describe(OPTICAL, 0, PRODUCT)";
        vendor_wrong "A disk is another vendor's.":
            "data.push(VENDOR)" in "CMDQUE]); data.push(VENDOR)" => "data.push(b\"VENDOR  \")";
        vital_page_unknown "A page of vital product data is another one.":
            "code" in "data.push(&[if optical { OPTICAL } else { 0 }, code, 0, 0])" => "code ^ 1";
        vital_page_any "Any page of vital product data exists.":
            "!pages.contains(&code)"
            => "{ if !pages.contains(&code) { return Ok(Data::new()); } false }";
        vital_page_fails "A page of vital product data that is listed does not exist.":
            "!pages.contains(&code)" => "code == PROVISIONING";
    }

    "hv-devices/src/scsi/disk.rs" {
        inquiry_uncut "An inquiry ignores the allocation length.":
            "inquiry::standard(self).cut(allocation)" => "inquiry::standard(self)";
        disk_not_ready "A disk is not ready.":
            "self.loaded()?" in "Command::TestUnitReady => { self.loaded()?" => "Err::<(), _>(Sense::NO_MEDIUM)?";
        capacity_short "READ CAPACITY(16) gives a block less.":
            "self.blocks().saturating_sub(1)" in "data.push(&self.blocks().saturating_sub(1).to_be_bytes())"
            => "self.blocks().saturating_sub(2)";
        capacity_zero "READ CAPACITY(10) gives one block.":
            "self.blocks().saturating_sub(1)" in "let last = self.blocks().saturating_sub(1)" => "0u64";
        end_unchecked "A block beyond the end is an invalid field.":
            "Sense::OUT_OF_RANGE" in "if end > self.blocks() { return Err(Sense::OUT_OF_RANGE)"
            => "Sense::INVALID_FIELD";
        verify_unchecked "VERIFY looks at nothing.":
            "self.extent(block, count, u32::MAX)?" => "(0, 0)";
        no_blocks_refused "A read without blocks is refused.":
            "Reply::Good"
            in "match self.extent(block, count, self.max_transfer_blocks()) { Ok((_, 0)) => Reply::Good, Ok((offset, \
                len)) => Reply::Transfer(Transfer::Read"
            => "Reply::Check(Sense::INVALID_FIELD)";
        flush_refused "SYNCHRONIZE CACHE is refused.":
            "Reply::Transfer(Transfer::Flush)" => "Reply::Check(Sense::INVALID_OPCODE)";
    }

    "hv-devices/src/input.rs" {
        input_version_any "An input device speaks any version.":
            "version == E::VERSION && !io.refuses(version)" => "true";
        input_version_unknown "An input device speaks no version.":
            "version == E::VERSION && !io.refuses(version)" => "false";
    }

    "hv-devices/src/mouse.rs" {
        mouse_version_lost "The mouse answers without the version.":
            "U32::new(version)" => "U32::new(0)";
        mouse_not_described "The mouse does not describe itself.":
            "io.send_parts(Channel::PRIMARY, Message::default(), &[INFO.as_bytes(), &REPORT_DESCRIPTOR])?"
            => "()";
        mouse_description_cut "The description of the mouse is cut.":
            "&REPORT_DESCRIPTOR" in "&[INFO.as_bytes(), &REPORT_DESCRIPTOR]" => "&REPORT_DESCRIPTOR[..20]";
    }

    "hv-devices/src/balloon.rs" {
        memory_version_any "Dynamic memory speaks any version.":
            "known && !io.refuses(version)" => "true";
        memory_version_unknown "Dynamic memory speaks no version.":
            "known && !io.refuses(version)" => "false";
        memory_size_wrong "An answer of dynamic memory has no length.":
            "size_of::<VersionResponse>()" in "self.header(MessageType::VERSION_RESPONSE, size_of::<VersionResponse>())"
            => "0";
        memory_capabilities_refused "What the guest is able to do is refused.":
            "1" in "CapabilitiesResponse { header, accepted: 1 }" => "0";
        memory_asked_early "Memory is asked for before the guest has told what it can.":
            "io.observe(Channel::PRIMARY, AGREED, version.into())"
            => "{ let header = self.header(MessageType::BALLOON_REQUEST, size_of::<BalloonRequest>()); let \
                request = BalloonRequest { header, pages: 512, reserved: 0 }; let _ = \
                io.send(Channel::PRIMARY, Message::default(), request.as_bytes()); }";
    }

    "hv-devices/src/network.rs" {
        card_version_any "A card speaks any version.":
            "if known { Status::SUCCESS } else { Status::FAIL }" => "Status::SUCCESS";
        card_version_unknown "A card speaks no version.":
            "if known { Status::SUCCESS } else { Status::FAIL }" => "Status::FAIL";
        receive_buffer_refused "A card takes no receive buffer.":
            "refused || count as usize <= CONTROL_SECTIONS" => "true";
        receive_buffer_missing "A card takes a receive buffer that does not exist.":
            "refused || count as usize <= CONTROL_SECTIONS" => "refused";
        receive_sections_many "The sections are more than the receive buffer.":
            "count" in "num_sub_allocs: count" => "count + 8";
        receive_sections_none "A receive buffer has no kind of sections.":
            "1" in "num_sections: 1" => "0";
        send_buffer_refused "A card takes no send buffer.":
            "self.version == Version(0) || self.send.present || sections == 0" => "true";
        send_buffer_missing "A card takes a send buffer that does not exist.":
            "self.version == Version(0) || self.send.present || sections == 0" => "false";
    }

    "hv-devices/src/network/receive.rs" {
        receive_set_wrong "An answer names another set of pages.":
            "self.receive.id()" => "self.receive.id() ^ 1";
    }

    "hv-devices/src/network/control.rs" {
        card_not_initialized "A card is not initialized.":
            "if good { Status::SUCCESS } else { Status::BAD_VERSION }" => "Status::BAD_VERSION";
        initialize_id_wrong "The answer to an initialization has another id.":
            "request.request_id" in "InitializeComplete { request_id: request.request_id" => "0";
        keepalive_id_wrong "The answer to a keepalive has another id.":
            "request.request_id" in "KeepaliveComplete { request_id: request.request_id" => "0";
    }

    "hv-devices/src/network/objects.rs" {
        card_without_address "A card has no address.":
            "Some(Value::of(&[&self.mac]))" => "Some(Value::of(&[&[0; 6]]))";
        card_with_two_addresses "A card has another address now.":
            "Some(Value::of(&[&self.address]))" => "Some(Value::of(&[&[2; 6]]))";
        link_state_wrong "The link has a state that does not exist.":
            "word(self.shows_down().into())" => "word(7)";
        frame_without_length "A frame has no length.":
            "word(longest - ETHERNET)" => "word(0)";
        any_object_known "Any object is known.":
            "None" in "Some(self.offload(&Offloads { on: [true; 7] })), _ => None" => "word(0)";
        filter_refused "The filter is not set.":
            "Status::SUCCESS" in "self.filter = filter; Status::SUCCESS" => "Status::INVALID_LENGTH";
    }

    "hv-devices/src/video.rs" {
        screen_without_version "A screen speaks no version.":
            "major == MAJOR && minor <= NEWEST && !io.refuses(number)" => "false";
        screen_with_any_version "A screen speaks every version.":
            "major == MAJOR && minor <= NEWEST && !io.refuses(number)" => "true";
        screen_version_turned "The answer has the halves of the version the other way round.":
            "U32::new(version)" => "U32::new(number)";
        no_screen "There is no screen.":
            "1" in "max_video_outputs: 1" => "0";
        no_resolutions "There are no resolutions.":
            "RESOLUTIONS.len().min(request.maximum.into())" => "0";
        default_resolution_beyond "The first resolution is behind the last one.":
            "[count as u8, 0, 0]" => "[count as u8, count as u8, 0]";
        resolution_missing "The last resolution is missing.":
            "RESOLUTIONS[..count].as_bytes()" => "RESOLUTIONS[..count - 1].as_bytes()";
        screen_undescribed "The screen does not describe itself.":
            "&EDID" => "&[0; 128]";
        memory_context_lost "The answer to a place has no context.":
            "U64::new(context)" => "U64::new(0)";
        any_place_taken "The video memory may be anywhere.":
            "!context" => "context";
        memory_kept "The video memory cannot be taken back.":
            "location.has_address != 0 && !self.has_room(address)" => "!self.has_room(address)";
        picture_context_lost "The answer to a picture has no context.":
            "update.user_context" => "U64::ZERO";
        memory_before_version "The video memory is placed without a version.":
            "return None" in "if self.step != Step::Ready { return None" => "()";
        changes_answered "Changes are answered.":
            "self.report(packet, io)?"
            => "{ self.report(packet, io)?; send(io, MessageType::DIRT, &[]) }";
        short_report_fatal "A report with too few changes ends the host.":
            "return None" in "size_of::<Rectangle>() { return None" => "panic!(\"changes are missing\")";
        unknown_of_screen_answered "An unknown message is answered by one of its kind.":
            "return None" in "_ => return None" => "send(io, kind, &[])";
    }
}
