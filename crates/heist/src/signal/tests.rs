//! Tests that can share a process: they raise `SIGINT` only while they listen. What needs a process
//! of its own is in the package of whole-system tests, in `alone/ctrl_c.rs`.

#![forbid(unsafe_code)]

#[cfg(not(unix))]
mod elsewhere {
    use crate::io::testing::now;
    use crate::signal::ctrl_c;
    use std::io::ErrorKind;

    #[test]
    fn other_systems_answer_unsupported() {
        assert_eq!(now(ctrl_c()).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[cfg(unix)]
mod unix {
    use crate::io::testing::{assert_closed, now, poll_once, run, within};
    use crate::signal::sys::{LISTENER, Place, RUN, SEATS, Seat, is_installed, press, set_errno};
    use crate::signal::{CtrlC, again, ctrl_c};
    use parking_lot::{Mutex, MutexGuard};
    use std::io;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    /// The disposition belongs to the process; a test that would find listeners of another one
    /// cannot tell whether its own were the last.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock()
    }

    #[test]
    fn the_future_is_ready_at_the_first_press() {
        let _alone = alone();
        run(|| async {
            let mut listener = ctrl_c();
            assert!(poll_once(&mut listener).is_pending());
            press();
            listener.await.unwrap();
        });
        assert!(!is_installed());
    }

    /// Nobody waits while three presses come. Each is answered once, and a fourth is waited for.
    #[test]
    fn every_press_since_the_call_is_answered_once() {
        let _alone = alone();
        run(|| async {
            let mut listener = ctrl_c();
            for _ in 0..3 {
                press();
            }
            for _ in 0..3 {
                listener.recv().await.unwrap();
            }
            assert!(poll_once(&mut listener).is_pending());
            press();
            listener.recv().await.unwrap();
        });
    }

    /// A wait is given up just after a press, before it was polled again.
    #[test]
    fn a_dropped_wait_loses_no_press() {
        let _alone = alone();
        run(|| async {
            let mut listener = ctrl_c();
            let mut wait = Box::pin(listener.recv());
            assert!(poll_once(&mut wait).is_pending());
            press();
            drop(wait);
            listener.recv().await.unwrap();
        });
    }

    #[test]
    fn a_task_that_waits_is_woken_from_another_thread() {
        let _alone = alone();
        run(|| async {
            let mut listener = ctrl_c();
            let waiter = crate::spawn(async move { listener.recv().await });
            crate::yield_now().await;
            thread::spawn(press).join().unwrap();
            waiter.await.unwrap().unwrap();
        });
    }

    #[test]
    fn a_listener_hears_nothing_from_before_its_call() {
        let _alone = alone();
        run(|| async {
            let mut early = ctrl_c();
            press();
            let mut late = ctrl_c();
            press();
            for _ in 0..2 {
                early.recv().await.unwrap();
            }
            late.recv().await.unwrap();
            // Known to be readable until a read says otherwise, so this asks the socket.
            assert!(poll_once(&mut late).is_pending());
        });
    }

    /// There are no descriptors in a simulation: a listener says so, and a run that wanted to be cancelled
    /// goes on without.
    #[test]
    fn a_simulation_hears_nothing() {
        let _alone = alone();
        let builder = crate::Runtime::builder().deterministic(7);
        let mut runtime = builder.cancel_on_ctrl_c(true).build().unwrap();
        let heard = runtime.run(async {
            assert!(!is_installed());
            ctrl_c().await
        });
        assert_eq!(heard.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn the_handler_stays_until_the_last_listener_goes() {
        let _alone = alone();
        run(|| async {
            let (first, second) = (ctrl_c(), ctrl_c());
            assert!(is_installed());
            drop(first);
            assert!(is_installed());
            drop(second);
            assert!(!is_installed());
        });
    }

    #[test]
    fn outside_a_runtime_the_error_is_answered_at_every_poll() {
        let _alone = alone();
        let mut listener = ctrl_c();
        for _ in 0..2 {
            let error = now(listener.recv()).unwrap_err();
            assert!(error.to_string().contains("no heist runtime"), "{error}");
        }
        assert!(!is_installed());
    }

    /// The listener outlives its runtime. It is told so, and still undoes all it did.
    #[test]
    #[expect(
        clippy::async_yields_async,
        reason = "the listener is to outlive the run"
    )]
    fn a_closed_runtime_ends_the_wait() {
        let _alone = alone();
        within(|| {
            let mut listener = crate::run(async { ctrl_c() });
            for _ in 0..2 {
                assert_closed(&now(listener.recv()).unwrap_err());
            }
            assert!(is_installed());
            drop(listener);
            assert!(!is_installed());
        });
    }

    /// A runtime closes around a task that waits.
    #[test]
    fn a_waiting_task_is_dropped_with_its_listener_at_the_end_of_the_run() {
        let _alone = alone();
        run(|| async {
            let waiter = crate::spawn(async { ctrl_c().await });
            while !is_installed() {
                crate::yield_now().await;
            }
            assert!(!waiter.is_finished());
        });
        assert!(!is_installed());
    }

    #[test]
    fn the_handler_leaves_errno_alone() {
        let _alone = alone();
        run(|| async {
            let listener = ctrl_c();
            // Fill the socket, so that the write of the handler fails with a number of its own.
            for _ in 0..2_000 {
                press();
            }
            set_errno(libc::EDOM);
            press();
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EDOM));
            drop(listener);
        });
    }

    #[test]
    fn one_listener_too_many_is_refused_and_a_free_place_is_used_again() {
        let _alone = alone();
        let (far, _near) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        let take = || Place::take(far.try_clone().unwrap());
        let mut places: Vec<Place> = (0..SEATS).map(|_| take().unwrap()).collect();
        let error = take().err().expect("no place is left");
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        places.swap_remove(SEATS / 2);
        places.push(take().unwrap());
        assert!(take().is_err());
        drop(places);
        assert!(!is_installed());
    }

    /// A listener is dropped while a handler is between finding its socket and writing to it.
    #[test]
    fn a_seat_is_not_given_back_under_a_writer() {
        static SEAT: Seat = Seat::new();
        static CLOSED: AtomicBool = AtomicBool::new(false);
        SEAT.open(LISTENER, 7);
        assert_eq!(SEAT.enter(), Some(7));
        assert_eq!(SEAT.enter(), Some(7));
        within(|| {
            let closer = thread::spawn(|| {
                SEAT.close();
                CLOSED.store(true, Ordering::SeqCst);
            });
            while SEAT.is_open() {
                thread::yield_now();
            }
            assert_eq!(SEAT.enter(), None, "a closed seat lets nobody in");
            SEAT.leave();
            assert!(!CLOSED.load(Ordering::SeqCst), "one writer is still there");
            SEAT.leave();
            closer.join().unwrap();
            assert!(CLOSED.load(Ordering::SeqCst));
        });
        SEAT.open(LISTENER, 8);
        assert_eq!(SEAT.enter(), Some(8));
    }

    /// The first press asks a run, every later one finds that it was asked. A listener is told of all,
    /// and a seat that is used again forgets.
    #[test]
    fn the_seat_of_a_run_is_pressed_once() {
        static SEAT: Seat = Seat::new();
        SEAT.open(RUN, 7);
        assert!(SEAT.press());
        assert!(!SEAT.press());
        assert!(!SEAT.press());
        SEAT.close();
        SEAT.open(LISTENER, 7);
        assert!(SEAT.press() && SEAT.press());
        SEAT.close();
        SEAT.open(RUN, 7);
        assert!(SEAT.press());
    }

    /// Handlers run on other threads all the time while listeners come and go.
    #[test]
    fn listeners_come_and_go_in_a_storm() {
        let _alone = alone();
        run(|| async {
            let mut keeper = ctrl_c();
            let storm = crate::spawn_blocking(|| {
                for _ in 0..2_000 {
                    press();
                }
            });
            let mut rounds = 0;
            while !storm.is_finished() {
                let mut passing = ctrl_c();
                drop(poll_once(&mut passing));
                rounds += 1;
                crate::yield_now().await;
            }
            storm.await.unwrap();
            keeper.recv().await.unwrap();
            assert!(rounds > 0);
        });
        assert!(!is_installed());
    }

    #[test]
    fn a_copied_error_keeps_what_callers_ask_for() {
        let code = io::Error::from_raw_os_error(libc::EMFILE);
        assert_eq!(again(&code).raw_os_error(), Some(libc::EMFILE));
        assert_closed(&again(&heist_io::closed_error()));
        let text = again(&io::Error::new(io::ErrorKind::QuotaExceeded, "full"));
        assert_eq!(
            (text.kind(), text.to_string().as_str()),
            (io::ErrorKind::QuotaExceeded, "full")
        );
        let bare = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(again(&bare).kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_listener_can_move_between_threads() {
        fn is_send_and_unpin<T: Send + Sync + Unpin>() {}
        is_send_and_unpin::<CtrlC>();
    }
}
