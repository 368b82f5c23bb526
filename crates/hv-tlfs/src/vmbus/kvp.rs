//! Key-value pairs: the service by which host and guest tell each other of themselves.
//!
//! A request of type [`KVP_EXCHANGE`](super::ic::MessageType::KVP_EXCHANGE) is a [`Header`] and what its operation has:
//! [`Value`], [`Delete`], [`Enumerate`], or [`IpMessage`], which has no padding after the two bytes. Text is UTF-16
//! with a closing zero, and sizes are bytes with it. The guest sends the same back, filled.

use zerocopy::FromZeros as _;

open_enum! {
    table OPERATION_TYPE, from "Linux 6.12, include/uapi/linux/hyperv.h";
    names [OPERATIONS];
    /// What is asked.
    pub struct Operation(u8) = "hv_kvp_exchg_op";
}

constants! {
    table OPERATIONS, kind "kvp-operation", from "Linux 6.12, include/uapi/linux/hyperv.h", impl Operation;

    /// The value of a key: [`Value`].
    GET = 0, "KVP_OP_GET";
    /// Set it: [`Value`].
    SET = 1, "KVP_OP_SET";
    /// Remove the key: [`Delete`].
    DELETE = 2, "KVP_OP_DELETE";
    /// The pair with an index: [`Enumerate`]. After the last the status is
    /// [`Status::CONTINUE`](super::ic::Status::CONTINUE).
    ENUMERATE = 3, "KVP_OP_ENUMERATE";
    /// Addresses of a network adapter: [`IpMessage`].
    GET_IP_INFO = 4, "KVP_OP_GET_IP_INFO";
    /// Set them: [`IpMessage`].
    SET_IP_INFO = 5, "KVP_OP_SET_IP_INFO";
}

open_enum! {
    table POOL_TYPE, from "Linux 6.12, include/uapi/linux/hyperv.h";
    names [POOLS];
    /// Pool that a pair belongs to.
    pub struct Pool(u8) = "hv_kvp_exchg_pool";
}

constants! {
    table POOLS, kind "kvp-pool", from "Linux 6.12, include/uapi/linux/hyperv.h", impl Pool;

    /// What an administrator of the host writes.
    EXTERNAL = 0, "KVP_POOL_EXTERNAL";
    /// What the guest writes for the host.
    GUEST = 1, "KVP_POOL_GUEST";
    /// What the guest's service knows: its name, its system's name and version, its addresses.
    AUTO = 2, "KVP_POOL_AUTO";
    /// What the host reports about itself.
    AUTO_EXTERNAL = 3, "KVP_POOL_AUTO_EXTERNAL";
    /// Likewise, not for guests.
    AUTO_INTERNAL = 4, "KVP_POOL_AUTO_INTERNAL";
}

constants! {
    table VALUE_TYPES, kind "kvp-value-type", from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// In [`Value::value_type`]: text.
    pub const VALUE_TEXT: u32 = 1, "REG_SZ";
    /// A number of 32 bits.
    pub const VALUE_U32: u32 = 4, "REG_U32";
    /// A number of 64 bits.
    pub const VALUE_U64: u32 = 8, "REG_U64";
}

constants! {
    table LIMITS, kind "kvp-limit", from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// Bytes of a key at most, its closing zero included.
    pub const MAX_KEY_SIZE: usize = 512, "HV_KVP_EXCHANGE_MAX_KEY_SIZE";
    /// Bytes of a value at most, its closing zero included.
    pub const MAX_VALUE_SIZE: usize = 2048, "HV_KVP_EXCHANGE_MAX_VALUE_SIZE";
    /// Characters of an adapter's name at most.
    pub const MAX_ADAPTER_CHARS: usize = 128, "MAX_ADAPTER_ID_SIZE";
    /// Characters of a list of addresses at most.
    pub const MAX_ADDRESSES_CHARS: usize = 1024, "MAX_IP_ADDR_SIZE";
    /// Characters of a list of gateways at most.
    pub const MAX_GATEWAYS_CHARS: usize = 512, "MAX_GATEWAY_SIZE";
}

constants! {
    table FAMILIES, kind "kvp-family", from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// In [`IpAddress::family`]: neither.
    pub const FAMILY_NONE: u8 = 0, "ADDR_FAMILY_NONE";
    /// IPv4.
    pub const FAMILY_IPV4: u8 = 1, "ADDR_FAMILY_IPV4";
    /// IPv6.
    pub const FAMILY_IPV6: u8 = 2, "ADDR_FAMILY_IPV6";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// The beginning of a request.
    pub struct Header = "hv_kvp_hdr", size 4 {
        /// What is asked.
        operation: Operation = 0,
        /// Pool of the pairs.
        pool: Pool = 1,
        /// Zero.
        reserved: [u8; 2] = 2 "pad",
    }

    /// GET and SET: a key and its value.
    pub struct Value = "hv_kvp_exchg_msg_value", size 2572 {
        /// Type of the value.
        value_type: u32 = 0,
        /// Bytes of the key.
        key_size: u32 = 4,
        /// Bytes of the value.
        value_size: u32 = 8,
        /// The key.
        key: [u8; 512] = 12,
        /// The value.
        value: [u8; 2048] = 524,
    }
    also {
        "value_u32" @ 524, 4;
        "value_u64" @ 524, 8;
    }

    /// DELETE.
    pub struct Delete = "hv_kvp_msg_delete", size 516 {
        /// Bytes of the key.
        key_size: u32 = 0,
        /// The key.
        key: [u8; 512] = 4,
    }

    /// ENUMERATE: an index, to which the guest adds the pair.
    pub struct Enumerate = "hv_kvp_msg_enumerate", size 2576 {
        /// Place in the pool, from 0 on.
        index: u32 = 0,
        /// The pair.
        data: Value = 4,
    }

    /// Addresses of a network adapter: lists of text, separated by semicolons.
    pub struct IpAddress = "hv_kvp_ipaddr_value", size 7426 {
        /// Name of the adapter in text: to Linux's daemon its MAC address in capitals to get, its GUID to set.
        adapter: [u8; 256] = 0 "adapter_id",
        /// Which addresses: the sum of the families.
        family: u8 = 256 "addr_family",
        /// 1: the addresses come by DHCP.
        dhcp: u8 = 257 "dhcp_enabled",
        /// Addresses.
        addresses: [u8; 2048] = 258 "ip_addr",
        /// Masks.
        masks: [u8; 2048] = 2306 "sub_net",
        /// Gateways.
        gateways: [u8; 1024] = 4354 "gate_way",
        /// Name servers.
        name_servers: [u8; 2048] = 5378 "dns_addr",
    }

    /// GET_IP_INFO and SET_IP_INFO, with their header.
    pub struct IpMessage = "hv_kvp_ip_msg", size 7428 {
        /// What is asked.
        operation: Operation = 0,
        /// Zero.
        pool: Pool = 1,
        /// The addresses.
        value: IpAddress = 2 "kvp_ip_val",
    }
}

impl Value {
    /// Creates a pair of texts, each UTF-16 with its terminating zero; `None` if one is too long.
    #[must_use]
    pub fn text(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut pair = Self::new_zeroed();
        pair.value_type = VALUE_TEXT;
        pair.key_size = key.len() as u32;
        pair.value_size = value.len() as u32;
        pair.key.get_mut(..key.len())?.copy_from_slice(key);
        pair.value.get_mut(..value.len())?.copy_from_slice(value);
        Some(pair)
    }
}
