//! The host half of VMBus.

mutants! {
    "hv-partition/src/port.rs" {
        vmbus_message_type "VMBus's messages are of another type.":
            "MessageType(MESSAGE_TYPE)" => "MessageType(MESSAGE_TYPE + 1)";
        vmbus_sint_wrong "VMBus sends to another SINT.":
            "sint" in "target, sint, kind" => "sint ^ 1";
    }

    "hv-vmbus/src/contact.rs" {
        contact_answered_on_vp_0 "The answer to a contact goes to VP 0.":
            "if known_vp { contact.target_vp } else { 0 }" => "0";
        any_version_spoken "A host speaks any version of VMBus.":
            "!self.config().speaks(version)" => "false";
        declined_contact_connects "A contact that is declined makes a connection.":
            "None" in "let mut next = None;"
            => "Some(Connection { version: Version::V5_2, features: FeatureFlags(0), offers_requested: false })";
        refusal_on_own_sint "A SINT that is not served is declined on another one.":
            "if usize::from(sint) < SINT_COUNT { sint } else { SINT }" => "SINT";
        sint_of_old_contact "A contact on connection 1 names a SINT.":
            "named && version >= Version::V5_0" => "true";
        monitor_pages_needed "A contact has to name monitor pages.":
            "(contact.monitor_page_in == 0) != (contact.monitor_page_out == 0)"
            => "contact.monitor_page_in == 0";
        one_monitor_page_accepted "A contact may name one monitor page.":
            "(contact.monitor_page_in == 0) != (contact.monitor_page_out == 0)" => "false";
        offers_stay_known "A contact leaves the channels known that the guest was offered before.":
            "this.stage = Stage::Hidden" => "()";
        unknown_features_granted "All features are granted.":
            "FeatureFlags(asked.0 & self.config().features.0 & KNOWN_FEATURES.0)" => "asked";
        features_granted_unasked "Features are granted to a guest that did not ask for them.":
            "FeatureFlags(asked.0 & self.config().features.0 & KNOWN_FEATURES.0)"
            => "FeatureFlags(self.config().features.0 & KNOWN_FEATURES.0)";
        released_channel_lost "A channel that the guest has released is not offered again.":
            "this.lasting" in "if this.lasting => { this.stage = Stage::Hidden"
            => "this.lasting && this.stage != Stage::Declined";
        connection_outlives_unload "UNLOAD leaves the connection.":
            "control.connection = Optional::None" => "()";
        channels_outlive_unload "UNLOAD leaves the channels open.":
            "self.close(part, line)" => "()";
        sint_of_contact_refused "A contact on a connection of version 5 has to name no SINT.":
            "sint != SINT" => "sint != 0";
    }

    "hv-vmbus/src/outbox.rs" {
        no_version_supported "No version is supported.":
            "answer.response.supported = 1" => "answer.response.supported = 0";
        connection_state_wrong "A contact that succeeds tells of a failure.":
            "answer.response.connection_state = self.state"
            => "answer.response.connection_state = ConnectionState::UNKNOWN_FAILURE";
        features_untold "An answer to version 6.0 tells no features.":
            "answer.version.is_some_and(|v| v >= Version::V6_0)" => "false";
        message_connection_wrong "The answer names a connection that is not there.":
            "self.message_connection" => "self.message_connection + 1";
    }

    "hv-vmbus/src/config.rs" {
        old_connection_unknown "Connection 1 takes no message.":
            "matches!(connection, connection::MESSAGE_CONNECTION_ID | connection::MESSAGE_CONNECTION_ID_4)"
            => "(connection == connection::MESSAGE_CONNECTION_ID_4)";
    }

    "hv-vmbus/src/settle.rs" {
        gpadls_outlive_connection "The page lists of a connection outlive it.":
            "self.gpadls.pool().clear()" => "()";
        offers_unasked "Offers come without a request.":
            "control.connection = next.into()"
            => "{ control.connection = next.map(|c| crate::control::Connection { offers_requested: true, ..c }).into(); \
                control.changes = true; }";
        unload_answered_twice "UNLOAD is answered twice.":
            "control.outbox.push(Pending::UnloadResponse)"
            => "control.outbox.push(Pending::UnloadResponse) && control.outbox.push(Pending::UnloadResponse)";
        unload_unanswered "UNLOAD is not answered.":
            "control.outbox.push(Pending::UnloadResponse)" => "false";
        contact_unanswered "INITIATE_CONTACT is not answered.":
            "control.outbox.push(Pending::Contact(answer))" => "false";
        offers_never_end "Nothing follows the last offer.":
            "post(port, control.vp, SINT, MessageType::ALL_OFFERS_DELIVERED, &done)" => "true";
        offers_end_again "The end of the offers is told again.":
            "control.offers_end = false" => "()";
        offer_twice "An offer comes twice.":
            "post(self.port, self.vp, SINT, MessageType::OFFER_CHANNEL, &Encoded::new(&this.message(id)))"
            => "(0..2).all(|_| post(self.port, self.vp, SINT, MessageType::OFFER_CHANNEL, \
                &Encoded::new(&this.message(id))))";
        subchannel_index_1 "All sub-channels have the same index.":
            "index as u16" in "offer.subchannel_index = index as u16" => "1";
        subchannel_of_another "A sub-channel is of another device.":
            "part.lines()[0].offer" in "let mut offer = part.lines()[0].offer"
            => "ChannelOffer { instance: crate::protocol::Guid::ZERO, ..part.lines()[0].offer }";
        teardown_unanswered "GPADL_TEARDOWN is not answered.":
            "post(port, vp, SINT, message.kind(), &message.encode())" => "true";
        teardown_of_all "GPADL_TEARDOWN removes all page lists.":
            "pool.remove(at)" => "pool.clear()";
        teardown_keeps_list "GPADL_TEARDOWN leaves the page list.":
            "pool.remove(at)" => "()";
        rescinded_again "A channel is rescinded again and again.":
            "this.stage = Stage::Gone" => "()";
        number_used_again "A number that the guest has not released is used again.":
            "line.stage == Stage::Vacant" => "matches!(line.stage, Stage::Vacant | Stage::Gone)";
    }

    "hv-vmbus/src/incoming.rs" {
        unconnected_guest_answered "A guest is answered that has made no contact.":
            "control.connection.get()" in "let Some(Connection { version, features, .. }) = control.connection.get()"
            => "control.connection.get().or(Some(Connection { version: Version::V5_2, features: \
                crate::protocol::FeatureFlags(0), offers_requested: false }))";
        signal_refused "No signal is taken.":
            "if taken { Ok(()) } else { Err(Refused::NoConnection) }" => "Err(Refused::NoConnection)";
        unknown_message_answered "A message of an unknown kind is answered.":
            "Err(Reason::Unknown)" in "_ => Err(Reason::Unknown)"
            => "{ control.outbox.push(crate::outbox::Pending::OpenResult(ChannelId(1), 0, \
                crate::protocol::NtStatus::SUCCESS)); Err(Reason::Unknown) }";
        offers_made_again "A second request for offers brings them again.":
            "request_offers(control)" in "MessageType::REQUEST_OFFERS => request_offers(control)"
            => "{ self.parts_in_use(port, |part, _| { let reach = part.reach(); for line in &mut \
                part.lines()[..reach] { if line.stage == crate::line::Stage::Known { line.stage = crate::line::Stage::Hidden; } } }); \
                request_offers(control) }";
        unload_waits_for_channels "UNLOAD is ignored while a channel is open.":
            "self.unload(control, port)"
            => "if !self.gpadls.pool().iter().any(|(_, gpadl)| gpadl.state == crate::gpadl::State::Rings) { \
                self.unload(control, port) }";
    }

    "hv-vmbus/src/reach.rs" {
        rings_stay_in_use "The rings of a closed channel stay in use.":
            "pool.set_state(entry, State::Ready, gpadl.fate)" => "()";
    }

    "hv-vmbus/src/parse.rs" {
        short_message_completed "A message that is too short ends with zeros.":
            "T::read_from_prefix(payload).map(|(message, _)| message).map_err(|_| Reason::TooShort)"
            => "Ok(T::read_from_prefix(payload).map_or_else(|_| T::new_zeroed(), |(message, _)| message))";
    }

    "hv-vmbus/src/line.rs" {
        channel_numbers_equal "All channels have the same number.":
            "id" in "channel: id," => "ChannelId(1)";
        channel_number_large "A channel's number is not an event flag.":
            "id" in "channel: id," => "ChannelId(id.0 + 2048)";
        channel_connections_equal "All channels have the same connection.":
            "default_connection(id)" in "connection: default_connection(id)"
            => "default_connection(ChannelId(1))";
        channel_connection_wellknown "A channel's connection is its number.":
            "default_connection(id)" in "connection: default_connection(id)" => "id.0";
        shared_interrupt "A channel has no interrupt of its own.":
            "1" in "dedicated_interrupt: 1" => "0";
        monitor_missing "A channel has a monitor that does not exist.":
            "OfferChannel { header: MessageHeader::new(MessageType::OFFER_CHANNEL), offer: self.offer, \
             channel: id, monitor_id: 0, monitor_allocated: 0, dedicated_interrupt: 1, connection: \
             default_connection(id), }"
            => "OfferChannel { header: MessageHeader::new(MessageType::OFFER_CHANNEL), offer: self.offer, \
                channel: id, monitor_id: 200, monitor_allocated: 1, dedicated_interrupt: 1, connection: \
                default_connection(id) }";
        offer_without_instance "An offer has no instance.":
            "self.offer" in "offer: self.offer,"
            => "ChannelOffer { instance: crate::protocol::Guid::ZERO, ..self.offer }";
        offer_reserved_set "A reserved word of an offer is set.":
            "self.offer" in "offer: self.offer," => "ChannelOffer { reserved1: [1, 0], ..self.offer }";
        offer_of_subchannel "An offer is a sub-channel's.":
            "self.offer" in "offer: self.offer," => "ChannelOffer { subchannel_index: 1, ..self.offer }";
        offer_confidential "An offer is confidential.":
            "self.offer" in "offer: self.offer,"
            => "ChannelOffer { flags: self.offer.flags.with_confidential_ring(true), ..self.offer }";
        pipe_mode_unknown "A pipe has a mode that does not exist.":
            "self.offer" in "offer: self.offer," => "ChannelOffer { user_defined: [7; 120], ..self.offer }";
    }

    "hv-vmbus/src/gpadl.rs" {
        filled_list_short "Page numbers after the second body overwrite those before.":
            "gpadl.filled" in "let mut filled = gpadl.filled" => "gpadl.filled.min(54)";
        list_early "A page list is complete with its first message.":
            "filled < gpadl.len" => "false";
        list_names_short "The name of a page list has 31 bits.":
            "len == 0 || ranges == 0" => "len == 0 || ranges == 0 || id.0 >> 31 != 0";
        one_range_alone "A page list has one range.":
            "len == 0 || ranges == 0" => "len == 0 || ranges != 1";
        no_bytes_behind "A message has no bytes behind its page numbers.":
            "len == 0 || ranges == 0" => "len == 0 || ranges == 0 || data.len() > usize::from(bytes)";
        empty_list_created "A page list without ranges is created.":
            "Err(Reason::BadRange)" in "if len == 0 || ranges == 0 { return Err(Reason::BadRange)"
            => "Ok(Some(0))";
        four_lists "There are four page lists at most.":
            "self.entries.iter().position(|e| !e.is_used())"
            => "self.entries.iter().take(4).position(|e| !e.is_used())";
        list_of_channel_1 "All page lists are channel 1's.":
            "u64::from(gpadl.channel)" => "1u64";
        list_in_use_taken "A page list replaces one of the same name.":
            "self.slot(id).is_some()"
            => "self.slot(id).is_some_and(|(at, _)| { self.remove(at); false })";
        ranges_aligned "A range begins with its first page.":
            "bytes == 0 || offset >= PAGE" => "bytes == 0 || offset != 0";
        ranges_whole "A range ends with its last page.":
            "bytes == 0 || offset >= PAGE" => "bytes == 0 || bytes % PAGE != 0";
        empty_range_created "A range without bytes is accepted.":
            "bytes == 0" in "bytes == 0 || offset >= PAGE" => "false";
        offset_unchecked "A range begins anywhere.":
            "offset >= PAGE" in "bytes == 0 || offset >= PAGE" => "false";
        pages_of_range_unchecked "A range has fewer pages than bytes.":
            "usize::try_from(pages).map_err(|_| Reason::BadRange)?" => "(pages as usize).min(rest.len())";
        ranges_uncounted "A page list has fewer ranges than it says.":
            "words.split_first().ok_or(Reason::BadRange)?"
            => "match words.split_first() { Some(parts) => parts, None => break }";
    }

    "hv-vmbus/src/messages.rs" {
        gpadl_fails "No page list is created.":
            "NtStatus::SUCCESS" in "Pending::GpadlCreated(channel, gpadl, NtStatus::SUCCESS)"
            => "NtStatus::UNSUCCESSFUL";
        gpadl_channel_wrong "The answer to a page list names another channel.":
            "header.channel" in "gpadl_answer(control, header.channel" => "ChannelId(header.channel.0 + 1)";
        gpadl_header_cut "The last page number of GPADL_HEADER is not read.":
            "&payload[size_of::<GpadlHeader>()..]" => "&payload[size_of::<GpadlHeader>()..payload.len().min(228)]";
        gpadl_body_ignored "GPADL_BODY has no page numbers.":
            "&payload[size_of::<GpadlBody>()..]" => "&payload[..0]";
        gpadl_of_no_channel "A page list may be an unknown channel's.":
            "self.known(header.channel, port, |_, _| Ok(()))" => "Ok::<(), Reason>(())";
        unknown_body_answered "GPADL_BODY of an unknown page list is answered.":
            "pool.find(body.gpadl).ok_or(Reason::UnknownGpadl)?"
            => "pool.find(body.gpadl).ok_or_else(|| { \
                control.outbox.push(Pending::GpadlTorndown(body.gpadl)); Reason::UnknownGpadl })?";
        late_body_answered "GPADL_BODY after the last one is answered.":
            "gpadl.state != State::Filling" => "false";
        teardown_by_others "A page list is torn down on any channel.":
            "gpadl.channel != channel.0" => "false";
        open_id_cut "The answer to OPENCHANNEL has a part of the open id.":
            "request.open_id" in "request.open_id, status(&outcome)" => "request.open_id & 0xffff";
        open_channel_wrong "The answer to OPENCHANNEL names channel 1.":
            "request.channel" in "Pending::OpenResult(request.channel" => "ChannelId(1)";
        open_always_succeeds "OPENCHANNEL never fails.":
            "status(&outcome)" in "request.open_id, status(&outcome)" => "NtStatus::SUCCESS";
        open_again "An open channel is opened again.":
            "Err(Reason::AlreadyOpen)" in "if this.open.is_some() { return Err(Reason::AlreadyOpen)"
            => "Ok(())";
        open_twice_closes "A second OPENCHANNEL closes the channel.":
            "Err(Reason::AlreadyOpen)" in "if this.open.is_some() { return Err(Reason::AlreadyOpen)"
            => "{ self.close(part, line); Err(Reason::AlreadyOpen) }";
        rings_of_any_list "A channel's rings are in any page list.":
            "pool.find(id)" in "let found = pool.find(id)" => "pool.find(id).or(pool.iter().next())";
        rings_of_another_channel "A channel's rings are in another channel's page list.":
            "gpadl.channel == channel" => "true";
        split_too_small "A guest ring without data is given some.":
            "request.downstream_page_offset" => "request.downstream_page_offset.max(2)";
        split_too_large "A host ring without pages is given some.":
            "request.downstream_page_offset" => "request.downstream_page_offset.min(2)";
        close_answered "CLOSECHANNEL is answered.":
            "control.changes = true"
            in "let CloseChannel { channel: id, .. } = parse(payload)?; control.changes = true"
            => "{ control.changes = true; control.outbox.push(Pending::OpenResult(id, 0, \
                NtStatus::UNSUCCESSFUL)); }";
        close_of_all "CLOSECHANNEL closes all channels.":
            "control.changes = true"
            in "let CloseChannel { channel: id, .. } = parse(payload)?; control.changes = true"
            => "{ control.changes = true; self.parts_in_use(port, |part, _| for line in 0..part.reach() { \
                self.close(part, line); }) }";
        subchannels_stay "Sub-channels outlive the end of the first channel.":
            "rescind_subchannels(part)" in "if line == 0 { rescind_subchannels(part)" => "()";
        declined_rescinded "A channel that the guest has released is rescinded.":
            "part.release(line)" in "Stage::Hidden | Stage::Declined => part.release(line)" => "this.stage = Stage::Leaving";
        rescinded_opened "A rescinded channel is opened.":
            "this.is_rescinded()" in "let this = &part.lines()[line]; if this.is_rescinded()" => "false";
        released_memory_kept "The memory of a released channel keeps its names.":
            "pool.set_state(at, gpadl.state, Fate::Drop)" => "()";
        subchannels_never_again "A released sub-channel is not offered again.":
            "part.release(line)" in "_ => part.release(line), } // Lists" => "()";
        chosen_flag_ignored "A flag that the guest chooses is not used.":
            "(flag, connection) = (signal.event_flag, signal.connection)" => "connection = signal.connection";
        chosen_connection_ignored "A connection that the guest chooses is not used.":
            "(flag, connection) = (signal.event_flag, signal.connection)" => "flag = signal.event_flag";
        move_ignored "MODIFYCHANNEL moves nothing.":
            "open.vp = vp" => "()";
        refusal_untold "A refused connection is not told.":
            "outcome.is_err() && version >= Version::V4_1" => "false";
        refusal_always_told "A refused connection is told in any version.":
            "outcome.is_err() && version >= Version::V4_1" => "outcome.is_err()";
        refusal_status_wrong "A refused connection has another status.":
            "NtStatus::CONNECTION_REFUSED" => "NtStatus::UNSUCCESSFUL";
        refusal_ends_wrong "A refused connection has the service at both ends.":
            "endpoint" in "Pending::ConnectResult(endpoint, service" => "service";
        move_unanswered "MODIFYCHANNEL is not answered.":
            "version >= Version::V5_3" => "false";
        move_always_answered "MODIFYCHANNEL is answered in any version.":
            "version >= Version::V5_3" => "true";
        move_never_fails "MODIFYCHANNEL never fails.":
            "status(&outcome)" in "Pending::ModifyResponse(request.channel, status(&outcome))"
            => "NtStatus::SUCCESS";
    }
}
