//! What a group answers when something in it failed: [`GroupError`], a tree of errors.

#![forbid(unsafe_code)]

use super::BoxError;
use crate::task::Label;
use heist_core::drop_payload;
use parking_lot::Mutex;
use std::any::Any;
use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::panic::Location;
use std::slice;
use std::vec;

/// What went wrong in a [`TaskGroup`](crate::TaskGroup): the errors of its children and of its body,
/// in the order in which they came.
///
/// A group inside of a group gives an error inside of an error, so this is a tree. As text it is one,
/// a line for each error and for each of its causes. Its [`source`](Error::source) is the first error.
///
/// ```
/// use heist::TaskGroup;
///
/// heist::run(async {
///     let inner = async || {
///         TaskGroup::run(async |g| {
///             g.spawn(async { Err::<(), _>("connection refused") });
///             Ok(())
///         })
///         .await
///     };
///     let error = TaskGroup::run(async |g| {
///         g.spawn(inner());
///         std::future::pending::<Result<(), heist::group::BoxError>>().await
///     })
///     .await
///     .unwrap_err();
///     let text = error.to_string();
///     let lines: Vec<_> = text.lines().collect();
///     assert!(lines[0].starts_with("1 error in the task group"));
///     assert!(lines[1].starts_with("└─ 1 error in the task group"));
///     assert_eq!(lines[2], "   └─ connection refused");
/// });
/// ```
pub struct GroupError {
    errors: Vec<BoxError>,
    site: &'static Location<'static>,
}

impl GroupError {
    pub(super) fn new(errors: Vec<BoxError>, site: &'static Location<'static>) -> GroupError {
        GroupError { errors, site }
    }

    /// Nothing failed: [`TaskGroup::cancel`](crate::TaskGroup::cancel) ended the group before its
    /// body had a value. There is no error inside.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |g| {
    ///         g.cancel();
    ///         std::future::pending::<Result<(), _>>().await
    ///     });
    ///     assert!(ended.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.errors.is_empty()
    }

    /// How many errors are directly inside.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run::<_, _, ()>(async |_| Err("no".into()));
    ///     assert_eq!(ended.await.unwrap_err().len(), 1);
    /// });
    /// ```
    #[expect(
        clippy::len_without_is_empty,
        reason = "an error with nothing inside has a name: `is_cancelled`"
    )]
    pub fn len(&self) -> usize {
        self.errors.len()
    }

    /// The errors directly inside. One of them may be a `GroupError` in its turn.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run::<_, _, ()>(async |_| Err("no".into()));
    ///     let error = ended.await.unwrap_err();
    ///     assert_eq!(error.iter().next().unwrap().to_string(), "no");
    /// });
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.errors.iter())
    }

    /// Every error of the tree that is not a group's own, from the left to the right.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |_| {
    ///         heist::TaskGroup::run::<_, _, ()>(async |_| Err("deep".into())).await?;
    ///         Ok(())
    ///     });
    ///     let error = ended.await.unwrap_err();
    ///     assert_eq!(error.leaves()[0].to_string(), "deep");
    /// });
    /// ```
    pub fn leaves(&self) -> Vec<&(dyn Error + Send + Sync + 'static)> {
        let mut leaves = Vec::new();
        for error in self {
            match error.downcast_ref::<GroupError>() {
                Some(group) => leaves.extend(group.leaves()),
                None => leaves.push(error),
            }
        }
        leaves
    }

    /// Whether there is an error of type `E` anywhere in the tree.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |_| Ok("x".parse::<u8>()?));
    ///     assert!(ended.await.unwrap_err().contains::<std::num::ParseIntError>());
    /// });
    /// ```
    pub fn contains<E: Error + 'static>(&self) -> bool {
        self.leaves().iter().any(|error| error.is::<E>())
    }

    /// Takes all errors of type `E` out of the tree: those, and what is left of it, if anything is.
    ///
    /// A group that becomes empty by this is left out.
    ///
    /// ```
    /// use std::num::ParseIntError;
    ///
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run(async |_| Ok("x".parse::<u8>()?));
    ///     let (numbers, rest) = ended.await.unwrap_err().downcast::<ParseIntError>();
    ///     assert_eq!(numbers.len(), 1);
    ///     assert!(rest.is_none());
    /// });
    /// ```
    pub fn downcast<E: Error + 'static>(self) -> (Vec<E>, Option<GroupError>) {
        let mut found = Vec::new();
        if self.is_cancelled() {
            return (found, Some(self));
        }
        let rest = self.take_out(&mut found);
        (found, rest)
    }

    fn take_out<E: Error + 'static>(self, found: &mut Vec<E>) -> Option<GroupError> {
        let mut rest = Vec::new();
        for error in self.errors {
            match error.downcast::<E>() {
                Ok(error) => found.push(*error),
                Err(error) => match error.downcast::<GroupError>() {
                    Ok(group) if !group.is_cancelled() => {
                        rest.extend(group.take_out(found).map(BoxError::from));
                    }
                    Ok(group) => rest.push(group),
                    Err(error) => rest.push(error),
                },
            }
        }
        (!rest.is_empty()).then_some(GroupError {
            errors: rest,
            site: self.site,
        })
    }

    /// Splits the tree in two of the same shape: the errors for which `belongs` is true, and the
    /// others. It is not asked about groups. A group without errors goes with the others.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run::<_, _, ()>(async |_| Err("late".into()));
    ///     let (late, other) = ended.await.unwrap_err().split(|e| e.to_string() == "late");
    ///     assert_eq!(late.unwrap().len(), 1);
    ///     assert!(other.is_none());
    /// });
    /// ```
    pub fn split(
        self,
        mut belongs: impl FnMut(&(dyn Error + Send + Sync + 'static)) -> bool,
    ) -> (Option<GroupError>, Option<GroupError>) {
        self.split_by(&mut belongs)
    }

    fn split_by(
        self,
        belongs: &mut dyn FnMut(&(dyn Error + Send + Sync + 'static)) -> bool,
    ) -> (Option<GroupError>, Option<GroupError>) {
        let site = self.site;
        if self.is_cancelled() {
            return (None, Some(self));
        }
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for error in self.errors {
            match error.downcast::<GroupError>() {
                Ok(group) => {
                    let (of_yes, of_no) = group.split_by(belongs);
                    yes.extend(of_yes.map(BoxError::from));
                    no.extend(of_no.map(BoxError::from));
                }
                Err(error) if belongs(&*error) => yes.push(error),
                Err(error) => no.push(error),
            }
        }
        let group = |errors: Vec<_>| (!errors.is_empty()).then_some(GroupError { errors, site });
        (group(yes), group(no))
    }

    /// Where the group was run.
    ///
    /// ```
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::run::<_, _, ()>(async |_| Err("no".into()));
    ///     assert_eq!(ended.await.unwrap_err().site().file(), file!());
    /// });
    /// ```
    pub fn site(&self) -> &'static Location<'static> {
        self.site
    }

    fn title(&self) -> String {
        match self.errors.len() {
            0 => format!("the task group at {} was cancelled", self.site),
            1 => format!("1 error in the task group at {}", self.site),
            n => format!("{n} errors in the task group at {}", self.site),
        }
    }

    /// The lines under the title, each behind `indent`.
    fn branches(&self, f: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let last = index + 1 == self.errors.len();
            let (bullet, below) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            let below = format!("{indent}{below}");
            if let Some(group) = error.downcast_ref::<GroupError>() {
                write!(f, "\n{indent}{bullet}{}", group.title())?;
                group.branches(f, &below)?;
                continue;
            }
            write!(f, "\n{indent}{bullet}")?;
            write!(Indented { f, indent: &below }, "{error}")?;
            let mut cause = error.source();
            while let Some(error) = cause {
                write!(f, "\n{below}caused by: ")?;
                write!(Indented { f, indent: &below }, "{error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

/// Keeps the further lines of a text in its column.
struct Indented<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    indent: &'a str,
}

impl fmt::Write for Indented<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                write!(self.f, "\n{}", self.indent)?;
            }
            self.f.write_str(line)?;
        }
        Ok(())
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title())?;
        self.branches(f, "")
    }
}

impl fmt::Debug for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupError")
            .field("site", &format_args!("{}", self.site))
            .field("errors", &self.errors)
            .finish()
    }
}

impl Error for GroupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let first = self.errors.first()?;
        Some(&**first)
    }
}

impl From<GroupError> for io::Error {
    fn from(error: GroupError) -> io::Error {
        io::Error::other(error)
    }
}

/// The errors directly inside of a [`GroupError`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(slice::Iter<'a, BoxError>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a (dyn Error + Send + Sync + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|error| &**error)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a GroupError {
    type Item = &'a (dyn Error + Send + Sync + 'static);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for GroupError {
    type Item = BoxError;
    type IntoIter = vec::IntoIter<BoxError>;

    fn into_iter(self) -> vec::IntoIter<BoxError> {
        self.errors.into_iter()
    }
}

/// A panic that a group with [`collect_panics`](crate::group::Builder::collect_panics) has caught.
///
/// ```
/// use heist::group::Panicked;
///
/// heist::run(async {
///     let ended = heist::TaskGroup::builder().collect_panics().run::<_, _, ()>(async |g| {
///         g.spawn(async { if true { panic!("boom") } else { Ok::<(), String>(()) } });
///         std::future::pending().await
///     });
///     let (panics, rest) = ended.await.unwrap_err().downcast::<Panicked>();
///     assert_eq!(panics[0].message(), "boom");
///     assert!(rest.is_none());
/// });
/// ```
pub struct Panicked {
    /// It is `Send` but need not be `Sync`; the lock makes the error `Sync`.
    payload: Mutex<Option<Box<dyn Any + Send>>>,
    message: Box<str>,
    /// `None`: the body.
    task: Option<Label>,
}

impl Panicked {
    pub(super) fn new(payload: Box<dyn Any + Send>, task: Option<Label>) -> Panicked {
        let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
            Box::from(*text)
        } else if let Some(text) = payload.downcast_ref::<String>() {
            Box::from(text.as_str())
        } else {
            Box::from("a payload that is not text")
        };
        Panicked {
            payload: Mutex::new(Some(payload)),
            message,
            task,
        }
    }

    /// The text of the panic; if its payload is none, a text that says so.
    ///
    /// ```
    /// use heist::group::Panicked;
    ///
    /// heist::run(async {
    ///     let ended =
    ///         heist::TaskGroup::builder().collect_panics().run::<_, _, ()>(async |_| panic!("boom"));
    ///     let (panics, _) = ended.await.unwrap_err().downcast::<Panicked>();
    ///     assert_eq!(panics[0].message(), "boom");
    /// });
    /// ```
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The child that panicked; `None` for the body.
    ///
    /// ```
    /// use heist::{group::Panicked, task};
    ///
    /// heist::run(async {
    ///     let ended = heist::TaskGroup::builder().collect_panics().run::<_, _, ()>(async |g| {
    ///         let bomb = async { if true { panic!("boom") } else { Ok::<(), String>(()) } };
    ///         task::Builder::new().name("bomb").spawn_in(&g, bomb);
    ///         std::future::pending().await
    ///     });
    ///     let (panics, _) = ended.await.unwrap_err().downcast::<Panicked>();
    ///     assert_eq!(panics[0].task().unwrap().name.as_deref(), Some("bomb"));
    /// });
    /// ```
    pub fn task(&self) -> Option<&Label> {
        self.task.as_ref()
    }

    /// The payload, to resume the panic or to look into it.
    ///
    /// ```
    /// use heist::group::Panicked;
    ///
    /// heist::run(async {
    ///     let ended =
    ///         heist::TaskGroup::builder().collect_panics().run::<_, _, ()>(async |_| panic!("boom"));
    ///     let (mut panics, _) = ended.await.unwrap_err().downcast::<Panicked>();
    ///     let payload = panics.remove(0).into_panic();
    ///     assert_eq!(payload.downcast_ref::<&str>(), Some(&"boom"));
    /// });
    /// ```
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        let payload = self.payload.lock().take();
        payload.expect("only `into_panic` takes it")
    }
}

impl Drop for Panicked {
    fn drop(&mut self) {
        self.payload
            .get_mut()
            .take()
            .into_iter()
            .for_each(drop_payload);
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(task) => write!(f, "{task} panicked: {}", self.message),
            None => write!(f, "the body panicked: {}", self.message),
        }
    }
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panicked")
            .field("message", &self.message)
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

impl Error for Panicked {}
