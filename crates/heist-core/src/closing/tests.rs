//! Runtimes that end inside of others.

#![forbid(unsafe_code)]

use super::*;
use crate::task::tests::support::{config, here, run, runtime, within};

/// A task makes runtimes and drops them, again and again; each ends on a thread of its own. What has ended
/// is not kept until the outer runtime does.
#[test]
fn runtimes_that_have_ended_are_not_kept() {
    within("runtimes in a runtime", || {
        let (freed, report) = run(1, async {
            let mut all = Vec::new();
            for _ in 0..5 {
                let inner = runtime(config(1));
                let me = async { context::with(|cx| cx.expect("inside").shared.me.clone()) };
                let task = inner.handle().spawn(here(), me);
                let shared = task.await.expect("it runs");
                drop(inner);
                while shared
                    .upgrade()
                    .is_some_and(|shared| !shared.closing.has_ended())
                {
                    thread::yield_now();
                }
                all.push(shared);
            }
            all.iter()
                .filter(|shared| shared.strong_count() == 0)
                .count()
        });
        assert_eq!(freed, 4, "all but the last");
        assert!(report.is_clean(), "{report}");
    });
}
