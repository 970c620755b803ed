//! What tasks wait on, while somebody looks.
//!
//! A task has no room for it, and few programs ask. So the notes of all tasks of one list lie beside
//! the list, under its lock, in a table that does not exist before the first note.
//!
//! | who                        | does                                                             |
//! |----------------------------|------------------------------------------------------------------|
//! | a leaf that answers pending | notes its wait in the thread's `Context`, if somebody looks     |
//! | the runner                 | moves the notes to the table, before the task may be run elsewhere |
//! | the runner of its last poll | takes the task out of the table, with the task from its list    |
//! | who looks                  | reads the table; a note of an older poll than the last is void   |
//!
//! The number of the poll makes it unnecessary to remove a note when the task runs again, which would
//! cost every poll a look.

#![forbid(unsafe_code)]

use super::id::Id;
use crate::seam::NEVER;
use std::collections::HashMap;
use std::fmt;

/// What a task waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A timer, due at a time of the seam's clock; [`NEVER`] if it is not due at all.
    Timer(u64),
    /// Data to read from a descriptor.
    Read(u64),
    /// Room to write to a descriptor.
    Write(u64),
    /// A connection to accept from a descriptor.
    Accept(u64),
    /// The end of a task.
    Task(Id),
    /// The end of a closure of the blocking pool.
    Blocking(Id),
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Timer(NEVER) => f.write_str("a timer that is never due"),
            Wait::Timer(_) => f.write_str("a timer"),
            Wait::Read(fd) => write!(f, "reading fd {fd}"),
            Wait::Write(fd) => write!(f, "writing fd {fd}"),
            Wait::Accept(fd) => write!(f, "accepting on fd {fd}"),
            Wait::Task(id) => write!(f, "task {id}"),
            Wait::Blocking(id) => write!(f, "blocking closure {id}"),
        }
    }
}

/// The notes of one list.
#[derive(Debug, Default)]
pub(super) struct Notes(Option<HashMap<Id, Note>>);

#[derive(Debug)]
struct Note {
    /// The poll it is of.
    poll: u32,
    waits: Box<[Wait]>,
}

impl Notes {
    /// The task `id` waits on `waits` since its poll number `poll`. Gives the old note back, to be
    /// dropped outside of the lock.
    pub(super) fn set(&mut self, id: Id, poll: u32, waits: Box<[Wait]>) -> Option<Box<[Wait]>> {
        let notes = self.0.get_or_insert_default();
        Some(notes.insert(id, Note { poll, waits })?.waits)
    }

    /// The task `id` has ended.
    #[inline]
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(notes) = &mut self.0 {
            notes.remove(&id);
        }
    }

    /// What the task `id` waits on, whose last poll was number `poll`.
    pub(super) fn get(&self, id: Id, poll: u32) -> &[Wait] {
        let note = self.0.as_ref().and_then(|notes| notes.get(&id));
        note.filter(|note| note.poll == poll)
            .map_or(&[], |note| &note.waits)
    }
}
