//! Promise 12: bad input gives a typed error or a documented panic that says what was wrong; never a
//! hang, a busy loop or undefined behaviour.
#![forbid(unsafe_code)]

use crate::support::{Drops, Gate, Name, alone, panic_text, poll_once, within};
use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::{Instant, interval, interval_at, sleep, sleep_until, timeout, timeout_at};
use heist::{Builder, Handle, Runtime, yield_now};
use std::future::{Future, pending, poll_fn, ready};
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// Numbers outside their range are refused when the runtime is built, with a text that names them.
#[test]
fn numbers_out_of_range_are_refused_by_build() {
    let bad: [(Builder, &str); 6] = [
        (Runtime::builder().workers(0), "worker"),
        (Runtime::builder().workers(4097).spare_workers(0), "worker"),
        (Runtime::builder().workers(usize::MAX), "worker"),
        (Runtime::builder().spare_workers(usize::MAX), "worker"),
        (Runtime::builder().workers(4000).spare_workers(97), "worker"),
        (Runtime::builder().blocking_threads(0), "blocking"),
    ];
    for (builder, names) in bad {
        let shown = format!("{builder:?}");
        let error = builder.build().expect_err(&shown);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{shown}");
        assert!(error.to_string().contains(names), "{error}");
    }
}

/// The largest and the smallest numbers inside their range work.
#[test]
fn numbers_at_the_ends_of_their_range_work() {
    within(|| {
        let good: [Builder; 3] = [
            Runtime::builder()
                .workers(1)
                .spare_workers(0)
                .blocking_threads(1),
            Runtime::builder().workers(1).spare_workers(4095),
            Runtime::builder()
                .workers(4096)
                .spare_workers(0)
                .blocking_threads(usize::MAX),
        ];
        for builder in good {
            let mut runtime = builder.build().unwrap();
            let sum = runtime.run(async {
                heist::spawn(async { 1 }).await.unwrap()
                    + heist::spawn_blocking(|| 2).await.unwrap()
            });
            assert_eq!(sum, 3);
            assert!(runtime.close().is_clean());
        }
    });
}

/// Durations at both ends of their range: none may overflow anything, and the longest grace is
/// simply never over.
#[test]
fn durations_at_the_ends_of_their_range_work() {
    for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        within(move || {
            let mut runtime = Runtime::builder()
                .workers(2)
                .blocking_keep_alive(duration)
                .blocking_grace(duration)
                .stall_threshold(duration)
                // A grace of zero is for another test.
                .poll_grace((!duration.is_zero()).then_some(Duration::MAX))
                .debug(true)
                .on_error(|_| ())
                .build()
                .unwrap();
            runtime.run(async {
                for _ in 0..3 {
                    assert_eq!(heist::spawn_blocking(|| 1).await.unwrap(), 1);
                }
                drop(heist::spawn(pending::<()>()));
                yield_now().await;
            });
            let report = runtime.close();
            assert!(
                report.abandoned.is_empty() && report.blocking_abandoned.is_empty(),
                "{report}"
            );
        });
    }
}

/// With the longest `blocking_grace` the end waits for a closure that is running, and then ends.
#[test]
fn the_longest_grace_is_waited_for() {
    within(|| {
        let (begun, go) = (Gate::new(), Gate::new());
        let mut runtime = Runtime::builder()
            .blocking_grace(Duration::MAX)
            .build()
            .unwrap();
        let (begins, waits) = (begun.clone(), go.clone());
        drop(runtime.handle().spawn_blocking(move || {
            begins.open();
            waits.wait();
        }));
        begun.wait();
        let handle = runtime.handle();
        let opener = std::thread::spawn(move || {
            crate::support::eventually("the runtime is closing", || handle.is_closed());
            go.open();
        });
        let report = runtime.close();
        assert!(report.is_clean(), "{report}");
        opener.join().unwrap();
    });
}

/// Graces of zero: what can be taken away at once is, and the rest is abandoned; nothing hangs.
#[test]
fn graces_of_zero_abandon_at_once() {
    within(|| {
        let drops = Drops::default();
        let (begun, go) = (Gate::new(), Gate::new());
        let _open = crate::support::OpenOnDrop(go.clone());
        let name = Name::new();
        let mut runtime = name
            .builder()
            .blocking_grace(Duration::ZERO)
            .poll_grace(Duration::ZERO)
            .on_error(|_| ())
            .build()
            .unwrap();
        let (begins, waits, guard) = (begun.clone(), go.clone(), drops.guard());
        let call = runtime.handle().spawn_blocking(move || {
            begins.open();
            waits.wait();
            drop(guard);
        });
        begun.wait();
        let report = runtime.close();
        assert_eq!(report.blocking_abandoned.len(), 1, "{report}");
        assert!(heist::run(call).unwrap_err().is_abandoned());
        go.open();
        name.assert_gone();
        assert_eq!(drops.count(), 1);
    });
}

/// Names and stacks that the system does not like: a name with a NUL, an empty one, a very long one;
/// no stack at all, which the standard library rounds up; more stack than there is, which is the
/// error of a thread that cannot be created.
#[test]
fn odd_names_and_stacks_are_no_harm() {
    within(|| {
        let long = "x".repeat(10_000);
        for name in ["", "a\0b", &long, "ä ö\n"] {
            let mut runtime = Runtime::builder()
                .workers(2)
                .thread_name(name)
                .build()
                .unwrap();
            let handle = runtime.handle();
            assert_eq!(
                handle.block_on(handle.spawn(async { 1 })).unwrap(),
                1,
                "{name:?}"
            );
            assert!(runtime.close().is_clean());
        }
        let runtime = Runtime::builder()
            .workers(2)
            .thread_stack_size(0)
            .build()
            .unwrap();
        let handle = runtime.handle();
        assert_eq!(handle.block_on(handle.spawn(async { 1 })).unwrap(), 1);
        // It is not the system's minimum, which would not do for the runtime's own code.
        let needs = || {
            std::hint::black_box(&mut [1_u8; 32 * 1024])
                .iter()
                .map(|byte| usize::from(*byte))
                .sum::<usize>()
        };
        assert_eq!(
            handle.block_on(handle.spawn_blocking(needs)).unwrap(),
            32 * 1024
        );

        // Half the address space: more than any system maps, and no overflow of sizes.
        let huge = || {
            Runtime::builder()
                .workers(2)
                .thread_stack_size(usize::MAX / 2 + 1)
                .on_error(|_| ())
        };
        assert!(huge().start_threads(true).build().is_err());
        let mut runtime = huge().build().unwrap();
        // `main`'s own thread is there, and does the work.
        assert_eq!(
            runtime.run(async { heist::spawn(async { 1 }).await.unwrap() }),
            1
        );
        let handle = runtime.handle();
        let error = futures::executor::block_on(handle.spawn(async { 1 })).unwrap_err();
        assert!(error.is_closed(), "{error}");
        assert!(matches!(
            handle.try_block_on(async {}),
            Err(heist::RunError::Start(_))
        ));
        let error = futures::executor::block_on(handle.spawn_blocking(|| 1)).unwrap_err();
        assert!(error.is_closed(), "{error}");
        assert!(runtime.close().is_clean());
    });
}

/// Functions that need a runtime are called where there is none. Each must panic with its name and
/// what to write instead, and drop what it was given.
#[test]
fn calls_outside_a_runtime_panic_with_what_to_do() {
    let drops = Drops::default();
    let guard = || {
        let guard = drops.guard();
        async move { drop(guard) }
    };
    let call = || {
        let guard = drops.guard();
        move || drop(guard)
    };
    let texts = [
        ("spawn", panic_text(|| drop(heist::spawn(guard())))),
        (
            "spawn_local",
            panic_text(|| drop(heist::spawn_local(guard()))),
        ),
        (
            "spawn_blocking",
            panic_text(|| drop(heist::spawn_blocking(call()))),
        ),
        ("Handle::current", panic_text(Handle::current)),
    ];
    for (name, text) in texts {
        assert!(text.contains(&format!("`{name}`")), "{text}");
        assert!(text.contains("heist::run"), "{text}");
    }
    assert_eq!(drops.count(), 3);
    let text = panic_text(heist::task::id);
    assert!(
        text.contains("task::id") && text.contains("main future"),
        "{text}"
    );
    let mut timer = sleep(Duration::from_secs(9));
    let text = panic_text(|| poll_once(&mut timer));
    assert!(
        text.contains("outside a runtime") && text.contains("heist::run"),
        "{text}"
    );
    // One that is due needs no runtime.
    assert_eq!(poll_once(&mut sleep(Duration::ZERO)), Poll::Ready(()));
}

/// `spawn_local` where a local task could not stay: in a Send task, in a closure, in `block_on`.
#[test]
fn l06_spawn_local_panics_where_a_local_task_cannot_stay() {
    within(|| {
        heist::run(async {
            let inside = || panic_text(|| drop(heist::spawn_local(async {})));
            let handle = Handle::current();
            let texts = [
                heist::spawn(async move { inside() }).await.unwrap(),
                heist::spawn_blocking(inside).await.unwrap(),
                heist::spawn_blocking(move || handle.block_on(async { inside() }))
                    .await
                    .unwrap(),
            ];
            for text in texts {
                assert!(
                    text.contains("`spawn_local`") && text.contains("`spawn`"),
                    "{text}"
                );
            }
            // And where it can, nested.
            let nested =
                heist::spawn_local(async { heist::spawn_local(async { 3 }).await.unwrap() });
            assert_eq!(nested.await.unwrap(), 3);
        });
    });
}

/// Sockets made outside a runtime are errors, not panics, and nothing is left open.
#[test]
fn sockets_outside_a_runtime_are_errors() {
    fn now<T>(future: impl Future<Output = T>) -> T {
        match poll_once(&mut Box::pin(future)) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits, and there is nobody to wait for"),
        }
    }
    let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = peer.local_addr().unwrap();
    assert!(now(TcpListener::bind("127.0.0.1:0")).is_err());
    assert!(now(UdpSocket::bind("127.0.0.1:0")).is_err());
    let error = now(TcpStream::connect(address)).unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
    assert!(TcpListener::from_std(peer.try_clone().unwrap()).is_err());
    let client = std::net::TcpStream::connect(address).unwrap();
    assert!(TcpStream::from_std(client).is_err());
}

/// Deadlines past the range of the clock mean "never", deadlines in the past "now"; nothing
/// overflows.
#[test]
fn l05_deadlines_at_the_ends_of_the_clock() {
    within(|| {
        heist::run(async {
            let begin = Instant::now();
            sleep(Duration::ZERO).await;
            sleep_until(begin).await;
            sleep_until(begin - Duration::from_secs(1 << 40)).await;
            timeout_at(begin - Duration::MAX, pending::<()>())
                .await
                .unwrap_err();
            assert_eq!(
                timeout_at(begin - Duration::MAX, ready(5)).await.unwrap(),
                5
            );

            for far in [
                Duration::MAX,
                Duration::from_secs(u64::MAX),
                Duration::from_secs(1 << 40),
            ] {
                let mut never = sleep(far);
                assert!(poll_once(&mut never).is_pending());
                let mut until = sleep_until(Instant::now() + far + far);
                assert!(poll_once(&mut until).is_pending());
                assert_eq!(timeout(far, yield_now()).await, Ok(()));
                let mut ticks = interval(far);
                ticks.tick().await;
                assert!(poll_once(&mut Box::pin(ticks.tick())).is_pending());
                let mut ticks = interval_at(Instant::now() + far, Duration::from_nanos(1));
                assert!(poll_once(&mut Box::pin(ticks.tick())).is_pending());
                // And a near one beside them is on time.
                sleep(Duration::from_millis(1)).await;
                assert!(poll_once(&mut never).is_pending());
                never.reset(Instant::now());
                never.await;
            }
            assert_eq!(begin + Duration::MAX, Instant::far_future());
        });
        let text = panic_text(|| interval(Duration::ZERO));
        assert!(text.contains("above zero"), "{text}");
    });
}

/// A timer never fires early, in whatever order timers are made and dropped.
#[test]
fn l05_timers_are_never_early() {
    within(|| {
        heist::run(async {
            let mut dice = crate::support::Dice::new("l05_timers_are_never_early");
            let mut tasks = Vec::new();
            for n in 0..2000 {
                let length = Duration::from_micros(dice.below(60_000) as u64);
                let task = heist::spawn(async move {
                    let begin = std::time::Instant::now();
                    sleep(length).await;
                    let slept = begin.elapsed();
                    assert!(slept >= length, "slept {slept:?} and not {length:?}");
                });
                if n % 3 == 0 {
                    task.abort();
                }
                tasks.push(task);
            }
            for task in tasks {
                if let Err(error) = task.await {
                    assert!(error.is_cancelled(), "{error}");
                }
            }
        });
    });
}

/// Timers that are made and dropped again without a pause must not pile up in memory.
#[test]
fn l07_k15_a_million_timers_leave_no_memory_behind() {
    let ended = alone(ALONE, &[], "a_million_timers", &[]);
    assert!(ended.ok, "{}", ended.output);
}

/// Addresses that name nothing: each is an error, at once or from the name service, never a panic.
#[test]
fn bad_addresses_are_errors() {
    within(|| {
        heist::run(async {
            let none: [std::net::SocketAddr; 0] = [];
            let error = TcpStream::connect(&none[..]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = TcpListener::bind(&none[..]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            for bad in [
                "",
                ":",
                "127.0.0.1",
                "127.0.0.1:",
                "127.0.0.1:65536",
                "[::1",
                "a\0b:1",
            ] {
                assert!(TcpStream::connect(bad).await.is_err(), "{bad:?}");
                assert!(TcpListener::bind(bad).await.is_err(), "{bad:?}");
                assert!(heist::net::lookup_host(bad).await.is_err(), "{bad:?}");
            }
            assert!(TcpStream::connect("127.0.0.1:0").await.is_err());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let taken = listener.local_addr().unwrap();
            let error = TcpListener::bind(taken).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            // An address of nobody here.
            let error = TcpListener::bind("192.0.2.1:80").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        });
    });
}

/// Futures of every shape: no size at all, 64 KiB (unoptimized code moves it through every frame of
/// the stack), aligned to a page, with such outputs.
#[test]
fn futures_of_every_size_and_alignment() {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    struct Aligned(Page, bool);
    impl Future for Aligned {
        type Output = Page;
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Page> {
            let address = std::ptr::from_ref(&*self).addr();
            assert_eq!(
                address % 4096,
                0,
                "the future is not where its type wants to be"
            );
            if std::mem::replace(&mut self.1, true) {
                return Poll::Ready(Page([self.0.0[0] + 1; 4096]));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    within(|| {
        heist::run(async {
            heist::spawn(ready(())).await.unwrap();
            heist::spawn_local(ready(())).await.unwrap();
            let page = heist::spawn(Aligned(Page([7; 4096]), false)).await.unwrap();
            assert!(page.0.iter().all(|byte| *byte == 8));
            drop(heist::spawn(Aligned(Page([0; 4096]), false)));
            let big = Box::new([1_u8; 1 << 16]);
            let task = heist::spawn(async move {
                let big = *big;
                yield_now().await;
                big
            });
            assert_eq!(
                task.await
                    .unwrap()
                    .iter()
                    .map(|byte| u64::from(*byte))
                    .sum::<u64>(),
                1 << 16
            );
        });
    });
}

/// A hundred thousand tasks are alive at once, then end, in both orders of waiting.
#[test]
fn a_hundred_thousand_tasks() {
    within(|| {
        heist::run(async {
            for backwards in [false, true] {
                let (go, gone) = async_channel::bounded::<()>(1);
                let mut tasks: Vec<_> = (0..100_000_u64)
                    .map(|n| {
                        let gone = gone.clone();
                        heist::spawn(async move {
                            // Closed, not sent: every one of them is woken by it.
                            let _ = gone.recv().await;
                            n
                        })
                    })
                    .collect();
                drop(gone);
                drop(go);
                if backwards {
                    tasks.reverse();
                }
                let mut sum = 0;
                for task in tasks {
                    sum += task.await.unwrap();
                }
                assert_eq!(sum, 99_999 * 100_000 / 2);
            }
        });
    });
}

/// A future that panics the first time and is polled by nobody else, one that is never ready, one
/// that wakes a waker of nothing.
#[test]
fn foreign_wakers_and_futures_are_no_harm() {
    within(|| {
        heist::run(async {
            // A waker that does nothing, inside a task: the task must rely on its own.
            let slept = heist::spawn(async {
                let mut timer = sleep(Duration::from_millis(20));
                assert!(poll_once(&mut timer).is_pending());
                timer.await;
                1
            });
            assert_eq!(slept.await.unwrap(), 1);
            // Yielding under another waker than the task's own.
            let yields = heist::spawn(async {
                let mut inner = Box::pin(async {
                    for _ in 0..10 {
                        yield_now().await;
                    }
                });
                let (wakes, waker) = crate::support::CountingWaker::new();
                let mut polls = 0;
                while inner
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
                {
                    polls += 1;
                    assert_eq!(wakes.wakes(), polls);
                }
                polls
            });
            assert_eq!(yields.await.unwrap(), 10);
            let joined = futures::join!(yield_now(), yield_now(), poll_fn(|_| Poll::Ready(3)));
            assert_eq!(joined.2, 3);
        });
    });
}

/// The environment switches debug mode on; the builder's word goes before it.
#[test]
fn r04_r13_r14_l14_debug_mode_follows_the_environment_unless_told_otherwise() {
    for (variable, scenario) in [
        ("1", "stalls_are_reported"),
        ("yes", "stalls_are_reported"),
        ("0", "stalls_are_not_reported"),
        ("", "stalls_are_not_reported"),
        ("1", "stalls_are_not_reported_when_debug_is_off"),
        ("0", "stalls_are_reported_when_debug_is_on"),
    ] {
        let ended = alone(ALONE, &[], scenario, &[("HEIST_DEBUG", variable)]);
        assert!(
            ended.ok,
            "HEIST_DEBUG={variable:?} {scenario}: {}",
            ended.output
        );
    }
    let ended = alone(ALONE, &[], "stalls_are_not_reported", &[]);
    assert!(ended.ok, "{}", ended.output);
}
