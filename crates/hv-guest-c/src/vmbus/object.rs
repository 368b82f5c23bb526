//! Objects in memory of the kernel: who uses them, and for how long.
#![expect(unsafe_code, reason = "memory of the kernel in C")]

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use super::error::{HV_E_ARGUMENT, HV_E_CLOSED, HV_E_IN_USE};

/// Nothing is in the object: what zeros are.
const EMPTY: u32 = 0;
/// It is open, and no call uses it.
const IDLE: u32 = 0x6876_0001;
/// A call uses it.
const BUSY: u32 = 0x6876_0002;
/// A call uses it, and is asked to look again before it leaves.
const ASKED: u32 = 0x6876_0003;

/// An object: a part that all calls may read at the same time, and one that belongs to one call at a time.
///
/// The gate is what makes that so, whatever the kernel's locks do: a second call gets an error.
#[repr(C)]
pub(super) struct Object<S, T> {
    gate: AtomicU32,
    /// A number that every call may read and write at any time, whether the object is open or not.
    pub(super) number: AtomicU32,
    shared: UnsafeCell<MaybeUninit<S>>,
    own: UnsafeCell<MaybeUninit<T>>,
}

impl<S, T> Object<S, T> {
    /// Returns the object at an address.
    ///
    /// # Errors
    ///
    /// [`HV_E_ARGUMENT`] for null and for an address that is not aligned.
    ///
    /// # Safety
    ///
    /// The memory there has room for the object and lives for `'a`; it was zeros before its first use, and nothing but
    /// this module writes to it.
    pub(super) unsafe fn at<'a>(address: *mut c_void) -> Result<&'a Self, c_int> {
        let object = NonNull::new(address.cast::<Self>()).filter(|object| object.is_aligned());
        // SAFETY: the address is not null and aligned, as was just seen; the caller vouches that the memory has room,
        // lives for `'a`, and holds zeros or what this module has written: atomics and bytes without a meaning of
        // their own, for which any content is valid.
        object.map(|object| unsafe { object.as_ref() }).ok_or(HV_E_ARGUMENT)
    }

    /// Opens the object, for a call that has it then: `share` writes the part that is shared, and `make` makes the
    /// other one.
    ///
    /// # Errors
    ///
    /// [`HV_E_IN_USE`] if it is not empty; the errors of `make`, and it is empty again.
    pub(super) fn open<E: From<c_int>>(
        &self,
        share: impl FnOnce(&mut MaybeUninit<S>),
        make: impl FnOnce(NonNull<S>) -> Result<T, E>,
    ) -> Result<Entered<'_, S, T>, E> {
        let claimed = self.gate.compare_exchange(EMPTY, BUSY, Ordering::Acquire, Ordering::Relaxed);
        claimed.map_err(|_| HV_E_IN_USE)?;
        // SAFETY: the gate went from `EMPTY` to `BUSY` by this call alone. Others get a reference to this part of an
        // object that is open, and have none left when it is emptied, as the callers of `shared` vouch.
        share(unsafe { &mut *self.shared.get() });
        match make(NonNull::from(&self.shared).cast()) {
            Ok(value) => {
                // SAFETY: the gate is `BUSY` by this call, and `make`, which has no way to this part, has returned: no
                // other reference to it exists.
                unsafe { &mut *self.own.get() }.write(value);
                Ok(Entered(self))
            }
            Err(error) => {
                self.gate.store(EMPTY, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Takes the object for one call.
    ///
    /// # Errors
    ///
    /// [`HV_E_IN_USE`], [`HV_E_CLOSED`].
    pub(super) fn enter(&self) -> Result<Entered<'_, S, T>, c_int> {
        match self.gate.compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Entered(self)),
            Err(BUSY | ASKED) => Err(HV_E_IN_USE),
            Err(_) => Err(HV_E_CLOSED),
        }
    }

    /// Takes the object for one call, or asks the call that has it to look again before it leaves.
    ///
    /// # Errors
    ///
    /// [`HV_E_IN_USE`], [`HV_E_CLOSED`].
    pub(super) fn enter_or_ask(&self) -> Result<Entered<'_, S, T>, c_int> {
        loop {
            match self.enter() {
                Err(HV_E_IN_USE) => {}
                outcome => return outcome,
            }
            let asked = self.gate.compare_exchange(BUSY, ASKED, Ordering::AcqRel, Ordering::Relaxed);
            if matches!(asked, Ok(_) | Err(ASKED)) {
                return Err(HV_E_IN_USE);
            }
        }
    }

    /// Returns the part that is shared.
    ///
    /// # Safety
    ///
    /// The object was opened, and is not emptied for `'a`.
    pub(super) unsafe fn shared<'a>(&self) -> &'a S {
        // SAFETY: the caller vouches that the object was opened and is not emptied for `'a`; between the two nothing
        // has a unique reference to this part.
        let shared = unsafe { &*self.shared.get() };
        // SAFETY: the caller vouches that the object was opened: `open` has written this part.
        unsafe { shared.assume_init_ref() }
    }
}

/// An object that a call has for itself. It is free again when this is dropped.
pub(super) struct Entered<'a, S, T>(&'a Object<S, T>);

impl<'a, S, T> Entered<'a, S, T> {
    /// Returns the object.
    pub(super) fn object(&self) -> &'a Object<S, T> {
        self.0
    }

    /// Frees the object, unless the call was asked to look again: then it still has it.
    pub(super) fn leave(self) -> Option<Self> {
        let left = self.0.gate.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Relaxed);
        if left.is_ok() {
            core::mem::forget(self);
            return None;
        }
        self.0.gate.store(BUSY, Ordering::Relaxed);
        Some(self)
    }

    /// Drops what is in the object, in its place, after `finish`. The object is empty then.
    pub(super) fn close(mut self, finish: impl FnOnce(&mut T)) {
        finish(&mut self);
        let object = self.0;
        // The gate stays as it is, and no other call enters, until the value is gone.
        core::mem::forget(self);
        // SAFETY: `enter` or `open` had the object open, and the gate has not been free since: this call
        // alone uses the value, and the references of `finish` are gone.
        let own = unsafe { &mut *object.own.get() };
        // SAFETY: the value was written when the object was opened. It is dropped once, since the gate says `EMPTY`
        // next.
        unsafe { own.assume_init_drop() };
        object.gate.store(EMPTY, Ordering::Release);
    }
}

impl<S, T> Deref for Entered<'_, S, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `enter` or `open` had the object open, and the gate has not been free since: this call alone uses
        // the value, through `self` alone, of which there are only shared references here.
        let own = unsafe { &*self.0.own.get() };
        // SAFETY: the value was written when the object was opened, and it is not dropped while `self` exists.
        unsafe { own.assume_init_ref() }
    }
}

impl<S, T> DerefMut for Entered<'_, S, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: `enter` or `open` had the object open, and the gate has not been free since: this call alone uses
        // the value, through `self` alone, of which there is a unique reference here.
        let own = unsafe { &mut *self.0.own.get() };
        // SAFETY: the value was written when the object was opened, and it is not dropped while `self` exists.
        unsafe { own.assume_init_mut() }
    }
}

impl<S, T> Drop for Entered<'_, S, T> {
    fn drop(&mut self) {
        self.0.gate.store(IDLE, Ordering::Release);
    }
}
