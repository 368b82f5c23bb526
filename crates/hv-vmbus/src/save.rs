//! The server saved and restored.

use crate::channel::{Channel, State};
use crate::gpadl;
use crate::image::{Image, RestoreError, Sink, Source};
use crate::outbox::Outbox;
use crate::server::{Connection, Server};

const MAGIC: u32 = u32::from_le_bytes(*b"VMBS");
const FORMAT: u16 = 1;

impl<const CHANNELS: usize, const GPADLS: usize, const WORDS: usize> Server<CHANNELS, GPADLS, WORDS> {
    /// Gives the whole state, the offers included, to `sink` in parts. Rings are the guest's memory, and not part of it.
    pub fn save(&self, sink: &mut dyn FnMut(&[u8])) {
        MAGIC.save(sink);
        FORMAT.save(sink);
        self.connection.save(sink);
        self.vp.save(sink);
        self.cursor.save(sink);
        self.rejected.save(sink);
        self.channels.iter().flatten().count().save(sink);
        self.channels.iter().flatten().for_each(|channel| channel.save(sink));
        self.gpadls.save(sink);
        self.outbox.save(sink);
    }

    /// Takes over a saved state from the beginning of `image`, and returns how many bytes it had. The capacities need
    /// not be those of the server that was saved.
    ///
    /// # Errors
    /// The image was not written by [`save`](Self::save), or does not fit this server. The server is then as after
    /// [`new`](Self::new).
    pub fn restore(&mut self, image: &[u8]) -> Result<usize, RestoreError> {
        *self = Self::new(self.config);
        let mut source = Source::new(image);
        let outcome = self.load(&mut source).and_then(|()| self.check());
        if let Err(error) = outcome {
            *self = Self::new(self.config);
            return Err(error);
        }
        Ok(image.len() - source.left())
    }

    fn load(&mut self, source: &mut Source<'_>) -> Result<(), RestoreError> {
        if u32::load(source)? != MAGIC {
            return Err(RestoreError::NotAnImage);
        }
        let format = u16::load(source)?;
        if format != FORMAT {
            return Err(RestoreError::Format(format));
        }
        self.connection = Image::load(source)?;
        self.vp = Image::load(source)?;
        // A server with more channels may have been further.
        self.cursor = usize::load(source)?.min(CHANNELS);
        self.rejected = Image::load(source)?;
        self.channels = [const { None }; CHANNELS];
        for _ in 0..usize::load(source)? {
            let channel = Channel::load(source)?;
            let slot = Self::index(channel.id).and_then(|i| self.channels.get_mut(i));
            if slot.ok_or(RestoreError::NoRoom)?.replace(channel).is_some() {
                return Err(RestoreError::Invalid("a channel twice"));
            }
        }
        self.gpadls.load(source)?;
        self.outbox = Outbox::load(source)?;
        Ok(())
    }

    /// Whether the parts fit each other. What a guest could not have brought about may break what the rest of the
    /// server relies on.
    fn check(&self) -> Result<(), RestoreError> {
        let connected = match self.connection {
            Some(Connection { version, .. }) if !self.config.speaks(version) => {
                return Err(RestoreError::Invalid("a version that this host does not speak"));
            }
            Some(_) => true,
            None => false,
        };
        for channel in self.channels.iter().flatten() {
            if !connected && (channel.offered || !matches!(channel.state, State::Closed)) {
                return Err(RestoreError::Invalid("a channel in use without a connection"));
            }
            self.check_rings(channel)?;
        }
        for gpadl in self.gpadls.iter() {
            let held = self.channels.iter().flatten().any(|c| c.open().is_some_and(|o| o.gpadl == gpadl.id));
            let used = matches!(gpadl.state, gpadl::State::InUse | gpadl::State::TearingDown);
            if !connected || held != used {
                return Err(RestoreError::Invalid("a page list in use by no channel, or the reverse"));
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
        if fits { Ok(()) } else { Err(RestoreError::Invalid("an open channel without its rings")) }
    }
}

impl<const GPADLS: usize, const WORDS: usize> gpadl::Gpadls<GPADLS, WORDS> {
    fn save(&self, sink: &mut Sink<'_>) {
        self.iter().count().save(sink);
        // In the order in which they came, which their places in the pool tell and their slots do not: a restored server
        // has them in the same places.
        for entry in self.in_order() {
            entry.save(sink);
            self.words(entry).iter().for_each(|word| word.save(sink));
        }
    }

    fn load(&mut self, source: &mut Source<'_>) -> Result<(), RestoreError> {
        for _ in 0..usize::load(source)? {
            let entry = gpadl::Gpadl::load(source)?;
            self.insert(entry)?.iter_mut().try_for_each(|word| {
                *word = u64::load(source)?;
                Ok(())
            })?;
            if !self.is_valid(entry.id) {
                return Err(RestoreError::Invalid("a page list that is none"));
            }
        }
        Ok(())
    }
}

impl Outbox {
    fn save(&self, sink: &mut Sink<'_>) {
        self.iter().count().save(sink);
        self.iter().for_each(|owed| owed.save(sink));
    }

    fn load(source: &mut Source<'_>) -> Result<Self, RestoreError> {
        let mut outbox = Self::new();
        for _ in 0..usize::load(source)? {
            if !outbox.push(Image::load(source)?) {
                return Err(RestoreError::NoRoom);
            }
        }
        Ok(outbox)
    }
}
