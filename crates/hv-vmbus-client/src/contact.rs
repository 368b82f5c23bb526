//! How contact is made.

use hv_guest::page::{Memory, Page};
use hv_guest::synic::SintIndex;
use hv_tlfs::vmbus::connection::{MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4};
use hv_tlfs::vmbus::{
    FeatureFlags, Guid, InitiateContact, InitiateContactClient, MessageHeader, MessageType, TargetInfo,
    Version,
};
use hv_tlfs::vp::VpIndex;

/// Features that the client can use.
const KNOWN: FeatureFlags = FeatureFlags(0).with_guest_specified_signal(true);

/// Parameters of the guest's contact: where the host sends its messages, and which versions the guest speaks.
#[derive(Clone, Copy, Debug)]
pub struct Contact {
    pub(crate) vp: VpIndex,
    pub(crate) sint: SintIndex,
    pub(crate) newest: Version,
    pub(crate) oldest: Version,
    pub(crate) features: FeatureFlags,
    pub(crate) client_id: Option<Guid>,
    pub(crate) interrupt_page: Option<(&'static Page, u64)>,
}

impl Contact {
    /// Asks for the host's messages on SINT 2 of a VP, by the newest version from 6.0 down to 3.0 that the host speaks.
    #[must_use]
    pub const fn new(vp: VpIndex) -> Self {
        Self {
            vp,
            sint: SintIndex::VMBUS,
            newest: Version::V6_0,
            oldest: Version::V3_0,
            features: FeatureFlags(0),
            client_id: None,
            interrupt_page: None,
        }
    }

    /// Asks for messages on another SINT. Versions before 5.0 know only 2 and are left out then; a host may know only 2
    /// too.
    #[must_use]
    pub const fn with_sint(mut self, sint: SintIndex) -> Self {
        self.sint = sint;
        self
    }

    /// Asks for versions between these, both included.
    #[must_use]
    pub const fn with_versions(mut self, oldest: Version, newest: Version) -> Self {
        (self.oldest, self.newest) = (oldest, newest);
        self
    }

    /// Asks for features of version 6.0. Known here: [`FeatureFlags::guest_specified_signal`]; others are left out.
    #[must_use]
    pub const fn with_features(mut self, features: FeatureFlags) -> Self {
        self.features = FeatureFlags(features.0 & KNOWN.0);
        self
    }

    /// Names the guest's software in contacts of version 6.0.
    #[must_use]
    pub const fn with_client_id(mut self, id: Guid) -> Self {
        self.client_id = Some(id);
        self
    }

    /// Lends a page for the event flags of channels without a connection of their own, which hosts before Windows 8
    /// have: the guest sets the channel's flag in its second half before it signals.
    #[must_use]
    pub fn with_interrupt_page(mut self, page: &'static Page, memory: &impl Memory) -> Self {
        self.interrupt_page = Some((page, memory.gpa(page)));
        self
    }

    /// Returns the newest version that is older than `before`, and allowed.
    pub(crate) fn next(&self, before: Option<Version>) -> Option<Version> {
        let allowed = |version: &Version| {
            let named = self.sint == SintIndex::VMBUS || *version >= Version::V5_0;
            (self.oldest..=self.newest).contains(version)
                && named
                && before.is_none_or(|before| *version < before)
        };
        Version::ALL.into_iter().rev().find(allowed)
    }

    /// Writes the message for a version, and returns its length and the features that it asks for.
    pub(crate) fn message(&self, version: Version) -> (InitiateContactClient, usize, FeatureFlags) {
        let mut features = FeatureFlags(0);
        let mut len = size_of::<InitiateContact>();
        if version >= Version::V6_0 {
            features = self.features.with_client_id(self.client_id.is_some());
            if self.client_id.is_some() {
                len = size_of::<InitiateContactClient>();
            }
        }
        let target_info = if version >= Version::V5_0 {
            TargetInfo(0).with_sint(self.sint.number()).with_features(features)
        } else {
            // The field was the address of the interrupt page.
            TargetInfo(self.interrupt_page.map_or(0, |(_, gpa)| gpa))
        };
        let contact = InitiateContact {
            header: MessageHeader::new(MessageType::INITIATE_CONTACT),
            version,
            target_vp: self.vp.0,
            target_info,
            monitor_page_in: 0,
            monitor_page_out: 0,
        };
        let client_id = self.client_id.unwrap_or(Guid::ZERO);
        (InitiateContactClient { contact, client_id }, len, features)
    }
}

/// Returns the connection to which contact of a version is posted.
pub(crate) const fn connection(version: Version) -> u32 {
    if version.0 >= Version::V5_0.0 { MESSAGE_CONNECTION_ID_4 } else { MESSAGE_CONNECTION_ID }
}
