//! What is left in a process after `run`.
#![forbid(unsafe_code)]

use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::{Handle, Runtime, sleep, yield_now};
use heist_tests::support::{Drops, descriptors, eventually, thread_names};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// No thread and no descriptor inside a `run` that does not need one.
pub(crate) fn computes_only() {
    let before = (descriptors(), thread_names());
    let inside = heist::run(async {
        yield_now().await;
        (descriptors(), thread_names())
    });
    assert_eq!(inside, before);
    // Local tasks and join handles need none either.
    let inside = heist::run(async {
        heist::spawn_local(async { yield_now().await })
            .await
            .unwrap();
        descriptors()
    });
    assert_eq!(inside, before.0);
    // A timer, and a task on a second thread, park without a descriptor.
    let inside = heist::run(async {
        let task = heist::spawn(async { sleep(Duration::from_millis(1)).await });
        task.await.unwrap();
        descriptors()
    });
    assert_eq!(inside, before.0);
    assert_eq!(descriptors(), before.0);
}

/// A thousand loops, with what programs use, ended in every way there is.
pub(crate) fn a_thousand_runs() {
    // Whatever the standard library opens once, it has opened after the first.
    one_run(0, &Drops::default());
    eventually("one thread is left", || thread_names().len() == 1);
    let before = descriptors();
    let drops = Drops::default();
    for round in 0..1000 {
        one_run(round, &drops);
        assert_eq!(descriptors(), before, "after run {round}");
        assert!(Handle::try_current().is_none());
        assert_eq!(drops.count(), 3 * (round + 1), "after run {round}");
    }
    // A joined thread stays in the system's list for a moment.
    eventually("one thread is left", || thread_names().len() == 1);
    assert_eq!(descriptors(), before);
}

fn one_run(round: usize, drops: &Drops) {
    let left: Vec<_> = (0..3).map(|_| drops.guard()).collect();
    let body = async move {
        for guard in left {
            drop(heist::spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
        }
        if round % 2 == 0 {
            let task = heist::spawn(async { sleep(Duration::from_micros(200)).await });
            task.await.unwrap();
        }
        if round % 3 == 0 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, server) = futures::join!(TcpStream::connect(address), listener.accept());
            let (client, server) = (client.unwrap(), server.unwrap().0);
            client.write_all(b"x").await.unwrap();
            assert_eq!(server.read(&mut [0; 4]).await.unwrap(), 1);
            // One is left in a task that never ends.
            drop(heist::spawn(async move {
                let _ = server.read(&mut [0; 4]).await;
                pending::<()>().await;
            }));
            drop(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        }
        if round % 5 == 0 {
            heist::spawn_blocking(|| ()).await.unwrap();
        }
        if round % 7 == 0 {
            // Ended by dropping it in async code.
            let inner = Runtime::new().unwrap();
            drop(inner.handle().spawn(pending::<()>()));
            drop(inner);
        }
        assert_ne!(round % 11, 10, "on purpose");
    };
    if round % 11 == 10 {
        // Quiet: the message is of no interest.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        assert!(catch_unwind(AssertUnwindSafe(|| heist::run(body))).is_err());
        std::panic::set_hook(hook);
    } else if round % 2 == 0 {
        heist::run(body);
    } else {
        let mut runtime = Runtime::builder().workers(1 + round % 3).build().unwrap();
        runtime.run(body);
        runtime.close();
    }
}
