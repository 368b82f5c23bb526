//! Saved machines: a run resumes one, with pages of its own, any number of times, and any number of them side by
//! side.
//!
//! A saved machine is one [`mod@file`]: RAM and QEMU's state, under a [`Key`] without which it is not read. There are
//! two kinds. Those of `hv exec` are in the cache under a digest of all inputs ([`cache`], [`key`]). Those of
//! `hv snapshot` are in a folder of the user's ([`folder`]), with the machine's disks and with [`about`], which says
//! what the machine is and which versions can resume it; [`save`] makes one of a running machine.

mod about;
mod cache;
mod file;
mod folder;
mod key;
mod options;
mod partial;
mod save;

pub(crate) use about::{About, Versions};
pub(crate) use cache::{Cached, SNAPSHOT};
pub(crate) use folder::Folder;
pub(crate) use key::{Inputs, Key};
pub(crate) use options::{FirmwareKind, Options, Strict};
pub(crate) use save::{Made, Saver, Unsaved, WITHOUT_PORT, What};
