//! Tasks that wait for each other: pairs over oneshots, a round trip over channels, a stream through one, a ring.
//!
//! The channels are those of `futures` and `async-channel`, the same for every runtime.
#![forbid(unsafe_code)]

use futures::channel::oneshot;

use crate::meter::{Meter, Sample};
use crate::peer::{Peer, Spawn};
use crate::shapes::in_task;

/// `pairs` tasks each spawn a partner and exchange one message with it in both directions. An operation is one pair.
pub fn ping_pong<P: Peer>(peer: &mut P, pairs: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let mut handles = Vec::with_capacity(pairs as usize);
        let mut sum = 0;
        let meter = Meter::start();
        for _ in 0..batches {
            handles.extend((0..pairs).map(|value| inside.spawn(pair(inside.clone(), value))));
            for handle in handles.drain(..) {
                sum += handle.await;
            }
        }
        let sample = meter.stop(pairs * batches);
        assert_eq!(
            sum,
            batches * (pairs * (pairs - 1) / 2 + pairs),
            "every pong came back"
        );
        sample
    })
}

async fn pair<S: Spawn>(spawner: S, value: u64) -> u64 {
    let (ping, pinged) = oneshot::channel();
    let (pong, ponged) = oneshot::channel();
    spawner.spawn_detached(async move {
        let value: u64 = pinged.await.expect("the ping is sent");
        pong.send(value + 1).expect("the pong is awaited");
    });
    ping.send(value).expect("the ping is awaited");
    ponged.await.expect("the pong is sent")
}

/// Two tasks pass a number to and fro over two channels of one place. An operation is one round trip.
pub fn round_trip<P: Peer>(peer: &mut P, trips: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let (there, from_here) = async_channel::bounded(1);
        let (back, from_there) = async_channel::bounded(1);
        let echo = inside.spawn(async move {
            while let Ok(value) = from_here.recv().await {
                let _: u64 = value;
                back.send(value + 1).await.expect("the answer is awaited");
            }
        });
        let mut value = 0;
        let meter = Meter::start();
        for _ in 0..trips * batches {
            there.send(value).await.expect("the partner listens");
            value = from_there.recv().await.expect("the partner answers");
        }
        let sample = meter.stop(trips * batches);
        drop(there);
        echo.await;
        assert_eq!(value, trips * batches, "every message came back once");
        sample
    })
}

/// One task sends `messages` numbers through a channel of `places` places, another takes them. An operation is one
/// message.
pub fn stream<P: Peer>(peer: &mut P, places: usize, messages: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let messages = messages * batches;
        let (sender, receiver) = async_channel::bounded(places);
        let meter = Meter::start();
        let taker = inside.spawn(async move {
            let mut sum = 0;
            while let Ok(value) = receiver.recv().await {
                sum += value;
            }
            sum
        });
        for value in 0..messages {
            sender.send(value).await.expect("the other end listens");
        }
        drop(sender);
        let sum: u64 = taker.await;
        let sample = meter.stop(messages);
        assert_eq!(
            sum,
            messages * (messages - 1) / 2,
            "every message came once"
        );
        sample
    })
}

/// `tasks` tasks in a ring pass one number on, each `rounds` times. An operation is one hop.
pub fn ring<P: Peer>(peer: &mut P, tasks: u64, rounds: u64, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let rounds = rounds * batches;
        let (first, mut before) = async_channel::bounded::<u64>(1);
        let mut handles = Vec::new();
        for _ in 1..tasks {
            let (next, after) = async_channel::bounded(1);
            let from = std::mem::replace(&mut before, after);
            handles.push(inside.spawn(async move {
                for _ in 0..rounds {
                    let value = from.recv().await.expect("the task before sends");
                    next.send(value + 1).await.expect("the task after listens");
                }
            }));
        }
        let mut value = 0;
        let meter = Meter::start();
        for _ in 0..rounds {
            first.send(value + 1).await.expect("the ring listens");
            value = before.recv().await.expect("the ring sends");
        }
        let sample = meter.stop(tasks * rounds);
        for handle in handles {
            handle.await;
        }
        assert_eq!(value, tasks * rounds, "every hop was made");
        sample
    })
}
