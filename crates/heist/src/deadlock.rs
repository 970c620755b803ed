//! [`Deadlock`]: what is said of a main future that can never go on.

#![forbid(unsafe_code)]

use crate::inspect::{TaskInfo, WaitsOn};
use std::fmt;

/// Why a main future can never go on: everything that is left waits, and nobody is left to wake it.
///
/// In [debug mode](crate::Builder::debug), and in `#[heist::test]`, a run whose main future can be
/// *proven* never to go on ends with [`RunError::Deadlock`](crate::RunError::Deadlock), some 20 ms after
/// everything has come to rest, instead of hanging. There are two proofs:
///
/// - *There is nobody.* No thread in the whole process does anything: all there are belong to this
///   runtime and sleep; no timer, socket, blocking closure, handler of a signal, nor anything else of this
///   runtime is waited for. On Linux alone, where the system can be asked. It finds tasks that wait for
///   each other, and channels whose other end was forgotten.
/// - *Nobody has anything.* Where the process has other threads, as in a test harness: no waker and no
///   handle of `main` or of any task exists, and no [`Handle`](crate::Handle) to the runtime.
///
/// In a [`deterministic`](crate::Builder::deterministic) runtime it ends at once when nobody can go on and no
/// deadline is left: nothing there waits for the outside.
///
/// Otherwise the run goes on waiting, for there is no false alarm, ever. [`Handle::dump`](crate::Handle::dump)
/// shows tasks that wait for each other, and those that nobody can wake, in any case.
///
/// ```
/// use heist::RunError;
///
/// // Nothing will ever wake this.
/// let mut runtime = heist::Runtime::builder().debug(true).build()?;
/// let ended = runtime.try_run(std::future::pending::<()>());
/// assert!(matches!(ended, Err(RunError::Deadlock(_))));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Deadlock {
    main: Vec<WaitsOn>,
    tasks: Vec<TaskInfo>,
}

impl Deadlock {
    pub(crate) fn from_core(core: heist_core::Deadlock) -> Deadlock {
        Deadlock {
            main: core.main.into_iter().map(WaitsOn::from_core).collect(),
            tasks: core.tasks.into_iter().map(TaskInfo::from_core).collect(),
        }
    }

    /// What the main future waited on, as far as heist's own futures know.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().debug(true).build()?;
    /// match runtime.try_run(std::future::pending::<()>()) {
    ///     Err(heist::RunError::Deadlock(deadlock)) => assert!(deadlock.main_waits_on().is_empty()),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn main_waits_on(&self) -> &[WaitsOn] {
        &self.main
    }

    /// The tasks that were alive, none of which can go on either.
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().debug(true).build()?;
    /// let main = async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     std::future::pending::<()>().await
    /// };
    /// match runtime.try_run(main) {
    ///     Err(heist::RunError::Deadlock(deadlock)) => assert_eq!(deadlock.tasks().len(), 1),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn tasks(&self) -> &[TaskInfo] {
        &self.tasks
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadlock: the main future can never go on, since nobody is left to wake it")?;
        f.write_str("\n  main")?;
        for (nth, wait) in self.main.iter().enumerate() {
            let word = if nth == 0 { ": waits on" } else { " and" };
            write!(f, "{word} {wait}")?;
        }
        for task in &self.tasks {
            write!(f, "\n  {task}")?;
        }
        Ok(())
    }
}
