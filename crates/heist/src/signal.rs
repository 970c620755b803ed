//! Ctrl-C, as something to wait for: [`ctrl_c`]. And the mechanism behind
//! [`Builder::cancel_on_ctrl_c`](crate::Builder::cancel_on_ctrl_c), whose policy is in `interrupt.rs`.
//!
//! # Whose signal it is
//!
//! What a process does on `SIGINT` (its *disposition*) belongs to the whole process. The first
//! listener puts a handler there, and remembers what was there before. When the last listener is
//! dropped the old disposition comes back, if the handler is still ours: who replaced it meanwhile
//! keeps what it has. So after the last listener Ctrl-C ends the process again, as it did before the
//! first.
//!
//! An ignored `SIGINT` (as a shell without job control hands it to what runs in its background) is
//! listened to as well: [`ctrl_c`] is called by someone who wants to be told. It is ignored again
//! afterwards.
//!
//! A run that is to be cancelled on Ctrl-C asks for less: it takes a seat only if Ctrl-C would end
//! the process otherwise. Where somebody else has a handler, or the signal is ignored, it goes on
//! without one.
//!
//! # From the handler to the listener
//!
//! A signal handler may do next to nothing. Ours writes one byte into a non-blocking socket of each
//! listener; the driver of the listener's runtime sees the other end become readable, like any
//! socket. The sockets belong to the listener and are closed with it.
//!
//! The handler finds the sockets in a fixed array of *seats*. A seat is one word: whether it is
//! open, and how many handlers are just writing there.
//!
//! ```text
//!   free ──1──▶ open, n writers ──4──▶ closing, n writers ──▶ closing, 0 = free
//!                 │   ▲                   │
//!                 2   3                   3
//!                 └───┘                   ▼ n falls to 0
//!
//!   1 open    Seat::open   with socket and purpose in place, before the handler is installed
//!   2 enter   Seat::enter  a handler, only while the seat is open
//!   3 leave   Seat::leave  the same handler, after its write
//!   4 close   Seat::close  the listener; returns once the last writer has left
//! ```
//!
//! A seat of a run has a *purpose* that changes once, from `RUN` to `PRESSED`, by the first
//! handler that finds it. A handler that finds a seat already pressed ends the process at once: the
//! first Ctrl-C asks, the second insists. A listener's seat is told of every Ctrl-C, whoever else
//! is.
//!
//! Invariants:
//!
//! 1. A handler touches a socket only between edges 2 and 3, so nobody writes to a descriptor that
//!    edge 4 has given back. The number of the descriptor may then be used for anything.
//! 2. After edge 4 no handler enters: the count only falls, however many signals arrive. Closing
//!    waits for a few system calls of others and cannot be held up for ever.
//! 3. The handler takes no lock, allocates nothing, never blocks or panics, and leaves `errno` as it
//!    was. It may run on the small stack that the standard library keeps for signals.
//! 4. As long as the handler is installed by us there is a listener. A handler that finds none (it
//!    was late, it was put back by someone who had saved it, or it runs in a forked child) does what
//!    the default would have done, if that is what it had replaced.
//! 5. A run takes a seat only where Ctrl-C would end the process if it were not for us. So a second
//!    Ctrl-C, which ends the process, does what it meant before the run.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(test)]
mod tests;

/// Listens to Ctrl-C (`SIGINT`) from now on.
///
/// The answer is a future, ready at the first Ctrl-C. It is also a listener for many: see
/// [`CtrlC::recv`]. While at least one listener exists, Ctrl-C does not end the process.
///
/// Listening begins in this call, not at the first poll. A call that fails is not lost either: the
/// future answers the error.
///
/// # Examples
///
/// ```no_run
/// heist::run(async {
///     heist::signal::ctrl_c().await?;
///     println!("the server stops taking connections");
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
///
/// # Errors
///
/// The future answers an error where the call was made on a thread that is in no runtime, or in a
/// closed one, or in a [simulation](crate::sim), with the kind `Unsupported`; when the runtime closes while it waits; where no descriptor, or none of the 256
/// places for listeners, is left; and on systems other than Unix, with the kind `Unsupported`.
///
/// # Cancel safety
///
/// Nothing is lost when a poll was the last one. When the listener is dropped, Ctrl-C has its old
/// meaning again, unless there are others: a loop keeps one listener instead of making one per
/// round.
pub fn ctrl_c() -> CtrlC {
    CtrlC {
        listener: sys::Listener::open(),
    }
}

/// A listener to Ctrl-C, made by [`ctrl_c`].
///
/// It sees every Ctrl-C since it was made, also those that came while nobody waited, up to some
/// hundreds. Several listeners, in one runtime or in many, each see all of them. It may be waited
/// for on any thread, but its events come from the runtime that it was made in.
///
/// As a future it is ready at the next Ctrl-C, and may then be polled again, for the one after.
///
/// # Examples
///
/// The first Ctrl-C asks the program to end, the second one insists:
///
/// ```no_run
/// # async fn finish_work() {}
/// heist::run(async {
///     let mut ctrl_c = heist::signal::ctrl_c();
///     ctrl_c.recv().await?;
///     let work = heist::spawn(finish_work());
///     ctrl_c.recv().await?;
///     work.abort();
///     std::io::Result::Ok(())
/// })
/// # .unwrap();
/// ```
#[must_use = "listening ends when the listener is dropped"]
pub struct CtrlC {
    listener: io::Result<sys::Listener>,
}

impl CtrlC {
    /// Waits for the next Ctrl-C that this listener has not answered yet.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// heist::run(async {
    ///     let mut ctrl_c = heist::signal::ctrl_c();
    ///     for left in (0..3).rev() {
    ///         ctrl_c.recv().await?;
    ///         println!("{left} more to end");
    ///     }
    ///     std::io::Result::Ok(())
    /// })
    /// # .unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`ctrl_c`]. An error stays: every later call answers it too.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next Ctrl-C; what [`recv`](CtrlC::recv) waits with.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(mut ctrl_c: heist::signal::CtrlC) -> std::io::Result<()> {
    /// std::future::poll_fn(|cx| ctrl_c.poll_recv(cx)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`recv`](CtrlC::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.listener {
            Ok(listener) => listener.poll_press(cx),
            Err(error) => Poll::Ready(Err(again(error))),
        }
    }
}

impl Future for CtrlC {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_recv(cx)
    }
}

impl fmt::Debug for CtrlC {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.listener.as_ref().err();
        f.debug_struct("CtrlC")
            .field("error", &error)
            .finish_non_exhaustive()
    }
}

/// A second copy of an error, as far as callers can tell: its number, its type where it is
/// [`Closed`](crate::time::Closed), else its kind and text.
fn again(error: &io::Error) -> io::Error {
    if let Some(code) = error.raw_os_error() {
        return io::Error::from_raw_os_error(code);
    }
    match error.get_ref() {
        Some(inner) if inner.is::<heist_io::Closed>() => heist_io::closed_error(),
        Some(inner) => io::Error::new(error.kind(), inner.to_string()),
        None => error.kind().into(),
    }
}

/// The seats, the handler, and the disposition that it replaced.
#[cfg(unix)]
mod sys {
    use crate::io::Registered;
    use heist_io::Direction;
    use libc::c_int;
    use std::cell::UnsafeCell;
    use std::io::{self, Read, Write};
    use std::ops::{Deref, DerefMut};
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;
    use std::{mem, ptr, thread};

    /// The most listeners at a time. The handler looks at each seat: 256 words are read in well
    /// under a microsecond, and 256 listeners use half of the 1024 descriptors that a process
    /// usually has.
    pub(super) const SEATS: usize = 256;

    static ALL: [Seat; SEATS] = [const { Seat::new() }; SEATS];

    /// Who sits where. Locked for the length of a few system calls, by those who make and drop
    /// listeners, never by the handler.
    static REGISTRY: Lock = Lock {
        holder: AtomicI32::new(0),
        registry: UnsafeCell::new(Registry::NEW),
    };

    /// A lock that knows which process holds it: a child may be forked while a thread of its parent
    /// does, which is not there to give it back. The child takes it over.
    struct Lock {
        /// The process of the thread that holds it; 0 for nobody.
        holder: AtomicI32,
        registry: UnsafeCell<Registry>,
    }

    // SAFETY: the registry is reached through a `Locked` alone. Without that, threads A and B could
    // both take the last free seat.
    unsafe impl Sync for Lock {}

    /// The right to the registry.
    struct Locked(&'static Lock);

    impl Lock {
        fn lock(&'static self) -> Locked {
            let process = process_id();
            loop {
                // Ordering: Relaxed. A first guess; the exchange below has the say.
                let holder = self.holder.load(Ordering::Relaxed);
                // Ordering: Acquire. Pairs with the Release in `Locked::drop`; makes the registry as
                // it was left visible here. On failure nothing is read, so Relaxed.
                let taken = holder != process
                    && self
                        .holder
                        .compare_exchange_weak(
                            holder,
                            process,
                            Ordering::Acquire,
                            Ordering::Relaxed,
                        )
                        .is_ok();
                if taken {
                    let mut locked = Locked(self);
                    if holder != 0 {
                        // A change may have been half done.
                        *locked = Registry::NEW;
                    }
                    return locked;
                }
                // Liveness: it is held for the length of a few system calls.
                thread::yield_now();
            }
        }
    }

    impl Deref for Locked {
        type Target = Registry;
        fn deref(&self) -> &Registry {
            // SAFETY: one thread of this process at a time gets from 0, or from another process's
            // number, to its own, and it alone puts 0 back, when its `Locked` is gone. Threads of
            // other processes have other memory.
            unsafe { &*self.0.registry.get() }
        }
    }

    impl DerefMut for Locked {
        fn deref_mut(&mut self) -> &mut Registry {
            // SAFETY: as for `deref`, and `self` is borrowed mutably.
            unsafe { &mut *self.0.registry.get() }
        }
    }

    impl Drop for Locked {
        fn drop(&mut self) {
            // Ordering: Release. Pairs with the Acquire in `lock`.
            self.0.holder.store(0, Ordering::Release);
        }
    }

    /// How many seats are taken. Written under the registry's lock, read by the handler.
    static LISTENERS: AtomicUsize = AtomicUsize::new(0);

    /// The process that the seats belong to; 0 until there is one. A forked child inherits the
    /// handler and shares its parent's sockets, and must not tell the parent of its own signals.
    static PROCESS: AtomicI32 = AtomicI32::new(0);

    /// Whether what we replaced was the default. Written under the registry's lock.
    static REPLACED_DEFAULT: AtomicBool = AtomicBool::new(false);

    /// A listener: its place in the array, and the end of the socket that it reads.
    ///
    /// The order of the fields is the order in which they are dropped. The place comes first: with
    /// the reading end gone, a write would raise `SIGPIPE`.
    pub(super) struct Listener {
        place: Place,
        near: Registered<UnixStream>,
    }

    impl Listener {
        pub(super) fn open() -> io::Result<Listener> {
            Listener::open_for(LISTENER)
        }

        fn open_for(purpose: u8) -> io::Result<Listener> {
            let (near, far) = UnixStream::pair()?;
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            let near = Registered::new(near)?;
            Ok(Listener {
                place: Place::take_for(purpose, far)?,
                near,
            })
        }

        /// Takes one byte, which stands for one Ctrl-C.
        pub(super) fn poll_press(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.near
                .poll_op(Direction::Read, cx, |mut near| near.read_exact(&mut [0]))
        }
    }

    /// The seat of a run whose `main` is to be cancelled on Ctrl-C.
    pub(crate) struct RunSeat(Listener);

    impl RunSeat {
        /// Takes a seat, on a thread inside the runtime of the run.
        ///
        /// # Errors
        ///
        /// Where Ctrl-C is somebody else's business; where no descriptor or no seat is left.
        pub(crate) fn take() -> io::Result<RunSeat> {
            Listener::open_for(RUN).map(RunSeat)
        }

        /// Whether Ctrl-C was pressed since the seat was taken.
        pub(crate) fn is_pressed(&self) -> bool {
            self.0.place.is_pressed()
        }

        /// The same, and if it was not, the task of `cx` is woken when it is.
        pub(crate) fn poll_pressed(&self, cx: &mut Context<'_>) -> bool {
            // An error means that the runtime is closing, and `main` with it.
            self.is_pressed() || matches!(self.0.poll_press(cx), Poll::Ready(Ok(())))
        }

        /// Holds the seat without the runtime, so that a second Ctrl-C ends the process at once.
        pub(crate) fn keep(self) -> KeptSeat {
            KeptSeat {
                _place: self.0.place,
                _near: self.0.near.into_inner(),
            }
        }
    }

    /// A seat that waits for nothing any more. The order of the fields is that of `Listener`.
    pub(crate) struct KeptSeat {
        _place: Place,
        _near: UnixStream,
    }

    /// Ends the process by `SIGINT`, as its parent expects after a Ctrl-C. Waits until the other
    /// runs that the same Ctrl-C has cancelled are over too.
    pub(crate) fn die() -> ! {
        // Ordering: Relaxed. Seats of a parent are no business of ours.
        while PROCESS.load(Ordering::Relaxed) == process_id() && ALL.iter().any(Seat::is_pressed) {
            // Nobody tells: this is the last thing that the process does, and the other one is
            // about to end as well. A second Ctrl-C ends all of it.
            thread::sleep(Duration::from_millis(1));
        }
        // Whatever happens now, Ctrl-C ends the process.
        let _ = exchange(Some(&default()));
        // A line that has no end yet. The signal would lose it.
        let _ = io::stdout().flush();
        unblock();
        // SAFETY: it has no conditions.
        unsafe { libc::raise(libc::SIGINT) };
        // The first process of a container survives its own signal.
        std::process::exit(128 + libc::SIGINT);
    }

    /// Lets `SIGINT` through to this thread, which may have been started with it blocked.
    fn unblock() {
        // SAFETY: an integer or an array of them; zero is a value, and `sigemptyset` fills it in.
        let mut set: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: `set` is ours to write.
        unsafe { libc::sigemptyset(&mut set) };
        // SAFETY: `set` is an initialised set, and the signal is a valid one.
        unsafe { libc::sigaddset(&mut set, libc::SIGINT) };
        // SAFETY: `set` lives until the call returns; the old set is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut()) };
    }

    /// The right to a seat, with the socket that the handler writes to.
    pub(super) struct Place {
        index: usize,
        /// Who took it. In a forked child the seats are not those of the parent's listeners.
        process: i32,
        _far: UnixStream,
    }

    impl Place {
        /// Takes a listener's seat for `far`, which must be non-blocking.
        #[cfg(test)]
        pub(super) fn take(far: UnixStream) -> io::Result<Place> {
            Place::take_for(LISTENER, far)
        }

        /// Takes a seat for `far`, which must be non-blocking, and sees to it that the handler is
        /// the one that runs.
        fn take_for(purpose: u8, far: UnixStream) -> io::Result<Place> {
            let mut registry = REGISTRY.lock();
            let process = registry.adopt();
            if purpose == RUN && !stands_for_default()? {
                return Err(io::Error::other(
                    "heist: Ctrl-C is handled by somebody else",
                ));
            }
            let index = registry
                .taken
                .iter()
                .position(|taken| !taken)
                .ok_or_else(none_left)?;
            // Opened and counted before the handler is installed, which therefore finds someone to
            // tell.
            ALL[index].open(purpose, far.as_raw_fd());
            // Ordering: Relaxed. The handler runs after the system call that installs it.
            LISTENERS.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = registry.install() {
                ALL[index].close();
                LISTENERS.fetch_sub(1, Ordering::Relaxed);
                return Err(error);
            }
            registry.taken[index] = true;
            Ok(Place {
                index,
                process,
                _far: far,
            })
        }

        fn is_pressed(&self) -> bool {
            self.process == process_id() && ALL[self.index].is_pressed()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            if self.process != process_id() {
                return;
            }
            ALL[self.index].close();
            let mut registry = REGISTRY.lock();
            registry.taken[self.index] = false;
            // Ordering: Release. Pairs with the Acquire in `on_sigint`: a handler that finds this the
            // last listener also sees what `install` noted for it in `REPLACED_DEFAULT`.
            if LISTENERS.fetch_sub(1, Ordering::Release) == 1 {
                registry.restore();
            }
        }
    }

    /// Whether Ctrl-C would end the process if it were not for us. The registry is locked.
    fn stands_for_default() -> io::Result<bool> {
        let found = exchange(None)?.sa_sigaction;
        // Ordering: Relaxed. Written under the registry's lock.
        let ours = found == address() && REPLACED_DEFAULT.load(Ordering::Relaxed);
        Ok(found == libc::SIG_DFL || ours)
    }

    fn none_left() -> io::Error {
        io::Error::new(
            io::ErrorKind::QuotaExceeded,
            "heist: all 256 places for listeners to Ctrl-C are taken; share one listener between \
             tasks",
        )
    }

    /// One place where the handler finds a socket.
    pub(super) struct Seat {
        /// [`OPEN`], and below it the number of handlers that are between `enter` and `leave`.
        state: AtomicU32,
        /// Meaningful while the seat is open or has writers; -1 before its first use.
        socket: AtomicI32,
        /// [`LISTENER`], [`RUN`] or [`PRESSED`]; meaningful when `socket` is.
        purpose: AtomicU8,
    }

    /// The seat of somebody who counts presses.
    pub(super) const LISTENER: u8 = 0;
    /// The seat of a run that was not asked to end.
    pub(super) const RUN: u8 = 1;
    /// The seat of a run that was.
    const PRESSED: u8 = 2;

    /// Set from edge 1 to edge 4. A handler enters only while it is set. Together with a count of
    /// zero its absence means that the seat is free.
    const OPEN: u32 = 1 << 31;

    impl Seat {
        pub(super) const fn new() -> Seat {
            Seat {
                state: AtomicU32::new(0),
                socket: AtomicI32::new(-1),
                purpose: AtomicU8::new(LISTENER),
            }
        }

        /// Edge 1. The caller holds the registry's lock and has found the seat free.
        pub(super) fn open(&self, purpose: u8, socket: RawFd) {
            // Ordering: Relaxed, both. The swap below publishes them.
            self.socket.store(socket, Ordering::Relaxed);
            self.purpose.store(purpose, Ordering::Relaxed);
            // Ordering: Release. Pairs with the Acquire in `enter`; makes `socket` and `purpose`
            // visible to the handler.
            let before = self.state.swap(OPEN, Ordering::Release);
            debug_assert_eq!(before, 0, "the seat was open or had writers");
        }

        /// Edge 2. The answer may be used until `leave`.
        pub(super) fn enter(&self) -> Option<RawFd> {
            // Ordering: Relaxed. A first guess; the exchange below has the say.
            let mut state = self.state.load(Ordering::Relaxed);
            loop {
                if state & OPEN == 0 {
                    // Ordering: Relaxed, because nothing is read through a closed seat. Which
                    // listeners a late handler may miss is decided by `LISTENERS`.
                    return None;
                }
                // Ordering: Acquire. Pairs with the Release in `open` (the exchanges in between
                // continue its release sequence); makes `socket` visible here. On failure only the
                // word is used, so Relaxed.
                match self.state.compare_exchange_weak(
                    state,
                    state + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    // Ordering: Relaxed. It does not change while we are counted.
                    Ok(_) => return Some(self.socket.load(Ordering::Relaxed)),
                    Err(now) => state = now,
                }
            }
        }

        /// Takes note of a Ctrl-C, between edges 2 and 3. False if it is the second for this run.
        pub(super) fn press(&self) -> bool {
            // Ordering: Relaxed. The order of changes of this one word says which of two handlers
            // was the first; what the run does because of it follows from nothing else.
            let first =
                self.purpose
                    .compare_exchange(RUN, PRESSED, Ordering::Relaxed, Ordering::Relaxed);
            first != Err(PRESSED)
        }

        /// Whether this is the seat of a run that was asked to end.
        fn is_pressed(&self) -> bool {
            // Ordering: Relaxed, both. The owner of the seat is woken through the socket, and others
            // ask again.
            self.state.load(Ordering::Relaxed) & OPEN != 0
                && self.purpose.load(Ordering::Relaxed) == PRESSED
        }

        /// Edge 3.
        pub(super) fn leave(&self) {
            // Ordering: Release. Pairs with the Acquire in `close`; our write to the socket comes
            // before the close of its descriptor.
            // Panic: none here, where a handler may be running; a count gone wrong is noticed by the
            // next `open`.
            self.state.fetch_sub(1, Ordering::Release);
        }

        /// Edge 4. When it returns, no handler has the socket or will get it.
        pub(super) fn close(&self) {
            // Ordering: Relaxed. Handlers need to see nothing of ours; that none enters afterwards
            // follows from the order of changes of this one word.
            self.state.fetch_and(!OPEN, Ordering::Relaxed);
            // Liveness: after the line above the count only falls, and between `enter` and `leave`
            // there is one non-blocking system call. The handler cannot be interrupted by us: it
            // runs to its end before the thread that it was delivered to goes on.
            //
            // Ordering: Acquire. Pairs with the Release in `leave`, of each writer, since a later
            // `leave` continues the release sequence of an earlier one.
            while self.state.load(Ordering::Acquire) != 0 {
                thread::yield_now();
            }
        }

        #[cfg(test)]
        pub(super) fn is_open(&self) -> bool {
            // Ordering: Relaxed. A test looks at the flag alone.
            self.state.load(Ordering::Relaxed) & OPEN != 0
        }
    }

    struct Registry {
        taken: [bool; SEATS],
        /// What the handler replaced most recently, other than itself. Kept after it was put back:
        /// should someone else restore our handler later, this is still what it stands for.
        previous: Option<libc::sigaction>,
    }

    impl Registry {
        const NEW: Registry = Registry {
            taken: [false; SEATS],
            previous: None,
        };

        /// Makes the seats those of this process, if they are a parent's. Answers its id.
        fn adopt(&mut self) -> i32 {
            let process = process_id();
            // Ordering: Relaxed, here and below: written under the lock, and before the handler is
            // installed. One that was inherited and reads the old value acts as in a child without
            // listeners, which at this moment this is.
            if PROCESS.load(Ordering::Relaxed) != process {
                for seat in &ALL {
                    // A fork may have caught a parent's handler as a writer. Its thread does not
                    // exist here and will not leave.
                    seat.state.store(0, Ordering::Relaxed);
                }
                self.taken = [false; SEATS];
                LISTENERS.store(0, Ordering::Relaxed);
                PROCESS.store(process, Ordering::Relaxed);
            }
            process
        }

        /// Puts our handler in place, also where another one has come in between.
        fn install(&mut self) -> io::Result<()> {
            let found = exchange(Some(&ours()))?;
            if found.sa_sigaction != address() {
                // Ordering: Relaxed. The handler asks only where there is no listener; whoever drops
                // the last one releases this with `LISTENERS`.
                REPLACED_DEFAULT.store(found.sa_sigaction == libc::SIG_DFL, Ordering::Relaxed);
                self.previous = Some(found);
            }
            Ok(())
        }

        /// Puts back what was there, if our handler is in place.
        ///
        /// Between the look and the change another thread could install a handler of its own, which
        /// would be lost; the system has no call that does both.
        fn restore(&mut self) {
            let is_ours = exchange(None).is_ok_and(|found| found.sa_sigaction == address());
            if let (true, Some(previous)) = (is_ours, &self.previous) {
                let replaced = exchange(Some(previous));
                debug_assert!(replaced.is_ok(), "it was valid before");
            }
        }
    }

    fn process_id() -> i32 {
        // SAFETY: it has no conditions, and may be called in a signal handler.
        unsafe { libc::getpid() }
    }

    fn address() -> libc::sighandler_t {
        on_sigint as extern "C" fn(c_int) as libc::sighandler_t
    }

    /// A disposition with nothing in it: the default, no flags, no signal blocked.
    fn default() -> libc::sigaction {
        // SAFETY: integers, a signal set and on some systems an optional function pointer; zero is
        // a value of each, and `SIG_DFL` is zero.
        unsafe { mem::zeroed() }
    }

    /// The disposition that calls our handler.
    fn ours() -> libc::sigaction {
        let mut action = default();
        action.sa_sigaction = address();
        // System calls that it interrupts go on by themselves, and a thread with an alternate stack
        // (the standard library gives it one) uses that: its own may be nearly full.
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        action
    }

    /// Sets the disposition of `SIGINT`, if there is a new one, and answers what was there. May be
    /// called in a signal handler.
    fn exchange(new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
        let mut found = default();
        let new = new.map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `new` is null or comes from a reference that lives until the call returns, and
        // `found` is ours to write. What `new` names as the handler is the default, `on_sigint`,
        // which keeps the rules for handlers (invariant 3), or what the system gave us as the
        // disposition that was valid before.
        let answer = unsafe { libc::sigaction(libc::SIGINT, new, &mut found) };
        match answer {
            0 => Ok(found),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The handler. Only atomics and async-signal-safe system calls (invariant 3).
    extern "C" fn on_sigint(_: c_int) {
        let errno = errno();
        // SAFETY: the pointer is to this thread's own number, alive as long as the thread.
        let before = unsafe { *errno };
        // Ordering: Relaxed. See `adopt`.
        if PROCESS.load(Ordering::Relaxed) == process_id() {
            let is_first = tell_all();
            // The count has the say, not whether someone was told: while we went through the seats, a
            // listener may have come behind us and another one gone ahead of us.
            //
            // Ordering: Acquire. Pairs with the Release in `drop`; makes the `REPLACED_DEFAULT` of
            // the last listener visible here.
            if !is_first {
                act_as_default();
            } else if LISTENERS.load(Ordering::Acquire) == 0 {
                act_as_before();
            }
        } else {
            act_as_before();
        }
        // SAFETY: as above.
        unsafe { *errno = before };
    }

    /// False if a run had been asked to end already.
    fn tell_all() -> bool {
        let mut first = true;
        for seat in &ALL {
            let Some(socket) = seat.enter() else { continue };
            first &= seat.press();
            // An error is of no interest: a full socket has hundreds of presses to answer already.
            //
            // SAFETY: the buffer is one byte long and static. The descriptor is the one of a place
            // that is held at least until `leave` (invariant 1). `write` is async-signal-safe, and
            // returns at once because the socket is non-blocking.
            let _ = unsafe { libc::write(socket, b"c".as_ptr().cast(), 1) };
            seat.leave();
        }
        first
    }

    /// Invariant 4: nobody listens.
    fn act_as_before() {
        // Ordering: Relaxed. See `install`; in a forked child it is an inherited value.
        if REPLACED_DEFAULT.load(Ordering::Relaxed) {
            act_as_default();
        }
    }

    /// Ends the process, once the handler that calls this has returned: the signal is blocked while
    /// it runs, so that the new one is delivered to the new disposition afterwards.
    fn act_as_default() {
        if exchange(Some(&default())).is_ok() {
            // SAFETY: it has no conditions, and may be called in a signal handler.
            unsafe { libc::raise(libc::SIGINT) };
        }
    }

    /// Where this thread keeps `errno`.
    #[cfg(any(
        target_os = "macos",
        target_os = "ios",
        target_os = "tvos",
        target_os = "visionos",
        target_os = "watchos",
        target_os = "freebsd"
    ))]
    fn errno() -> *mut c_int {
        // SAFETY: it has no conditions.
        unsafe { libc::__error() }
    }

    /// Where this thread keeps `errno`.
    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    fn errno() -> *mut c_int {
        // SAFETY: it has no conditions.
        unsafe { libc::__errno() }
    }

    /// Where this thread keeps `errno`.
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    fn errno() -> *mut c_int {
        // SAFETY: it has no conditions.
        unsafe { libc::___errno() }
    }

    /// Where this thread keeps `errno`.
    #[cfg(not(any(
        target_os = "macos",
        target_os = "ios",
        target_os = "tvos",
        target_os = "visionos",
        target_os = "watchos",
        target_os = "freebsd",
        target_os = "android",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "illumos",
        target_os = "solaris"
    )))]
    fn errno() -> *mut c_int {
        // SAFETY: it has no conditions.
        unsafe { libc::__errno_location() }
    }

    /// For tests: raises `SIGINT` on this thread, whose handler has run when this returns.
    #[cfg(test)]
    pub(super) fn press() {
        // SAFETY: it has no conditions.
        assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
    }

    /// For tests: whether the handler is ours at the moment.
    #[cfg(test)]
    pub(super) fn is_installed() -> bool {
        exchange(None).expect("a look").sa_sigaction == address()
    }

    /// For tests: the number that the last failed system call of this thread left.
    #[cfg(test)]
    pub(super) fn set_errno(code: c_int) {
        // SAFETY: the pointer is to this thread's own number.
        unsafe { *errno() = code };
    }
}

/// What `interrupt.rs` needs.
pub(crate) use sys::{KeptSeat, RunSeat, die};

/// Where there are no signals, or none like these.
#[cfg(not(unix))]
mod sys {
    use std::convert::Infallible;
    use std::io;
    use std::task::{Context, Poll};

    /// There is none.
    pub(crate) enum RunSeat {}

    /// There is none.
    pub(crate) struct KeptSeat(Infallible);

    impl RunSeat {
        pub(crate) fn take() -> io::Result<RunSeat> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn is_pressed(&self) -> bool {
            match *self {}
        }

        pub(crate) fn poll_pressed(&self, _: &mut Context<'_>) -> bool {
            match *self {}
        }

        pub(crate) fn keep(self) -> KeptSeat {
            match self {}
        }
    }

    /// Never called: there is no Ctrl-C to die of.
    pub(crate) fn die() -> ! {
        std::process::exit(130)
    }

    /// There is none.
    pub(super) enum Listener {}

    impl Listener {
        pub(super) fn open() -> io::Result<Listener> {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "heist: listening to Ctrl-C is there on Unix only",
            ))
        }

        pub(super) fn poll_press(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match *self {}
        }
    }
}
