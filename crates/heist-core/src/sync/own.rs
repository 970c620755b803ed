//! The locks of the standard library, for models: over those of the module around.

#![forbid(unsafe_code)]

use super::WaitTimeoutResult;
use std::sync::LockResult;
use std::time::{Duration, Instant};

pub(crate) type MutexGuard<'a, T> = super::MutexGuard<'a, T>;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(super::Mutex<T>);

#[derive(Debug, Default)]
pub(crate) struct Condvar(super::Condvar);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        Ok(self.0.lock())
    }
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let waited = self.0.wait_until(&mut guard, Instant::now());
        Ok((guard, waited))
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}
