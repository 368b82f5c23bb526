//! The server saved and restored.

use crate::channel::{Channel, State};
use crate::gpadl;
use crate::image::Image;
use crate::outbox::Outbox;
use crate::server::{Connection, Server};
use hv_memory::save::{Reader, RestoreError, Writer};

const MAGIC: u32 = u32::from_le_bytes(*b"VMBS");
const VERSION: u32 = 2;

impl<const CHANNELS: usize, const GPADLS: usize, const WORDS: usize> Server<CHANNELS, GPADLS, WORDS> {
    /// Writes the whole state, the offers included. Rings are the guest's memory, and not part of it.
    pub fn save(&self, w: &mut Writer<'_>) {
        w.u32(MAGIC);
        w.u32(VERSION);
        self.connection.save(w);
        self.vp.save(w);
        self.cursor.save(w);
        self.rejected.save(w);
        w.count(self.channels.iter().flatten().count());
        self.channels.iter().flatten().for_each(|channel| channel.save(w));
        self.gpadls.save(w);
        self.outbox.save(w);
    }

    /// Takes over a saved state, and reads no further. The capacities need not be those of the server that was saved.
    ///
    /// # Errors
    /// The state was not written by [`save`](Self::save), or does not fit this server. The server is then as after
    /// [`new`](Self::new).
    pub fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        *self = Self::new(self.config);
        let outcome = self.load(r).and_then(|()| self.check());
        if outcome.is_err() {
            *self = Self::new(self.config);
        }
        outcome
    }

    fn load(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        if r.u32()? != MAGIC {
            return Err(RestoreError::NotAnImage);
        }
        let version = r.u32()?;
        if version != VERSION {
            return Err(RestoreError::Version(version));
        }
        self.connection = Image::load(r)?;
        self.vp = Image::load(r)?;
        // A server with more channels may have been further.
        self.cursor = usize::load(r)?.min(CHANNELS);
        self.rejected = Image::load(r)?;
        self.channels = [const { None }; CHANNELS];
        for _ in 0..usize::load(r)? {
            let channel = Channel::load(r)?;
            let slot = Self::index(channel.id).and_then(|i| self.channels.get_mut(i));
            if slot.ok_or(RestoreError::NoRoom)?.replace(channel).is_some() {
                return Err(RestoreError::Invalid("channel, which is there twice,"));
            }
        }
        self.gpadls.load(r)?;
        self.outbox = Outbox::load(r)?;
        Ok(())
    }

    /// Whether the parts fit each other. What a guest could not have brought about may break what the rest of the
    /// server relies on.
    fn check(&self) -> Result<(), RestoreError> {
        let connected = match self.connection {
            Some(Connection { version, .. }) if !self.config.speaks(version) => {
                return Err(RestoreError::Invalid("version of VMBus, which this host does not speak,"));
            }
            Some(_) => true,
            None => false,
        };
        for channel in self.channels.iter().flatten() {
            if !connected && (channel.offered || !matches!(channel.state, State::Closed)) {
                return Err(RestoreError::Invalid("channel, in use without a connection,"));
            }
            self.check_rings(channel)?;
        }
        for gpadl in self.gpadls.iter() {
            let held = self.channels.iter().flatten().any(|c| c.open().is_some_and(|o| o.gpadl == gpadl.id));
            let used = matches!(gpadl.state, gpadl::State::InUse | gpadl::State::TearingDown);
            if !connected || held != used {
                return Err(RestoreError::Invalid("use of a page list"));
            }
        }
        Ok(())
    }

    fn check_rings(&self, channel: &Channel) -> Result<(), RestoreError> {
        let Some(open) = channel.open() else { return Ok(()) };
        let gpadl = self.gpadls.get(open.gpadl).filter(|g| g.channel == channel.id);
        let pages = gpadl.and_then(|g| self.gpadls.whole_pages(g.id));
        let split = usize::try_from(open.split).ok();
        let rings = pages.zip(split).and_then(|(pages, split)| pages.split_at_checked(split));
        let fits = rings.is_some_and(|(incoming, outgoing)| {
            open.rings.consumer.is_within(incoming.len()) && open.rings.producer.is_within(outgoing.len())
        });
        if fits { Ok(()) } else { Err(RestoreError::Invalid("open channel, which has no rings,")) }
    }
}

impl<const GPADLS: usize, const WORDS: usize> gpadl::Gpadls<GPADLS, WORDS> {
    fn save(&self, w: &mut Writer<'_>) {
        self.iter().count().save(w);
        // In the order in which they came, which their places in the pool tell and their slots do not: a restored server
        // has them in the same places.
        for entry in self.in_order() {
            entry.save(w);
            self.words(entry).iter().for_each(|word| word.save(w));
        }
    }

    fn load(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        for _ in 0..usize::load(r)? {
            let entry = gpadl::Gpadl::load(r)?;
            self.insert(entry)?.iter_mut().try_for_each(|word| {
                *word = u64::load(r)?;
                Ok(())
            })?;
            if !self.is_valid(entry.id) {
                return Err(RestoreError::Invalid("page list"));
            }
        }
        Ok(())
    }
}

impl Outbox {
    fn save(&self, w: &mut Writer<'_>) {
        self.iter().count().save(w);
        self.iter().for_each(|owed| owed.save(w));
    }

    fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut outbox = Self::new();
        for _ in 0..usize::load(r)? {
            if !outbox.push(Image::load(r)?) {
                return Err(RestoreError::NoRoom);
            }
        }
        Ok(outbox)
    }
}
