//! One look at everything that must stay flat.
#![forbid(unsafe_code)]

use crate::traffic::Traffic;
use crate::{heap, process};
use heist::Handle;
use heist_tests::support::resident;

/// What was seen at one moment, and of the time since the look before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Seconds since the traffic began.
    pub(crate) at: f64,
    /// Bytes.
    pub(crate) resident: f64,
    /// Bytes.
    pub(crate) heap: f64,
    pub(crate) threads: f64,
    pub(crate) descriptors: f64,
    pub(crate) server_tasks: f64,
    pub(crate) client_tasks: f64,
    /// Exchanges per second.
    pub(crate) rate: f64,
    /// Of exchanges, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// How late a timer of the server was, in microseconds.
    pub(crate) timer_p99: f64,
    /// How late a thread of no runtime was woken, in microseconds: the machine's own part.
    pub(crate) thread_p99: f64,
    /// The load average of the machine.
    pub(crate) load: f64,
}

impl Sample {
    /// Looks now, `at` seconds after the beginning and `since` after the last look.
    pub(crate) fn take(
        at: f64,
        since: f64,
        traffic: &Traffic,
        server: &Handle,
        client: &Handle,
    ) -> Sample {
        let (exchanges, [timer, thread]) = traffic.take_recent();
        let holdings = process::holdings();
        Sample {
            at,
            resident: resident() as f64,
            heap: heap::in_use() as f64,
            threads: holdings.threads as f64,
            descriptors: holdings.descriptors as f64,
            server_tasks: server.metrics().live_tasks() as f64,
            client_tasks: client.metrics().live_tasks() as f64,
            rate: exchanges.count as f64 / since,
            p50: exchanges.p50,
            p99: exchanges.p99,
            max: exchanges.max,
            timer_p99: timer.p99,
            thread_p99: thread.p99,
            load: process::load(),
        }
    }

    /// The sample in short, to see how it goes on.
    pub(crate) fn to_line(self) -> String {
        format!(
            "{:5.0} s: {:5.0} exchanges/s, p50 {:.0} µs, p99 {:.0} µs; {:.1} MiB resident, {:.0} KiB in use, \
             {} threads, {} descriptors, {} + {} tasks; load {:.1}",
            self.at,
            self.rate,
            self.p50,
            self.p99,
            self.resident / 1_048_576.0,
            self.heap / 1024.0,
            self.threads,
            self.descriptors,
            self.server_tasks,
            self.client_tasks,
            self.load
        )
    }
}
