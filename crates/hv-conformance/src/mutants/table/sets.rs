//! Sets of VPs, flushes and IPIs.

mutants! {
    "hv-host/src/sets.rs" {
        bank_ignored "A sparse set is shifted by a bank.":
            "valid >> index & 1 != 0" => "valid >> ((index + 1) % BANKS) & 1 != 0";
    }

    "hv-host/src/flush.rs" {
        set_of_all_is_empty "The set of all VPs is empty.":
            "VpMask::all(self.vp_count())"
            in "GenericSetFormat::ALL.0) { return Ok(VpMask::all(self.vp_count()))"
            => "VpMask::from_mask(self.vp_count(), 0)";
        set_format_unchecked "Any format of a VP set will do.":
            "set.format != u64::from(GenericSetFormat::SPARSE_4K.0)" => "false";
        ipi_vector_unchecked "An IPI may have any vector.":
            "!IPI_VECTORS.contains(&vector)" => "false";
        ipi_vector_wrong "An IPI raises another interrupt.":
            "interrupt(host, vp, vector, Cause::Ipi)" => "interrupt(host, vp, vector ^ 1, Cause::Ipi)";
        ipi_to_all "An IPI reaches every VP.":
            "VpMask::from_mask(self.vp_count(), cpu_mask)" => "VpMask::all(self.vp_count())";
        flush_flags_unchecked "Reserved flags of a flush may be set.":
            "flags.0 & !allowed.0 == 0" => "true";
        flush_mask_ignored "A flush by mask reaches the first VP.":
            "VpMask::from_mask(self.vp_count(), mask)" => "VpMask::from_mask(self.vp_count(), 1)";
        flush_list_nothing "A flush of a list drops nothing.":
            "frame.host.flush_tlb(&targets, Flush::Pages { address_space, address, pages })" => "()";
        flush_long_list_nothing "A flush of a long list drops nothing.":
            "flush_all(frame.host, &targets, flags, address_space)"
            in "} else { flush_all(frame.host, &targets, flags, address_space)"
            => "()";
        retarget_always "Any device is retargeted.":
            "input.entry.source != InterruptSource::MSI" => "return Ok(())";
        flush_space_wrong "A flush of one address space drops another.":
            "(!flags.all_virtual_address_spaces()).then_some(address_space)"
            in "(!flags.all_virtual_address_spaces()).then_some(address_space); let non_global_only"
            => "(!flags.all_virtual_address_spaces()).then_some(address_space ^ 0x1000)";
        flush_nothing "A flush of an address space drops nothing.":
            "host.flush_tlb(targets, Flush::All { address_space, non_global_only })" => "()";
        range_short "A range leaves out its last page.":
            "(range & ADDITIONAL) + 1" => "range & ADDITIONAL";
        ipi_reserved_unchecked "Reserved bytes of an IPI may be set.":
            "reserved != [0; 3]"
            in "frame.read(0)?; Self::check_vtl(target_vtl)?; if reserved != [0; 3] { return \
                Err(HvStatus::INVALID_PARAMETER); } self.ipi"
            => "false"
            survives "The TLFS calls these bytes padding and does not say that they are looked at.";
        flush_flag_all_ignored "A flush of all VPs goes by its mask.":
            "flags.all_processors()"
            in "if flags.all_processors() { VpMask::all(self.vp_count()) } else { VpMask::from_mask"
            => "false";
        flush_all_spaces_ignored "A list flush of all address spaces drops one.":
            "(!flags.all_virtual_address_spaces()).then_some(address_space)"
            in "(!flags.all_virtual_address_spaces()).then_some(address_space); frame.host"
            => "Some(address_space)";
        flush_address_wrong "A list flush begins a page too late.":
            "Flush::Pages { address_space, address, pages }"
            in "frame.host.flush_tlb(&targets, Flush::Pages { address_space, address, pages })"
            => "Flush::Pages { address_space, address: address + 4096, pages }";
        bank_count_unchecked "Banks that a set lacks are empty.":
            "return Err(HvStatus::INVALID_HYPERCALL_INPUT)"
            in "count_ones() as usize { return Err(HvStatus::INVALID_HYPERCALL_INPUT)"
            => "return Ok(VpMask::from_mask(self.vp_count(), 0))";
        unknown_partition_retargets "A device of any partition is retargeted.":
            "input.partition_id.0 != PARTITION_ID_SELF && input.partition_id.0 != \
             self.config().partition_id"
            => "false";
        empty_set_is_all "An IPI to no VP reaches all.":
            "VpMask::from_banks(self.vp_count(), set.valid_bank_mask, |n| frame.variable_word(first + n))"
            => "if set.valid_bank_mask == 0 { Ok(VpMask::all(self.vp_count())) } else { \
                VpMask::from_banks(self.vp_count(), set.valid_bank_mask, |n| frame.variable_word(first + \
                n)) }";
        empty_set_refused "A set without VPs is refused.":
            "VpMask::from_banks(self.vp_count(), set.valid_bank_mask, |n| frame.variable_word(first + n))"
            => "if set.valid_bank_mask == 0 { Err(HvStatus::INVALID_PARAMETER) } else { \
                VpMask::from_banks(self.vp_count(), set.valid_bank_mask, |n| frame.variable_word(first + \
                n)) }";
        non_global_refused "A flush of translations that are not global is refused.":
            "flags.0 & !allowed.0 == 0" => "flags.0 & !allowed.0 == 0 && !flags.non_global_mappings_only()";
    }
}
