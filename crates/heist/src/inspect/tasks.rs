//! [`TaskInfo`]: one task.

#![forbid(unsafe_code)]

use crate::task::Id;
use crate::time::Instant;
use heist_core::{TaskKind as Kind, TaskPhase, TaskSnapshot, Wait};
use std::fmt;
use std::panic::Location;

/// What can be said of a task from outside: how it is called, what it is doing, and what it waits
/// on.
///
/// As text it is one line.
///
/// ```
/// heist::run(async {
///     let task = heist::task::Builder::new().name("sleeper").spawn(std::future::pending::<()>());
///     let tasks = heist::Handle::current().tasks();
///     assert_eq!(tasks.len(), 1);
///     assert_eq!((tasks[0].id(), tasks[0].name()), (task.id(), Some("sleeper")));
///     println!("{}", tasks[0]);
/// });
/// ```
#[derive(Clone, Debug)]
pub struct TaskInfo {
    core: TaskSnapshot,
    waits_on: Vec<WaitsOn>,
}

/// Who runs a task.
///
/// ```
/// use heist::inspect::TaskKind;
///
/// heist::run(async {
///     drop(heist::spawn_local(std::future::pending::<()>()));
///     assert_eq!(heist::Handle::current().tasks()[0].kind(), TaskKind::Local);
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskKind {
    /// Any worker: a task of [`spawn`](crate::spawn).
    Send,
    /// The thread of `run`: a task of [`spawn_local`](crate::spawn_local).
    Local,
    /// The blocking pool: a closure of [`spawn_blocking`](crate::spawn_blocking).
    Blocking,
}

/// What a task is doing.
///
/// ```
/// use heist::inspect::TaskState;
///
/// let runtime = heist::Runtime::builder().workers(1).spare_workers(0).build()?;
/// let handle = runtime.handle();
/// let task = runtime.handle().spawn(async move { handle.tasks()[0].state() });
/// assert_eq!(runtime.handle().block_on(task).unwrap(), TaskState::Running);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It can go on and waits for its turn.
    Queued,
    /// It is being polled.
    Running,
    /// It waits to be woken.
    Idle,
    /// A closure that waits for a thread of the blocking pool.
    BlockingQueued,
    /// A closure that runs.
    BlockingRunning,
}

/// What a task waits on, as far as heist's own futures know: one that waits on anything else, such
/// as a channel, does not say so.
///
/// A task can wait on several at once, in a `select` for instance.
///
/// ```
/// use heist::inspect::WaitsOn;
///
/// let mut runtime = heist::Runtime::builder().debug(true).build()?;
/// runtime.run(async {
///     let handle = heist::Handle::current();
///     let inner = heist::spawn(std::future::pending::<()>());
///     let id = inner.id();
///     let outer = heist::spawn(inner);
///     let waits = || handle.tasks().iter().find(|task| task.id() == outer.id()).cloned();
///     while waits().unwrap().waits_on() != [WaitsOn::Task { id }] {
///         heist::yield_now().await;
///     }
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsOn {
    /// A timer.
    Sleep {
        /// When it is due.
        until: Instant,
    },
    /// Data to read.
    Readable {
        /// The number of the descriptor, or of the socket on Windows.
        fd: u64,
    },
    /// Room to write, or the end of a connect.
    Writable {
        /// The number of the descriptor, or of the socket on Windows.
        fd: u64,
    },
    /// A connection to accept.
    Accept {
        /// The number of the descriptor, or of the socket on Windows.
        fd: u64,
    },
    /// The end of another task.
    Task {
        /// Which.
        id: Id,
    },
    /// The end of a closure of the blocking pool.
    Blocking {
        /// Which.
        id: Id,
    },
}

impl TaskInfo {
    pub(crate) fn from_core(core: TaskSnapshot) -> TaskInfo {
        TaskInfo {
            waits_on: core.waits.iter().copied().map(WaitsOn::from_core).collect(),
            core,
        }
    }

    /// The task's identity.
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::spawn(std::future::pending::<()>());
    ///     assert_eq!(heist::Handle::current().tasks()[0].id(), task.id());
    /// });
    /// ```
    #[must_use]
    pub fn id(&self) -> Id {
        self.core.label.id
    }

    /// The name given with [`task::Builder`](crate::task::Builder).
    ///
    /// ```
    /// heist::run(async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     assert_eq!(heist::Handle::current().tasks()[0].name(), None);
    /// });
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.core.label.name.as_deref()
    }

    /// Where it was spawned.
    ///
    /// ```
    /// heist::run(async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     let tasks = heist::Handle::current().tasks();
    ///     assert!(tasks[0].spawned_at().line() > 0);
    /// });
    /// ```
    #[must_use]
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.core.label.site
    }

    /// The task that spawned it, which may have ended since. None if that was the main future, or
    /// no task at all.
    ///
    /// ```
    /// heist::run(async {
    ///     let parent = heist::spawn(async { heist::spawn(std::future::pending::<()>()) });
    ///     let id = parent.id();
    ///     let _child = parent.await.unwrap();
    ///     assert_eq!(heist::Handle::current().tasks()[0].parent(), Some(id));
    /// });
    /// ```
    #[must_use]
    pub fn parent(&self) -> Option<Id> {
        self.core.parent
    }

    /// Who runs it.
    ///
    /// ```
    /// use heist::inspect::TaskKind;
    ///
    /// heist::run(async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     assert_eq!(heist::Handle::current().tasks()[0].kind(), TaskKind::Send);
    /// });
    /// ```
    #[must_use]
    pub fn kind(&self) -> TaskKind {
        match self.core.kind {
            Kind::Send => TaskKind::Send,
            Kind::Local => TaskKind::Local,
            Kind::Blocking => TaskKind::Blocking,
        }
    }

    /// What it is doing.
    ///
    /// ```
    /// use heist::inspect::TaskState;
    ///
    /// let mut runtime = heist::Runtime::builder().workers(1).spare_workers(0).build()?;
    /// runtime.run(async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     assert_eq!(heist::Handle::current().tasks()[0].state(), TaskState::Queued);
    ///     heist::yield_now().await;
    ///     assert_eq!(heist::Handle::current().tasks()[0].state(), TaskState::Idle);
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> TaskState {
        match (self.core.kind, self.core.phase) {
            (Kind::Blocking, TaskPhase::Running) => TaskState::BlockingRunning,
            // A closure never rests.
            (Kind::Blocking, TaskPhase::Queued | TaskPhase::Idle) => TaskState::BlockingQueued,
            (_, TaskPhase::Running) => TaskState::Running,
            (_, TaskPhase::Queued) => TaskState::Queued,
            (_, TaskPhase::Idle) => TaskState::Idle,
        }
    }

    /// How often it was polled, modulo 2³².
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::spawn(async { heist::Handle::current().tasks()[0].polls() });
    ///     assert_eq!(task.await.unwrap(), 1);
    /// });
    /// ```
    #[must_use]
    pub fn polls(&self) -> u32 {
        self.core.polls
    }

    /// What it waits on; empty if it does not wait, or waits on nothing that heist knows.
    ///
    /// It is known of polls after the first call of [`Handle::tasks`](crate::Handle::tasks) or
    /// [`Handle::dump`](crate::Handle::dump) and until 90 seconds after the last one, and of all polls in
    /// [debug mode](crate::Builder::debug): noting it down costs a lock, so it is not done while
    /// nobody looks.
    ///
    /// ```
    /// heist::run(async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     assert!(heist::Handle::current().tasks()[0].waits_on().is_empty());
    /// });
    /// ```
    #[must_use]
    pub fn waits_on(&self) -> &[WaitsOn] {
        &self.waits_on
    }

    /// Whether the task rests and no waker of it exists, so that nothing but its end can come: an
    /// abort, or the end of the runtime.
    ///
    /// Never wrong when it answers true. False may be wrong, as a waker can lie where nobody will
    /// ever use it.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().workers(1).spare_workers(0).build()?;
    /// runtime.run(async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     assert!(!heist::Handle::current().tasks()[0].is_stranded());
    ///     heist::yield_now().await;
    ///     assert!(heist::Handle::current().tasks()[0].is_stranded());
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_stranded(&self) -> bool {
        self.core.phase == TaskPhase::Idle && self.core.wakers == 0
    }

    /// The task whose end it waits for, of each [`WaitsOn::Task`].
    pub(super) fn joins(&self) -> impl Iterator<Item = Id> {
        self.waits_on.iter().filter_map(|wait| match wait {
            WaitsOn::Task { id } => Some(*id),
            _ => None,
        })
    }
}

impl TaskState {
    pub(super) fn name(self) -> &'static str {
        match self {
            TaskState::Queued => "queued",
            TaskState::Running => "running",
            TaskState::Idle => "idle",
            TaskState::BlockingQueued => "blocking-queued",
            TaskState::BlockingRunning => "blocking-running",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TaskKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            TaskKind::Send => "send",
            TaskKind::Local => "local",
            TaskKind::Blocking => "blocking",
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl WaitsOn {
    pub(crate) fn from_core(core: Wait) -> WaitsOn {
        match core {
            Wait::Timer(until) => WaitsOn::Sleep {
                until: Instant::from_nanos(until),
            },
            Wait::Read(fd) => WaitsOn::Readable { fd },
            Wait::Write(fd) => WaitsOn::Writable { fd },
            Wait::Accept(fd) => WaitsOn::Accept { fd },
            Wait::Task(id) => WaitsOn::Task { id },
            Wait::Blocking(id) => WaitsOn::Blocking { id },
        }
    }
}

impl fmt::Display for WaitsOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsOn::Sleep { until } if *until == Instant::far_future() => {
                f.write_str("a timer that is never due")
            }
            WaitsOn::Sleep { until } => {
                let left = until.duration_since(Instant::now());
                write!(f, "a timer due in {left:.1?}")
            }
            WaitsOn::Readable { fd } => write!(f, "reading fd {fd}"),
            WaitsOn::Writable { fd } => write!(f, "writing fd {fd}"),
            WaitsOn::Accept { fd } => write!(f, "accepting on fd {fd}"),
            WaitsOn::Task { id } => write!(f, "task {id}"),
            WaitsOn::Blocking { id } => write!(f, "blocking closure {id}"),
        }
    }
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.core.label, self.state())?;
        if self.kind() == TaskKind::Local {
            f.write_str(", local")?;
        }
        let polls = self.polls();
        write!(f, ", {polls} poll{}", if polls == 1 { "" } else { "s" })?;
        for (nth, wait) in self.waits_on.iter().enumerate() {
            f.write_str(if nth == 0 { ", waits on " } else { " and " })?;
            wait.fmt(f)?;
        }
        Ok(())
    }
}
