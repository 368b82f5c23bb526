//! Completions that arrive while a function blocks, and wait for their user.

/// Up to `N` values, in the order in which they came.
pub(super) struct Done<V, const N: usize> {
    places: [Option<V>; N],
    /// Where the oldest is, and how many there are.
    first: usize,
    count: usize,
}

impl<V, const N: usize> Done<V, N> {
    pub(super) const fn new() -> Self {
        Self { places: [const { None }; N], first: 0, count: 0 }
    }

    /// Returns the number of values.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds a value. There is a place for it: what is in flight and what is here are `N` at most.
    pub(super) fn push(&mut self, value: V) {
        if let Some(place) = self.places.get_mut((self.first + self.count) % N) {
            *place = Some(value);
            self.count += 1;
        }
    }

    /// Takes the oldest value.
    pub(super) fn pop(&mut self) -> Option<V> {
        self.count = self.count.checked_sub(1)?;
        let place = self.places.get_mut(self.first)?;
        self.first = (self.first + 1) % N;
        place.take()
    }
}
