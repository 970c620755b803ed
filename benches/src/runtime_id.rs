//! Runtimes by name.
#![forbid(unsafe_code)]

/// A runtime under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeId {
    /// heist.
    #[cfg(feature = "heist")]
    Heist,
    /// tokio's multi-threaded runtime.
    Tokio,
    /// The same with eager hand-over of the driver; in the shapes with stalls alone.
    Eager,
    /// async-executor with async-io.
    Executor,
    /// async-executor's `StaticExecutor` with async-io.
    Static,
    /// futures' `ThreadPool`.
    Pool,
    /// Bare epoll loops; plain sockets alone.
    Bare,
}

impl RuntimeId {
    /// All of them, heist first.
    pub const ALL: &[Self] = &[
        #[cfg(feature = "heist")]
        Self::Heist,
        Self::Tokio,
        Self::Eager,
        Self::Executor,
        Self::Static,
        Self::Pool,
        Self::Bare,
    ];

    /// The name in tables and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "heist")]
            Self::Heist => "heist",
            Self::Tokio => "tokio",
            Self::Eager => "tokio-eager",
            Self::Executor => "async-executor",
            Self::Static => "static-executor",
            Self::Pool => "futures-pool",
            Self::Bare => "bare-epoll",
        }
    }

    /// The runtime of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| id.name() == name)
    }

    /// Whether it is an executor that heist is to be measured against.
    #[must_use]
    pub fn is_peer(self) -> bool {
        !matches!(self.name(), "heist" | "bare-epoll")
    }
}
