//! Typed VP registers: a register's type gives its contents.
//!
//! ```
//! use hv_guest::registers::{self, Register};
//! # use hv_guest::conduit::Conduit;
//! # use hv_tlfs::status::HvError;
//! fn enable(hv: &impl Conduit) -> Result<(), HvError> {
//!     let control = registers::get(hv, Register::SCONTROL)?;
//!     registers::set(hv, Register::SCONTROL, control.with_enable(true))
//! }
//! ```
//!
//! Writing a read-only register does not compile:
//!
//! ```compile_fail
//! # use hv_guest::registers::{self, Register};
//! # use hv_guest::conduit::Conduit;
//! # use hv_tlfs::vp::VpIndex;
//! fn rename(hv: &impl Conduit) {
//!     let _ = registers::set(hv, Register::VP_INDEX, VpIndex(7));
//! }
//! ```
//!
//! Without `unsafe`, neither does writing a register that holds an address to which the hypervisor then writes:
//!
//! ```compile_fail
//! #![forbid(unsafe_code)]
//! # use hv_guest::registers::{self, Register};
//! # use hv_guest::conduit::Conduit;
//! # use hv_tlfs::synic::Simp;
//! fn overwrite(hv: &impl Conduit, victim: u64) {
//!     let _ = registers::set(hv, Register::SIMP, Simp(victim | 1));
//! }
//! ```
//!
//! ```compile_fail,E0133
//! #![forbid(unsafe_code)]
//! # use hv_guest::registers::{self, Register};
//! # use hv_guest::conduit::Conduit;
//! # use hv_tlfs::register::RegisterName;
//! fn overwrite(hv: &impl Conduit, victim: u64) {
//!     let _ = registers::set(hv, Register::<u64>::writable(RegisterName::SIMP), victim | 1);
//! }
//! ```
//!
//! Errors are returned, never a panic: Linux has a BUG here, yet hosts do reject registers (a disabled feature, a
//! reserved bit). Everything here acts on the calling VP unless it says otherwise.
//!
//! Source: TLFS, `HvCallGetVpRegisters`, `HvCallSetVpRegisters`; for the contents of each register, see its type in
//! [`hv_tlfs`].

use core::fmt;
use core::marker::PhantomData;

use hv_tlfs::crash::CrashControl;
use hv_tlfs::features::{Enlightenments, Features, HypervisorVersion, ImplementationLimits};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::register::{
    GetVpRegistersInput, RegisterName, RegisterValue, SetVpRegistersElement, SetVpRegistersInput,
};
use hv_tlfs::status::HvError;
use hv_tlfs::synic::{Siefp, Simp, Sint, SynicControl};
use hv_tlfs::time::{ReferenceTime, ReferenceTscRegister};
use hv_tlfs::timer::StimerConfig;
use hv_tlfs::vp::{InputVtl, PartitionId, VpIndex};

use crate::conduit::Conduit;
use crate::hypercall::{Rep, RepError};
use crate::index::{SintIndex, TimerIndex};
use crate::page::CallPage;

/// Access of a register that can be read.
pub trait Readable {}
/// Access of a register that can be written.
pub trait Writable {}
/// Read access, and write access through [`lend`], because the register holds an address that the hypervisor writes to.
#[derive(Clone, Copy, Debug)]
pub enum Address {}
/// Read access.
#[derive(Clone, Copy, Debug)]
pub enum ReadOnly {}
/// Read and write access.
#[derive(Clone, Copy, Debug)]
pub enum ReadWrite {}
/// Write access; reads return nothing useful.
#[derive(Clone, Copy, Debug)]
pub enum WriteOnly {}
impl Readable for Address {}
impl Readable for ReadOnly {}
impl Readable for ReadWrite {}
impl Writable for ReadWrite {}
impl Writable for WriteOnly {}

/// Contents of a register.
pub trait Value: Sized {
    /// Decodes the 128 bits that the hypervisor returns. Any bits are valid.
    fn from_register(value: RegisterValue) -> Self;
    /// Encodes the 128 bits that the hypervisor takes.
    fn into_register(self) -> RegisterValue;
}

/// Values of 64 bits or fewer, in the low half.
macro_rules! words {
    ($($ty:ident)*) => {$(
        impl Value for $ty {
            #[inline]
            fn from_register(value: RegisterValue) -> Self {
                Self(value.low as _)
            }
            #[inline]
            fn into_register(self) -> RegisterValue {
                RegisterValue::from_u64(u64::from(self.0))
            }
        }
    )*};
}
words!(CrashControl GuestOsId ReferenceTime ReferenceTscRegister Siefp Simp Sint StimerConfig SynicControl VpIndex);

impl Value for u64 {
    #[inline]
    fn from_register(value: RegisterValue) -> Self {
        value.low
    }
    #[inline]
    fn into_register(self) -> RegisterValue {
        RegisterValue::from_u64(self)
    }
}

impl Value for RegisterValue {
    #[inline]
    fn from_register(value: RegisterValue) -> Self {
        value
    }
    #[inline]
    fn into_register(self) -> RegisterValue {
        self
    }
}

/// Values of 128 bits that hv-tlfs encodes and decodes.
macro_rules! wide {
    ($($ty:ident)*) => {$(
        impl Value for $ty {
            #[inline]
            fn from_register(value: RegisterValue) -> Self {
                $ty::from_register(value)
            }
            #[inline]
            fn into_register(self) -> RegisterValue {
                self.to_register()
            }
        }
    )*};
}
wide!(Enlightenments Features HypervisorVersion ImplementationLimits);

/// A VP register that holds a `T`.
pub struct Register<T, A = ReadWrite> {
    name: RegisterName,
    of: PhantomData<fn(T, A) -> T>,
}

impl<T, A> fmt::Debug for Register<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Register").field(&self.name).finish()
    }
}

impl<T, A> Clone for Register<T, A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, A> Copy for Register<T, A> {}

impl<T> Register<T, ReadOnly> {
    /// Creates a read-only register with these contents.
    #[must_use]
    pub const fn new(name: RegisterName) -> Self {
        Self::named(name)
    }
}

impl<T> Register<T> {
    /// Creates a readable and writable register with these contents.
    ///
    /// # Safety
    ///
    /// No value of the register makes the hypervisor write to memory, except to pages that are already lent to it.
    #[must_use]
    pub const unsafe fn writable(name: RegisterName) -> Self {
        Self::named(name)
    }
}

impl<T, A> Register<T, A> {
    const fn named(name: RegisterName) -> Self {
        Self { name, of: PhantomData }
    }

    /// Returns the register's name.
    #[must_use]
    pub const fn name(self) -> RegisterName {
        self.name
    }
}

/// The registers with one type and access.
macro_rules! registers {
    ($(impl $ty:ty, $access:ty { $($(#[$doc:meta])* $name:ident = $of:ident;)+ })+) => {$(
        impl Register<$ty, $access> {
            $($(#[$doc])* pub const $name: Self = Self::named(RegisterName::$of);)+
        }
    )+};
}

registers! {
    impl HypervisorVersion, ReadOnly {
        /// The hypervisor's version.
        #[doc(alias = "hv_get_hypervisor_version")]
        VERSION = HYPERVISOR_VERSION;
    }
    impl Features, ReadOnly {
        /// Privileges and features: number 0x200, whatever a header calls it.
        FEATURES = PRIVILEGES_AND_FEATURES_INFO;
    }
    impl Enlightenments, ReadOnly {
        /// Recommendations of the hypervisor: number 0x201.
        ENLIGHTENMENTS = FEATURES_INFO;
    }
    impl ImplementationLimits, ReadOnly {
        /// Limits.
        LIMITS = IMPLEMENTATION_LIMITS_INFO;
    }
    impl GuestOsId, ReadWrite {
        /// The guest's identity.
        GUEST_OS_ID = GUEST_OS_ID;
    }
    impl VpIndex, ReadOnly {
        /// The index of the VP that reads it.
        #[doc(alias = "hv_get_vp_index")]
        VP_INDEX = VP_INDEX;
    }
    impl ReferenceTime, ReadOnly {
        /// The partition's reference time.
        #[doc(alias = "hv_get_current_tick")]
        TIME_REF_COUNT = TIME_REF_COUNT;
    }
    impl ReferenceTscRegister, Address {
        /// Location of the reference TSC page.
        REFERENCE_TSC = REFERENCE_TSC;
    }
    impl CrashControl, ReadOnly {
        /// Crash control.
        #[doc(alias = "hv_get_crash_ctl")]
        CRASH_CONTROL = GUEST_CRASH_CTL;
    }
    impl SynicControl, ReadWrite {
        /// SynIC control.
        #[doc(alias = "hv_get_synic_state")]
        #[doc(alias = "hv_set_synic_state")]
        SCONTROL = SCONTROL;
    }
    impl u64, ReadOnly {
        /// Version of the SynIC.
        SVERSION = SVERSION;
        /// Time for which the VP has run, in 100 ns.
        VP_RUNTIME = VP_RUNTIME;
    }
    impl Simp, Address {
        /// Location of the message page.
        #[doc(alias = "hv_get_simp")]
        #[doc(alias = "hv_set_simp")]
        SIMP = SIMP;
    }
    impl Siefp, Address {
        /// Location of the event flags page.
        #[doc(alias = "hv_get_siefp")]
        #[doc(alias = "hv_set_siefp")]
        SIEFP = SIEFP;
    }
    impl u64, WriteOnly {
        /// End of message: the value written is ignored.
        #[doc(alias = "hv_signal_eom")]
        EOM = EOM;
    }
}

impl Register<Sint> {
    /// Returns the register of a synthetic interrupt source.
    #[doc(alias = "hv_get_synint_state")]
    #[doc(alias = "hv_set_synint_state")]
    #[must_use]
    pub const fn sint(sint: SintIndex) -> Self {
        Self::named(RegisterName::sint(sint.number()))
    }
}

impl Register<StimerConfig> {
    /// Returns the configuration register of a synthetic timer.
    #[doc(alias = "hv_init_timer_config")]
    #[must_use]
    pub const fn timer_config(timer: TimerIndex) -> Self {
        Self::named(RegisterName::stimer_config(timer.number()))
    }
}

impl Register<u64> {
    /// Returns the count register of a synthetic timer: expiry time or period in 100 ns.
    #[doc(alias = "hv_init_timer")]
    #[must_use]
    pub const fn timer_count(timer: TimerIndex) -> Self {
        Self::named(RegisterName::stimer_count(timer.number()))
    }

    /// Crash parameter 0 to 4.
    pub(crate) const CRASH_PARAMETERS: [Self; 5] = [
        Self::named(RegisterName::GUEST_CRASH_P0),
        Self::named(RegisterName::GUEST_CRASH_P1),
        Self::named(RegisterName::GUEST_CRASH_P2),
        Self::named(RegisterName::GUEST_CRASH_P3),
        Self::named(RegisterName::GUEST_CRASH_P4),
    ];
}

const GET_ONE: HypercallInput =
    HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_fast(true).with_rep_count(1);
const SET_ONE: HypercallInput =
    HypercallInput::from_code(HypercallCode::SET_VP_REGISTERS).with_fast(true).with_rep_count(1);

/// Reads a register of the calling VP.
///
/// # Errors
///
/// The hypervisor's status, such as [`INVALID_PARAMETER`](hv_tlfs::status::HvStatus::INVALID_PARAMETER) for an unknown
/// register.
#[doc(alias = "hv_get_vpreg")]
#[doc(alias = "hv_get_vpreg_128")]
#[inline]
pub fn get<T: Value, A: Readable>(
    conduit: &(impl Conduit + ?Sized),
    register: Register<T, A>,
) -> Result<T, HvError> {
    get_raw(conduit, VpIndex::SELF, register.name).map(T::from_register)
}

/// Writes a register of the calling VP.
///
/// # Errors
///
/// The hypervisor's status, such as [`INVALID_PARAMETER`](hv_tlfs::status::HvStatus::INVALID_PARAMETER) for a value
/// that is invalid for the register.
#[doc(alias = "hv_set_vpreg")]
#[inline]
pub fn set<T: Value, A: Writable>(
    conduit: &(impl Conduit + ?Sized),
    register: Register<T, A>,
    value: T,
) -> Result<(), HvError> {
    // SAFETY: registers whose type is `Writable` hold no address, by the contract of `Register::writable` and by the
    // table above, so the call makes the hypervisor write only to pages already lent to it.
    unsafe { set_raw(conduit, VpIndex::SELF, register.name, value.into_register()) }
}

/// Writes a register that holds an address: lends a page to the hypervisor, or takes it back.
///
/// [`Vp::enable_synic`](crate::partition::Vp::enable_synic) and
/// [`Partition::start_clock`](crate::partition::Partition::start_clock) do this safely, for pages lent for `'static`.
///
/// # Safety
///
/// If the value enables a page, its page number is that of a page that the hypervisor may write to until another value
/// takes it back.
///
/// # Errors
///
/// The hypervisor's status, as for [`set`].
#[inline]
pub unsafe fn lend<T: Value>(
    conduit: &(impl Conduit + ?Sized),
    register: Register<T, Address>,
    value: T,
) -> Result<(), HvError> {
    // SAFETY: the caller vouches for the page that the value enables, by this function's contract.
    unsafe { set_raw(conduit, VpIndex::SELF, register.name, value.into_register()) }
}

/// Reads a register of a VP, both given by number.
///
/// # Errors
///
/// The hypervisor's status. Registers of other VPs need a privilege that guests rarely have.
#[inline]
pub fn get_raw(
    conduit: &(impl Conduit + ?Sized),
    vp: VpIndex,
    name: RegisterName,
) -> Result<RegisterValue, HvError> {
    // Header (partition; VP and VTL), then the name: TLFS, HvCallGetVpRegisters.
    let input = [PartitionId::SELF.0, u64::from(vp.0), u64::from(name.0)];
    // SAFETY: a fast Get returns its output in registers and writes no memory.
    let (result, [low, high]) = unsafe { conduit.call_3_2(GET_ONE, input) };
    result.to_result().map(|()| RegisterValue { low, high })
}

/// Writes a register of a VP, both given by number.
///
/// # Safety
///
/// The same as for [`lend`], for any register. Architectural registers also change what a VP runs.
///
/// # Errors
///
/// The hypervisor's status. Registers of other VPs need a privilege that guests rarely have.
#[inline]
pub unsafe fn set_raw(
    conduit: &(impl Conduit + ?Sized),
    vp: VpIndex,
    name: RegisterName,
    value: RegisterValue,
) -> Result<(), HvError> {
    // Header (partition; VP and VTL), then the name padded to 16 bytes, and the value: TLFS, HvCallSetVpRegisters.
    let input = [PartitionId::SELF.0, u64::from(vp.0), u64::from(name.0), 0, value.low, value.high];
    // SAFETY: a Set has the effects of the register write, for which the caller vouches; its input is in registers.
    unsafe { conduit.call_6(SET_ONE, input) }.to_result()
}

/// Number of registers that one Get can read: names and values share the call page.
const GET_LIST: usize = 204;
/// Number of registers that one Set can write.
const SET_LIST: usize = 127;

/// Reads a list of registers, in as few calls as possible.
///
/// # Errors
///
/// [`RepError`] with the number of registers read before the rejected one; those values are in `values`.
/// [`RepError::Shape`] if the slices differ in length.
pub fn get_list(
    conduit: &(impl Conduit + ?Sized),
    page: &mut CallPage<'_>,
    names: &[RegisterName],
    values: &mut [RegisterValue],
) -> Result<(), RepError> {
    if names.len() != values.len() {
        return Err(RepError::Shape);
    }
    let header = GetVpRegistersInput {
        partition_id: PartitionId::SELF,
        vp_index: VpIndex::SELF,
        input_vtl: InputVtl::CURRENT,
        reserved: [0; 3],
    };
    let code = HypercallCode::GET_VP_REGISTERS;
    for (chunk, (input, output)) in names.chunks(GET_LIST).zip(values.chunks_mut(GET_LIST)).enumerate() {
        let call = Rep { code, header: &header, variable: &[], input, output };
        // SAFETY: a Get writes its output to the call page and nothing else.
        unsafe { call.call(conduit, page) }.map_err(|error| error.after(chunk * GET_LIST))?;
    }
    Ok(())
}

/// Writes a list of registers in order, in as few calls as possible.
///
/// # Safety
///
/// The same as for [`set_raw`], for each register; and no other code writes to the call page during the call.
///
/// # Errors
///
/// [`RepError`] with the number of registers written before the rejected one.
pub unsafe fn set_list(
    conduit: &(impl Conduit + ?Sized),
    page: &mut CallPage<'_>,
    registers: &[SetVpRegistersElement],
) -> Result<(), RepError> {
    let header = SetVpRegistersInput {
        partition_id: PartitionId::SELF,
        vp_index: VpIndex::SELF,
        input_vtl: InputVtl::CURRENT,
        reserved: [0; 3],
    };
    let code = HypercallCode::SET_VP_REGISTERS;
    for (chunk, input) in registers.chunks(SET_LIST).enumerate() {
        let output: &mut [RegisterValue] = &mut [];
        let call = Rep { code, header: &header, variable: &[], input, output };
        // SAFETY: the caller vouches for each register write; the call writes no other memory, and its input is in the
        // call page.
        unsafe { call.call(conduit, page) }.map_err(|error| error.after(chunk * SET_LIST))?;
    }
    Ok(())
}
