//! What heist says of a program that misbehaves: `cargo run --example explain`
//!
//! The program has a task that blocks its thread, two tasks that wait for each other, one that nothing
//! can wake any more, one that fails unseen, one that has never begun, and one whose cleanup takes too
//! long. `on_error` tells of some of them while they happen, `Handle::dump` shows who waits for what,
//! and the `ShutdownReport` names what had to be cut off.

#![forbid(unsafe_code)]

use futures::channel::oneshot;
use heist::inspect::{TaskInfo, TaskState};
use heist::time::{Duration, sleep};
use heist::{Handle, JoinHandle, Runtime, catch_cancel, task};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::task::Poll;

fn main() -> io::Result<()> {
    let mut runtime = Runtime::builder()
        .debug(true)
        .stall_threshold(Duration::from_millis(20))
        .cancel_grace(Duration::from_millis(50))
        .on_error(|report| println!("reported: {report}"))
        .build()?;
    runtime.run(async {
        named("slow", slow()).await.expect("it ends");
        let left = [
            named("leaked", leaked()),
            named("waits for ever", sleep(Duration::MAX)),
            named("tidy", cleans_up(Duration::from_millis(5))),
            named("stubborn", cleans_up(Duration::MAX)),
        ];
        wait_for_each_other();
        drop(heist::spawn_fallible(fails()));
        settle(6).await;

        println!("\n{}", Handle::current().dump());
        drop(left);
        drop(heist::spawn_local(never_begun()));
    });
    println!("{}", runtime.close());
    Ok(())
}

#[track_caller]
fn named<F>(name: &str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    task::Builder::new().name(name).spawn(future)
}

/// Blocks its thread, which nothing else can use meanwhile.
async fn slow() {
    std::thread::sleep(Duration::from_millis(100));
}

/// Forgets its waker, so that nobody can ever wake it.
async fn leaked() {
    poll_fn(|_| Poll::<()>::Pending).await;
}

/// Is asked to end, and takes its time.
async fn cleans_up(time: Duration) {
    let Err(cancelled) = catch_cancel(sleep(Duration::MAX)).await else {
        unreachable!("that is never due")
    };
    sleep(time).await;
    cancelled.resume().await;
}

/// Fails, and nobody looks.
async fn fails() -> Result<(), &'static str> {
    Err("the disk is full")
}

/// Is cancelled before its first poll.
async fn never_begun() {
    pending::<()>().await;
}

/// Each of two tasks awaits the handle of the other.
fn wait_for_each_other() {
    let (to_left, for_left) = oneshot::channel();
    let (to_right, for_right) = oneshot::channel();
    let left = named("left", awaits(for_left));
    let right = named("right", awaits(for_right));
    to_left.send(right).expect("it is there");
    to_right.send(left).expect("it is there");
}

async fn awaits(other: oneshot::Receiver<JoinHandle<()>>) {
    let other = other.await.expect("it is sent");
    other.await.expect("it does not end");
}

/// Until that many tasks are left, and all of them rest.
async fn settle(count: usize) {
    let rests = |task: &TaskInfo| task.state() == TaskState::Idle && !task.waits_on().is_empty();
    loop {
        let tasks = Handle::current().tasks();
        let resting = tasks
            .iter()
            .filter(|task| rests(task) || task.is_stranded());
        if tasks.len() == count && resting.count() == count {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
}
