//! [`RuntimeMetrics`]: numbers.

#![forbid(unsafe_code)]

/// What a runtime has done so far, and what it has to do now.
///
/// The numbers are read one after another while the runtime goes on, so they are of slightly
/// different moments. Those that count events begin at zero with the runtime and only grow; they
/// are counted by the worker they are about, in memory of its own, which costs it next to nothing.
///
/// ```
/// heist::run(async {
///     let tasks: Vec<_> = (0..10).map(|n| heist::spawn(async move { n })).collect();
///     for task in tasks {
///         task.await.unwrap();
///     }
///     let metrics = heist::Handle::current().metrics();
///     let polls: u64 = metrics.workers().iter().map(|worker| worker.polls()).sum();
///     assert!(polls >= 10);
///     assert_eq!(metrics.live_tasks(), 0);
/// });
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeMetrics {
    core: heist_core::Metrics,
    workers: Vec<WorkerMetrics>,
}

impl RuntimeMetrics {
    pub(crate) fn from_core(mut core: heist_core::Metrics) -> RuntimeMetrics {
        let workers = std::mem::take(&mut core.workers);
        let workers = workers.into_iter().map(|core| WorkerMetrics { core });
        RuntimeMetrics {
            workers: workers.collect(),
            core,
        }
    }

    /// One for each place of a worker: [`workers`](crate::Builder::workers) of them, then
    /// [`spare_workers`](crate::Builder::spare_workers). A place keeps its numbers when another
    /// thread takes it over.
    ///
    /// ```
    /// let runtime = heist::Runtime::builder().workers(2).spare_workers(1).build()?;
    /// assert_eq!(runtime.handle().metrics().workers().len(), 3);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn workers(&self) -> &[WorkerMetrics] {
        &self.workers
    }

    /// Tasks that have not ended: those of [`spawn`](crate::spawn), closures of
    /// [`spawn_blocking`](crate::spawn_blocking), and local tasks of the present run. The main future is
    /// none.
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::spawn(std::future::pending::<()>());
    ///     assert_eq!(heist::Handle::current().metrics().live_tasks(), 1);
    ///     task.abort();
    /// });
    /// ```
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.core.live_tasks
    }

    /// Tasks in the queue that all workers share, where those are put that were woken or spawned outside
    /// of the workers. An approximation while others put and take.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().injector_depth(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn injector_depth(&self) -> usize {
        self.core.injector
    }

    /// Threads of the blocking pool, idle ones and those being started among them.
    ///
    /// ```
    /// heist::run(async {
    ///     heist::spawn_blocking(|| ()).await.unwrap();
    ///     assert_eq!(heist::Handle::current().metrics().blocking_threads(), 1);
    /// });
    /// ```
    #[must_use]
    pub fn blocking_threads(&self) -> usize {
        self.core.blocking_threads
    }

    /// Closures that wait for a thread of the blocking pool.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().blocking_queue_depth(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn blocking_queue_depth(&self) -> usize {
        self.core.blocking_queue
    }

    /// Workers that are there, the thread of `run` and spare ones among them.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().workers_started(), 0);
    /// assert!(runtime.run(async { heist::Handle::current().metrics().workers_started() }) >= 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn workers_started(&self) -> usize {
        self.core.workers_started
    }

    /// Spare workers that are there, because others are or were blocked.
    ///
    /// ```
    /// heist::run(async { assert_eq!(heist::Handle::current().metrics().spares_active(), 0) });
    /// ```
    #[must_use]
    pub fn spares_active(&self) -> usize {
        self.core.spares_active
    }

    /// Workers that look for tasks in the queues of others.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().searching_workers(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn searching_workers(&self) -> usize {
        self.core.searching
    }

    /// Workers that have nothing to do and sleep.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().sleeping_workers(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn sleeping_workers(&self) -> usize {
        self.core.sleeping
    }
}

/// What one worker has done so far, and what it has to do now.
///
/// ```
/// let mut runtime = heist::Runtime::builder().workers(1).spare_workers(0).build()?;
/// runtime.run(async { heist::spawn(async {}).await.unwrap() });
/// let metrics = runtime.handle().metrics();
/// assert!(metrics.workers()[0].polls() >= 2);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerMetrics {
    core: heist_core::WorkerMetrics,
}

impl WorkerMetrics {
    /// How often the worker entered the code of a task, or of the main future: each poll counts, and each
    /// end of a task that was cancelled.
    ///
    /// ```
    /// heist::run(async {
    ///     let metrics = heist::Handle::current().metrics();
    ///     assert!(metrics.workers().iter().any(|worker| worker.polls() > 0));
    /// });
    /// ```
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.core.polls
    }

    /// Tasks that the worker took from others. Where it took several at once, those that yet others took
    /// from it in the same moment may be missing.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().workers()[0].steals(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn steals(&self) -> u64 {
        self.core.stolen
    }

    /// How often the worker went to sleep.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().workers()[0].parks(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn parks(&self) -> u64 {
        self.core.parks
    }

    /// Tasks that ran at once after they were woken or spawned, from the LIFO slot.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::new()?;
    /// runtime.run(async { heist::spawn(async {}).await.unwrap() });
    /// let metrics = runtime.handle().metrics();
    /// assert!(metrics.workers()[0].lifo_hits() <= metrics.workers()[0].polls());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn lifo_hits(&self) -> u64 {
        self.core.lifo_hits
    }

    /// Tasks that the worker took from the queue that all share: they were woken or spawned outside of the
    /// workers, or rescued from a worker that is blocked. As for [`steals`](WorkerMetrics::steals), some
    /// may be missing.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().workers()[0].remote_wakes(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn remote_wakes(&self) -> u64 {
        self.core.injected
    }

    /// Tasks in the front of the worker's queue, and in its LIFO slot.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().workers()[0].queue_depth(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.core.queue
    }

    /// Tasks behind the front of the queue, which is short.
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// assert_eq!(runtime.handle().metrics().workers()[0].overflow_depth(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn overflow_depth(&self) -> usize {
        self.core.overflow
    }

    /// Whether a thread works in this place.
    ///
    /// ```
    /// heist::run(async {
    ///     let metrics = heist::Handle::current().metrics();
    ///     assert!(metrics.workers().iter().any(|worker| worker.is_occupied()));
    /// });
    /// ```
    #[must_use]
    pub fn is_occupied(&self) -> bool {
        self.core.occupied
    }

    /// Whether that thread is blocked: inside [`block_in_place`](crate::block_in_place), or in one poll for
    /// longer than the monitor's patience.
    ///
    /// ```
    /// heist::run(async {
    ///     heist::block_in_place(|| {
    ///         let metrics = heist::Handle::current().metrics();
    ///         assert!(metrics.workers().iter().any(|worker| worker.is_blocked()));
    ///     });
    /// });
    /// ```
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.core.blocked
    }
}
