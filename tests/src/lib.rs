//! What the tests of the whole system share.
#![forbid(unsafe_code)]

pub mod dice;
#[path = "../it/support.rs"]
pub mod support;

/// The samples in the README and the book, each document under its own name, so that one that does
/// not compile is named.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/introduction.md")]
    mod introduction {}
    #[doc = include_str!("../../docs/tuning.md")]
    mod tuning {}
    #[doc = include_str!("../../docs/coming-from-asyncio.md")]
    mod coming_from_asyncio {}
    #[doc = include_str!("../../docs/coming-from-smol.md")]
    mod coming_from_smol {}
    #[doc = include_str!("../../docs/coming-from-tokio.md")]
    mod coming_from_tokio {}
    #[doc = include_str!("../../docs/guide/run.md")]
    mod run {}
    #[doc = include_str!("../../docs/guide/spawn.md")]
    mod spawn {}
    #[doc = include_str!("../../docs/guide/cancellation.md")]
    mod cancellation {}
    #[doc = include_str!("../../docs/guide/groups.md")]
    mod groups {}
    #[doc = include_str!("../../docs/guide/blocking.md")]
    mod blocking {}
    #[doc = include_str!("../../docs/guide/sockets.md")]
    mod sockets {}
    #[doc = include_str!("../../docs/guide/timers.md")]
    mod timers {}
    #[doc = include_str!("../../docs/guide/shutdown.md")]
    mod shutdown {}
    #[doc = include_str!("../../docs/guide/inspect.md")]
    mod inspect {}
    #[doc = include_str!("../../docs/guide/deadlock.md")]
    mod deadlock {}
    #[doc = include_str!("../../docs/guide/testing.md")]
    mod testing {}
}
