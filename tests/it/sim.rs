//! Deterministic runtimes: one seed is one run, under a time of its own.

use heist::time::{Duration, Instant, sleep};
use heist::{Builder, RunError, Runtime};
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

fn builder(seed: u64) -> Builder {
    Runtime::builder().deterministic(seed).workers(4)
}

fn runtime(seed: u64) -> Runtime {
    builder(seed).build().expect("a runtime")
}

/// Tasks that spawn, yield, sleep and wait for each other. Gives the order in which they ended.
async fn busy() -> Vec<usize> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..20)
        .map(|task| {
            let order = order.clone();
            heist::spawn(async move {
                let child = heist::spawn(async move {
                    for _ in 0..task % 5 {
                        heist::yield_now().await;
                    }
                });
                if task % 3 == 0 {
                    sleep(Duration::from_millis(task as u64)).await;
                }
                child.await.expect("the child ends");
                order.lock().unwrap().push(task);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    Arc::into_inner(order).unwrap().into_inner().unwrap()
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        let run = || {
            let mut runtime = runtime(seed);
            let order = runtime.run(busy());
            let report = runtime.close();
            assert!(report.is_clean(), "{report}");
            (order, runtime.trace())
        };
        let (first, second) = (run(), run());
        assert_eq!(first, second, "seed {seed}");
        assert!(first.1.count() > 100);
    }
}
