//! Variables that follow a task's spawns: typed, over the values that the core keeps.
//!
//! A scope is a swap: its value goes in before each poll of what is inside, and what is there after the
//! poll comes out again. Between two polls it is in the scope's own future, which may move to another
//! thread or into another task; nothing of it stays behind.

#![forbid(unsafe_code)]

use heist_core::{VarKey, VarValue, replace_var, var};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

/// A variable of which every task has its own value, inherited from whoever spawned it: the user of a
/// request, an identity for logs, a deadline.
///
/// It is made as a `static`. A spawned task and a closure of [`spawn_blocking`](crate::spawn_blocking)
/// begin with the values that their spawner has at that moment. From then on they are independent:
/// neither sees what the other sets.
///
/// ```
/// use heist::ContextVar;
///
/// static USER: ContextVar<String> = ContextVar::new();
///
/// async fn greeting() -> String {
///     format!("hello {}", USER.get().unwrap_or_default())
/// }
///
/// heist::run(async {
///     USER.set("ann".to_owned());
///     let task = heist::spawn(async {
///         let before = greeting().await;
///         USER.set("bob".to_owned());
///         (before, greeting().await)
///     });
///     let (before, after) = task.await.unwrap();
///     assert_eq!((before.as_str(), after.as_str()), ("hello ann", "hello bob"));
///     assert_eq!(greeting().await, "hello ann");
/// });
/// ```
///
/// # Whose values
///
/// * A task's are its own. They are dropped when it ends, after its future.
/// * The main future's belong to the [`Runtime`](crate::Runtime), which keeps them from run to run, and
///   begin with those of the caller of its first run.
/// * A future in [`Handle::block_on`](crate::Handle::block_on) begins with those of its caller, and has
///   them to itself.
/// * A thread that is doing none of this has values of its own.
///
/// # Cost
///
/// Inheriting all values costs one reference count, and nothing where there are none. To set one copies
/// the list of all, a count each, if it is shared with another task. A task with values takes one small
/// allocation beside its own.
///
/// A value is dropped by whichever task lets go of it last, on that task's thread. A panic of its
/// destructor at the end of a task is reported to [`on_error`](crate::Builder::on_error), and does not
/// touch the task's output; at the end of a runtime or a thread it is dropped.
pub struct ContextVar<T> {
    /// Made with the first value.
    key: OnceLock<VarKey>,
    values: PhantomData<fn(T) -> T>,
}

impl<T> ContextVar<T> {
    /// A variable without values.
    ///
    /// Make it a `static`. A `const` would be another variable wherever it is named.
    ///
    /// ```
    /// use heist::ContextVar;
    ///
    /// static DEPTH: ContextVar<u32> = ContextVar::new();
    /// assert_eq!(DEPTH.get(), None);
    /// ```
    pub const fn new() -> ContextVar<T> {
        ContextVar {
            key: OnceLock::new(),
            values: PhantomData,
        }
    }
}

impl<T: Send + Sync + 'static> ContextVar<T> {
    /// A copy of the value, if there is one.
    ///
    /// ```
    /// use heist::ContextVar;
    ///
    /// static DEPTH: ContextVar<u32> = ContextVar::new();
    /// heist::run(async {
    ///     assert_eq!(DEPTH.get(), None);
    ///     DEPTH.set(1);
    ///     assert_eq!(DEPTH.get(), Some(1));
    /// });
    /// ```
    pub fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Gives `look` the value, if there is one, and gives its answer back.
    ///
    /// `look` may use this variable: it goes on seeing the value that there was at the call.
    ///
    /// ```
    /// use heist::ContextVar;
    ///
    /// static NAMES: ContextVar<Vec<&str>> = ContextVar::new();
    /// heist::run(async {
    ///     NAMES.set(vec!["a", "b"]);
    ///     assert_eq!(NAMES.with(|names| names.len()), Some(2));
    /// });
    /// ```
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let value = var(*self.key.get()?)?;
        value.downcast_ref().map(look)
    }

    /// Gives the running task another value, and drops the one it had. Tasks that it has spawned keep
    /// theirs.
    ///
    /// Inside of [`ContextVar::scope`] the value lasts until the end of the scope.
    ///
    /// ```
    /// use heist::ContextVar;
    ///
    /// static DEPTH: ContextVar<u32> = ContextVar::new();
    /// heist::run(async {
    ///     DEPTH.set(1);
    ///     DEPTH.set(DEPTH.get().unwrap_or(0) + 1);
    ///     assert_eq!(DEPTH.get(), Some(2));
    /// });
    /// ```
    pub fn set(&self, value: T) {
        drop(self.replace(Some(Arc::new(value))));
    }

    /// Runs `future` with `value`. What the task had before is back whenever `future` is not being
    /// polled, and afterwards.
    ///
    /// ```
    /// use heist::ContextVar;
    ///
    /// static DEPTH: ContextVar<u32> = ContextVar::new();
    /// heist::run(async {
    ///     let inside = DEPTH.scope(1, async {
    ///         heist::yield_now().await;
    ///         // Spawned with the value, which the task keeps.
    ///         heist::spawn(async { DEPTH.get() }).await.unwrap()
    ///     });
    ///     assert_eq!(inside.await, Some(1));
    ///     assert_eq!(DEPTH.get(), None);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// The future panics when it is polled again after it was ready.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the future inside, whose destructors see the value.
    pub fn scope<F: IntoFuture>(
        &'static self,
        value: T,
        future: F,
    ) -> ContextScope<T, F::IntoFuture> {
        ContextScope {
            future: Some(future.into_future()),
            var: self,
            value: Some(Arc::new(value)),
        }
    }

    /// Calls `code` with `value`. What the task had before is back afterwards, also if `code` panics.
    ///
    /// To spawn in it is to give a task a value of its own.
    ///
    /// ```
    /// use heist::ContextVar;
    ///
    /// static DEPTH: ContextVar<u32> = ContextVar::new();
    /// heist::run(async {
    ///     let task = DEPTH.sync_scope(1, || heist::spawn(async { DEPTH.get() }));
    ///     assert_eq!(DEPTH.get(), None);
    ///     assert_eq!(task.await.unwrap(), Some(1));
    /// });
    /// ```
    pub fn sync_scope<R>(&self, value: T, code: impl FnOnce() -> R) -> R {
        let mut value: Option<VarValue> = Some(Arc::new(value));
        let _inside = self.enter(&mut value);
        code()
    }

    fn replace(&self, value: Option<VarValue>) -> Option<VarValue> {
        replace_var(*self.key.get_or_init(VarKey::next), value)
    }

    /// Swaps `value` in, until what this gives back is dropped.
    fn enter<'a>(&'a self, value: &'a mut Option<VarValue>) -> Inside<'a, T> {
        *value = self.replace(value.take());
        Inside { var: self, value }
    }
}

impl<T> Default for ContextVar<T> {
    fn default() -> ContextVar<T> {
        ContextVar::new()
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value is the user's, and may be secret.
        f.debug_struct("ContextVar").finish_non_exhaustive()
    }
}

/// While it exists, a scope's value is in, and what was there before is in `value`.
struct Inside<'a, T: Send + Sync + 'static> {
    var: &'a ContextVar<T>,
    value: &'a mut Option<VarValue>,
}

impl<T: Send + Sync + 'static> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        *self.value = self.var.replace(self.value.take());
    }
}

pin_project! {
    /// The future of [`ContextVar::scope`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct ContextScope<T, F>
    where
        T: Send,
        T: Sync,
        T: 'static,
    {
        #[pin]
        future: Option<F>,
        var: &'static ContextVar<T>,
        // That of the scope, while it is not being polled.
        value: Option<VarValue>,
    }

    impl<T, F> PinnedDrop for ContextScope<T, F>
    where
        T: Send,
        T: Sync,
        T: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _inside = this.var.enter(this.value);
                this.future.set(None);
            }
        }
    }
}

impl<T: Send + Sync + 'static, F: Future> Future for ContextScope<T, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _inside = this.var.enter(this.value);
        let future = this.future.as_mut().as_pin_mut();
        let output = ready!(future.expect(POLLED_AGAIN).poll(cx));
        this.future.set(None);
        Poll::Ready(output)
    }
}

impl<T: Send + Sync + 'static, F: fmt::Debug> fmt::Debug for ContextScope<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextScope")
            .field("future", &self.future)
            .finish_non_exhaustive()
    }
}

const POLLED_AGAIN: &str = "a future of `ContextVar::scope` was polled after it was ready";
