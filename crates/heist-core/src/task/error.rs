//! Why a task has no output.

#![forbid(unsafe_code)]

use super::Id;
use super::region::Why;
use crate::sync::Mutex;
use std::any::Any;
use std::fmt;
use std::io;
use std::panic::Location;

/// Why a task ended without its output.
///
/// It is one pointer wide, so that it adds nothing to a task whose output is small.
pub struct JoinError(Box<Inner>);

struct Inner {
    id: Id,
    name: Option<Box<str>>,
    site: &'static Location<'static>,
    kind: Kind,
}

enum Kind {
    /// With the request, if it was not the end of the loop.
    Cancelled(Option<Why>),
    /// The payload is `Send` but need not be `Sync`; the lock makes the error `Sync`.
    Panic(Mutex<Option<Box<dyn Any + Send>>>, Box<str>),
    Closed,
    Forked,
    NoThread(io::Error),
    Abandoned,
    /// The task gave an `Err`, of this text, that nobody took. Only ever seen by the error handler.
    Failed(Box<str>),
}

impl JoinError {
    fn new(task: &Label, kind: Kind) -> JoinError {
        JoinError(Box::new(Inner {
            id: task.id,
            name: task.name.clone(),
            site: task.site,
            kind,
        }))
    }

    pub(crate) fn cancelled(task: &Label, why: Option<Why>) -> JoinError {
        JoinError::new(task, Kind::Cancelled(why))
    }

    pub(crate) fn panic(task: &Label, payload: Box<dyn Any + Send>) -> JoinError {
        let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
            Box::from(*text)
        } else if let Some(text) = payload.downcast_ref::<String>() {
            Box::from(text.as_str())
        } else {
            Box::from("a payload that is not text")
        };
        JoinError::new(task, Kind::Panic(Mutex::new(Some(payload)), message))
    }

    pub(crate) fn closed(task: &Label) -> JoinError {
        JoinError::new(task, Kind::Closed)
    }

    pub(crate) fn forked(task: &Label) -> JoinError {
        JoinError::new(task, Kind::Forked)
    }

    pub(crate) fn no_thread(task: &Label, error: io::Error) -> JoinError {
        JoinError::new(task, Kind::NoThread(error))
    }

    pub(crate) fn failed(task: &Label, text: String) -> JoinError {
        JoinError::new(task, Kind::Failed(text.into()))
    }

    /// The text of an `Err` that nobody took.
    pub(crate) fn failure(&self) -> Option<&str> {
        match &self.0.kind {
            Kind::Failed(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn abandoned(task: &Label) -> JoinError {
        JoinError::new(task, Kind::Abandoned)
    }

    /// The task was aborted or cancelled, or its runtime ended.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, Kind::Cancelled(_))
    }

    /// The task, or a destructor of its future or output, panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0.kind, Kind::Panic(..))
    }

    /// The runtime did not take the task: it was closed, or it has no thread and none could be
    /// started ([`source`](std::error::Error::source) then says why), or this process is a forked
    /// child of the one it belongs to. The future was dropped without having been polled.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.kind, Kind::Closed | Kind::Forked | Kind::NoThread(_))
    }

    /// The runtime ended while the task was inside `poll` or `drop` and did not come back within
    /// its grace. The future may still exist.
    pub fn is_abandoned(&self) -> bool {
        matches!(self.0.kind, Kind::Abandoned)
    }

    /// The payload of the panic, to resume it or to look into it.
    ///
    /// # Panics
    ///
    /// If [`is_panic`](JoinError::is_panic) is false.
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(error) => panic!("into_panic on an error that is not a panic: {error}"),
        }
    }

    /// The payload of the panic, or the error back.
    ///
    /// # Errors
    ///
    /// The error itself if it is not a panic.
    pub fn try_into_panic(mut self) -> Result<Box<dyn Any + Send>, JoinError> {
        match &mut self.0.kind {
            Kind::Panic(payload, _) => match payload.get_mut().take() {
                Some(payload) => Ok(payload),
                None => Err(self),
            },
            _ => Err(self),
        }
    }

    /// In words, why: the text of a panic, the reason that was given for a cancellation, or what
    /// ended the task.
    pub fn reason(&self) -> &str {
        match &self.0.kind {
            Kind::Cancelled(why) => why
                .as_ref()
                .and_then(|why| why.reason.as_deref())
                .unwrap_or("cancelled"),
            Kind::Panic(_, message) => message,
            Kind::Closed => "the runtime is closed",
            Kind::Forked => "the runtime belongs to the parent of this process",
            Kind::NoThread(_) => "no thread could be started",
            Kind::Abandoned => "abandoned by the end of the runtime",
            Kind::Failed(text) => text,
        }
    }

    /// The task.
    pub fn id(&self) -> Id {
        self.0.id
    }

    /// The name given with `task::Builder`.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    pub(crate) fn label(&self) -> Label {
        Label {
            id: self.0.id,
            name: self.0.name.clone(),
            site: self.0.site,
        }
    }

    /// Where the task was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.0.site
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The payload's destructor is user code: a panic in it must not escape from wherever this
        // error happens to be dropped.
        if let Kind::Panic(payload, _) = &mut self.kind {
            if let Some(payload) = payload.get_mut().take() {
                crate::hooks::drop_payload(payload);
            }
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.0.id)?;
        if let Some(name) = &self.0.name {
            write!(f, " '{name}'")?;
        }
        write!(f, " (spawned at {})", self.0.site)?;
        match &self.0.kind {
            Kind::Cancelled(None) => f.write_str(" was cancelled"),
            Kind::Cancelled(Some(why)) => write!(f, " was {why}"),
            Kind::Panic(_, message) => write!(f, " panicked: {message}"),
            Kind::Closed => f.write_str(" was not started: the runtime is closed"),
            Kind::Forked => f.write_str(
                " was not started: the runtime belongs to the parent of this forked process",
            ),
            Kind::NoThread(error) => {
                write!(
                    f,
                    " was not started: the runtime has no thread and could start none: {error}"
                )
            }
            Kind::Failed(text) => write!(f, " failed: {text}"),
            Kind::Abandoned => f.write_str(
                " was abandoned: the runtime ended and the task did not come back from its poll",
            ),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinError")
            .field("id", &self.0.id)
            .field("name", &self.0.name)
            .field("spawned_at", &format_args!("{}", self.0.site))
            .field("reason", &self.reason())
            .finish()
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            Kind::NoThread(error) => Some(error),
            _ => None,
        }
    }
}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error)
    }
}

/// How a task is called in errors and reports.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its identity.
    pub id: Id,
    /// The name given with `task::Builder`.
    pub name: Option<Box<str>>,
    /// Where it was spawned.
    pub site: &'static Location<'static>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        write!(f, " spawned at {}", self.site)
    }
}
