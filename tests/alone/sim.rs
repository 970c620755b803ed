//! What a deterministic runtime does, for a comparison of processes.
#![forbid(unsafe_code)]

use heist::Runtime;
use heist::time::{Duration, sleep};

/// Prints the traces of some seeds.
pub(crate) fn traces() {
    for seed in 0..8 {
        let mut runtime = Runtime::builder()
            .deterministic(seed)
            .build()
            .expect("no thread is needed");
        runtime.run(async {
            let tasks: Vec<_> = (0..50)
                .map(|task| {
                    heist::spawn(async move {
                        heist::yield_now().await;
                        let child = heist::spawn(sleep(Duration::from_millis(task % 7)));
                        heist::spawn_blocking(|| ()).await.expect("it ends");
                        child.await.expect("it ends");
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("it ends");
            }
        });
        runtime.close();
        println!("seed {seed}: {}", runtime.trace());
    }
}
