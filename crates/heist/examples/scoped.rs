//! Tasks that borrow from the caller: no `Arc`, no `clone`, no `'static`.
//!
//! ```sh
//! cargo run --release -p heist --example scoped
//! ```
//!
//! `heist::scope` is a blocking call like `heist::run`. The tasks spawned in it may borrow whatever
//! outlives the call, because it does not return before all of them are gone.

use heist::time::{Duration, sleep};
use std::sync::atomic::{AtomicUsize, Ordering};

const TEXT: &str = "\
the lookout sleeps until there is something to see
the driver waits until there is somewhere to go
the one who has nothing to do steals from the one who has too much
and when the job is done the room is as it was before";

fn main() {
    count_words();
    fill_in_parallel();
    wait_for_the_forgotten();
}

/// Tasks read the caller's data, and give back references into it.
fn count_words() {
    let lines: Vec<&str> = TEXT.lines().collect();

    let longest: Vec<&str> = heist::scope(async |s| {
        let tasks: Vec<_> = lines
            .iter()
            .map(|line| s.spawn(longest_word(line)))
            .collect();
        let mut longest = Vec::new();
        for task in tasks {
            longest.push(
                task.await
                    .expect("the task neither panicked nor was cancelled"),
            );
        }
        longest
    });

    for (line, word) in lines.iter().zip(&longest) {
        println!("the longest word of \"{line}\" is \"{word}\"");
    }
    assert_eq!(longest, ["something", "somewhere", "nothing", "before"]);
}

/// An ordinary `async fn` that borrows.
async fn longest_word(line: &str) -> &str {
    heist::yield_now().await;
    // Of words with the same length the first.
    line.split(' ')
        .rev()
        .max_by_key(|word| word.len())
        .unwrap_or("")
}

/// Each task writes to its own part of the caller's vector.
fn fill_in_parallel() {
    const PART: usize = 25_000;
    let mut squares = vec![0_u64; 4 * PART];

    heist::scope(async |s| {
        for (number, part) in squares.chunks_mut(PART).enumerate() {
            // A dropped handle detaches its task, and the scope waits for it all the same.
            drop(s.spawn(async move {
                for (n, square) in (number * PART..).zip(part) {
                    *square = (n as u64).pow(2);
                }
            }));
        }
    });

    // The borrows are over, so the vector is ours again.
    let sum: u64 = squares.iter().sum();
    println!("the first {} squares add up to {sum}", squares.len());
    assert_eq!(sum, 333_328_333_350_000);
}

/// A task may outlive the body that spawned it, but not the scope.
fn wait_for_the_forgotten() {
    let done = AtomicUsize::new(0);
    heist::scope(async |s| {
        for milliseconds in [30, 10, 20] {
            let done = &done;
            drop(s.spawn(async move {
                sleep(Duration::from_millis(milliseconds)).await;
                done.fetch_add(1, Ordering::Relaxed);
            }));
        }
    });
    println!("{} tasks slept to their end", done.load(Ordering::Relaxed));
    assert_eq!(done.into_inner(), 3);
}
