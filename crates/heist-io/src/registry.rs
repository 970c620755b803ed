//! The registry: which source an event belongs to.
//!
//! A registration has a key, `generation << 32 | index` (20 bits of index where a word has 32
//! bits). The index says where in the slab the record is; the generation, counted up with each
//! registration of the shard, says whether it is still the same one. The event of a key that was
//! given back is dropped: a closed and reused file descriptor never receives the event of its
//! predecessor.
//!
//! The key is kept beside the record and not in it: while a source moves (`home.rs`) its record is in
//! two registries, under a key of each.
//!
//! One lock per shard. The holder of the turn takes it once per batch; else it is taken to register
//! and to deregister, each of which makes a system call besides. No user code runs under it: records
//! leave it alive and are dropped outside, since they may hold wakers.

#![forbid(unsafe_code)]

use std::sync::Arc;

use slab::Slab;

use crate::source::Record;

const INDEX_BITS: u32 = if usize::BITS == 64 { 32 } else { 20 };
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// One bit less than there is, so that no key reaches those that the pollers keep for themselves.
const GENERATION_MASK: u32 = (1u64 << (usize::BITS - INDEX_BITS - 1)).wrapping_sub(1) as u32;

/// Where a record is, and which registration of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.generation) << INDEX_BITS | u64::from(self.index)
    }

    fn unpack(key: u64) -> Key {
        Key {
            index: (key & INDEX_MASK) as u32,
            generation: (key >> INDEX_BITS) as u32,
        }
    }

    pub(crate) fn generation(self) -> u32 {
        self.generation
    }
}

/// Why a record was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    Full,
}

struct Entry {
    generation: u32,
    record: Arc<Record>,
}

pub(crate) struct Registry {
    records: Slab<Entry>,
    generation: u32,
    closed: bool,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            records: Slab::new(),
            generation: 0,
            closed: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes in the record that `make` gives for the fresh key.
    pub(crate) fn insert(
        &mut self,
        make: impl FnOnce(Key) -> Arc<Record>,
    ) -> Result<(Key, Arc<Record>), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let entry = self.records.vacant_entry();
        let index = u32::try_from(entry.key())
            .ok()
            .filter(|index| u64::from(*index) <= INDEX_MASK)
            .ok_or(Refused::Full)?;
        let generation = self.generation + 1;
        #[cfg(not(heist_bug_31))]
        let generation = generation & GENERATION_MASK;
        self.generation = generation;
        let key = Key { index, generation };
        let record = make(key);
        entry.insert(Entry {
            generation: key.generation,
            record: record.clone(),
        });
        Ok((key, record))
    }

    /// The record of an event's key, unless it has been given back.
    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<&Record> {
        let key = Key::unpack(key);
        let entry = self.records.get(key.index as usize)?;
        (entry.generation == key.generation || cfg!(heist_bug_27)).then_some(&*entry.record)
    }

    /// Gives a key back. The record is to be dropped after the lock.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Arc<Record>> {
        self.get(key.pack())?;
        let entry = self.records.try_remove(key.index as usize)?;
        Some(entry.record)
    }

    /// Refuses records from now on, and hands out those it has.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = Arc<Record>> + use<> {
        self.closed = true;
        let records = std::mem::take(&mut self.records);
        records.into_iter().map(|(_, entry)| entry.record)
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::home::{Home, Patience};

    fn new(key: Key) -> Arc<Record> {
        Arc::new(Record::new(key, Home::new(0, key, &Patience::new())))
    }

    fn fresh(registry: &mut Registry) -> Key {
        registry.insert(new).unwrap().0
    }

    /// While a source moves, its record is in two registries; each key is good in its own alone.
    #[test]
    fn a_record_can_be_in_two_registries() {
        let (mut old, mut to) = (Registry::new(), Registry::new());
        fresh(&mut to);
        let (before, record) = old.insert(new).unwrap();
        let (after, same) = to.insert(|_| record.clone()).unwrap();
        assert!(Arc::ptr_eq(&record, &same));
        assert!(old.get(before.pack()).is_some() && to.get(after.pack()).is_some());
        assert!(old.get(after.pack()).is_none() && before != after);
        assert!(old.remove(before).is_some());
        assert_eq!((old.len(), to.len()), (0, 2));
    }

    #[test]
    fn a_key_given_back_is_dead_even_when_its_place_is_taken_again() {
        let mut registry = Registry::new();
        let first = fresh(&mut registry);
        assert!(registry.get(first.pack()).is_some());
        assert!(registry.remove(first).is_some());
        let second = fresh(&mut registry);
        assert_eq!(first.index, second.index);
        assert!(registry.get(first.pack()).is_none());
        assert!(registry.remove(first).is_none());
        assert!(registry.get(second.pack()).is_some());
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn generations_wrap_below_the_reserved_keys() {
        let mut registry = Registry::new();
        registry.generation = GENERATION_MASK - 1;
        let last = fresh(&mut registry);
        assert_eq!(last.generation, GENERATION_MASK);
        let highest = Key {
            index: INDEX_MASK as u32,
            ..last
        };
        assert!(
            highest.pack() < u64::from(u32::MAX) << 32 && highest.pack() < usize::MAX as u64 - 2
        );
        assert_eq!(Key::unpack(highest.pack()), highest);
        assert_eq!(fresh(&mut registry).generation, 0);
    }

    #[test]
    fn a_closed_registry_refuses() {
        let mut registry = Registry::new();
        let key = fresh(&mut registry);
        assert_eq!(registry.close().count(), 1);
        assert_eq!(registry.insert(new).err(), Some(Refused::Closed));
        assert!(registry.remove(key).is_none());
    }
}
