//! Futures, outputs and closures of every size from nothing to a mebibyte, and of every alignment from a
//! cache line to a page, in every kind of task. Each must lie where its type wants to lie, come through
//! as it was, and be dropped once.
#![forbid(unsafe_code)]

use crate::support::{Drops, LIMIT, within_for};
use heist::{Runtime, TaskGroup, catch_cancel, yield_now};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

/// Something of a size and an alignment, whose bytes can be checked, and whose drop counts.
trait Shape: Send + Sized + Unpin + 'static {
    fn make(byte: u8, drops: &Drops) -> Self;
    /// Its bytes are those it was made with, and it is where it wants to be.
    fn check(&self, byte: u8);
}

macro_rules! shape {
    ($name:ident, $bytes:expr, $align:expr) => {
        #[repr(align($align))]
        struct $name(
            [u8; $bytes],
            #[expect(dead_code, reason = "for its drop")] crate::support::DropGuard,
        );
        impl Shape for $name {
            fn make(byte: u8, drops: &Drops) -> Self {
                $name([byte; $bytes], drops.guard())
            }
            fn check(&self, byte: u8) {
                let address = std::ptr::from_ref(self).addr();
                assert_eq!(address % align_of::<Self>(), 0, "{}", stringify!($name));
                assert!(
                    self.0.iter().all(|found| *found == byte),
                    "{}",
                    stringify!($name)
                );
            }
        }
    };
}

shape!(Bytes0, 0, 8);
shape!(Bytes1, 1, 8);
shape!(Bytes63, 63, 8);
shape!(Bytes200, 200, 8);
shape!(Bytes4096, 4096, 8);
shape!(Bytes64Ki, 1 << 16, 8);
shape!(Bytes1Mi, 1 << 20, 8);
shape!(Align64, 10, 64);
shape!(Align128, 10, 128);
shape!(Align256, 1000, 256);
shape!(Align1024, 1, 1024);
shape!(Align4096, 9000, 4096);

/// Looks at what it carries in each of three polls, and gives it out.
struct Carries<S>(Option<S>, u8, u8);

impl<S: Shape> Carries<S> {
    fn new(byte: u8, drops: &Drops) -> Carries<S> {
        Carries(Some(S::make(byte, drops)), byte, 0)
    }
}

impl<S: Shape> Future for Carries<S> {
    type Output = S;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<S> {
        let byte = self.1;
        self.0.as_ref().expect("polled to its end").check(byte);
        self.2 += 1;
        if self.2 < 3 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.0.take().expect("polled to its end"))
    }
}

// A kind of task each, in functions of their own: unoptimized, they have room for each value in each step.

async fn send<S: Shape>(drops: &Drops) {
    let task = heist::spawn(Carries::<S>::new(1, drops));
    task.await.unwrap().check(1);
}

async fn local<S: Shape>(drops: &Drops) {
    let task = heist::spawn_local(Carries::<S>::new(2, drops));
    task.await.unwrap().check(2);
}

async fn blocking<S: Shape>(drops: &Drops) {
    let captured = S::make(3, drops);
    let call = heist::spawn_blocking(move || {
        captured.check(3);
        captured
    });
    call.await.unwrap().check(3);
}

async fn region<S: Shape>(drops: &Drops) {
    let caught = catch_cancel(Carries::<S>::new(4, drops)).await;
    caught.unwrap().check(4);
}

async fn limited<S: Shape>(drops: &Drops) {
    let limited = heist::timeout(Duration::from_secs(60), Carries::<S>::new(5, drops));
    heist::spawn(limited).await.unwrap().unwrap().check(5);
}

async fn grouped<S: Shape>(drops: &Drops) {
    let drops = drops.clone();
    let group = TaskGroup::run(async move |g| {
        let child = g.spawn(async move { Ok::<_, String>(Carries::<S>::new(6, &drops).await) });
        child.await?.check(6);
        Ok(())
    });
    group.await.unwrap();
}

async fn detached<S: Shape>(drops: &Drops) {
    drop(heist::spawn(Carries::<S>::new(7, drops)));
}

async fn never_polled<S: Shape>(drops: &Drops) {
    let task = heist::spawn(Carries::<S>::new(8, drops));
    task.abort();
    drop(task.await);
}

async fn cancelled<S: Shape>(drops: &Drops) {
    let held = S::make(9, drops);
    let task = heist::spawn(async move {
        std::future::pending::<()>().await;
        held.check(9);
    });
    yield_now().await;
    assert!(task.cancel().await.unwrap_err().is_cancelled());
}

fn check<S: Shape>() {
    let drops = Drops::default();
    let mut runtime = Runtime::builder()
        .workers(2)
        .thread_stack_size(STACK)
        .build()
        .unwrap();
    runtime.run(send::<S>(&drops));
    runtime.run(local::<S>(&drops));
    runtime.run(blocking::<S>(&drops));
    runtime.run(region::<S>(&drops));
    runtime.run(limited::<S>(&drops));
    runtime.run(grouped::<S>(&drops));
    runtime.run(detached::<S>(&drops));
    runtime.run(never_polled::<S>(&drops));
    runtime.run(cancelled::<S>(&drops));
    // As `main`, in `block_on`, and as a task that borrows.
    runtime.run(Carries::<S>::new(10, &drops)).check(10);
    let handle = runtime.handle();
    handle.block_on(Carries::<S>::new(11, &drops)).check(11);
    runtime.close();
    let builder = heist::Builder::new().workers(2).thread_stack_size(STACK);
    let output = builder.scope(async |s| s.spawn(Carries::<S>::new(12, &drops)).await.unwrap());
    output.check(12);
    drop(output);
    assert_eq!(drops.count(), 12);
}

/// Unoptimized code moves a value through every frame.
const STACK: usize = 256 << 20;

#[test]
fn futures_of_every_size_and_alignment_in_every_kind_of_task() {
    within_for(2 * LIMIT, || {
        let all = || {
            check::<Bytes0>();
            check::<Bytes1>();
            check::<Bytes63>();
            check::<Bytes200>();
            check::<Bytes4096>();
            check::<Bytes64Ki>();
            check::<Bytes1Mi>();
            check::<Align64>();
            check::<Align128>();
            check::<Align256>();
            check::<Align1024>();
            check::<Align4096>();
        };
        let thread = thread::Builder::new().stack_size(STACK).spawn(all).unwrap();
        thread.join().unwrap();
    });
}
