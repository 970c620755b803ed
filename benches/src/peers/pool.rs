//! futures' `ThreadPool`: tasks only, neither sockets nor timers.
//!
//! `run` is `block_on` on the calling thread, which is not a worker. Dropping the pool tells its threads to end but
//! does not wait for them, which flatters it in `start_stop`.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;

use futures::executor::{ThreadPool, block_on};
use futures::future::RemoteHandle;
use futures::task::SpawnExt as _;

use crate::peer::{Peer, Spawn};

/// A pool.
#[derive(Clone, Debug)]
pub struct Pool(ThreadPool);

impl Spawn for Pool {
    type Join<T: Send + 'static> = RemoteHandle<T>;

    fn spawn<F>(&self, future: F) -> RemoteHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0
            .spawn_with_handle(future)
            .expect("a pool takes tasks while it lives")
    }

    fn spawn_detached<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.spawn_ok(future);
    }
}

impl Peer for Pool {
    type Inside = Self;
    type Outside = Self;

    fn build(workers: usize) -> io::Result<Self> {
        ThreadPool::builder().pool_size(workers).create().map(Self)
    }

    fn run<F: Future>(&mut self, main: F) -> F::Output {
        block_on(main)
    }

    fn inside(&self) -> Self {
        self.clone()
    }

    fn outside(&self) -> Self {
        self.clone()
    }
}
