//! [`Dump`]: all tasks as a tree, and what is wrong with them.

#![forbid(unsafe_code)]

use super::json::{self, Json};
use super::tasks::{TaskInfo, TaskState, WaitsOn};
use crate::task::Id;
use crate::time::Instant;
use std::collections::HashMap;
use std::fmt;

/// The levels of a tree that are indented. A chain of tasks in which each spawned the next can be a
/// million long, and its text should not be a million times as wide.
const LEVELS: usize = 32;

/// All tasks of a runtime, and those among them that will not go on.
///
/// As text it is a tree: each task is below the one that spawned it. [`Dump::to_json`] is for
/// programs.
///
/// ```
/// let mut runtime = heist::Runtime::builder().debug(true).build()?;
/// runtime.run(async {
///     let build = || heist::task::Builder::new();
///     let parent = build().name("parent").spawn(async move {
///         build().name("child").spawn(std::future::pending::<()>()).await
///     });
///     while heist::Handle::current().tasks().len() < 2 {
///         heist::yield_now().await;
///     }
///     let text = heist::Handle::current().dump().to_string();
///     let child = text.lines().find(|line| line.contains("'child'")).unwrap();
///     assert!(child.starts_with("    task "), "{text}");
///     drop(parent);
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dump {
    /// Parents before children, siblings by age.
    tasks: Vec<TaskInfo>,
    /// How deep each of them is in the tree.
    depths: Vec<usize>,
    cycles: Vec<Vec<Id>>,
    taken_at: Instant,
}

impl Dump {
    /// `look` lists all tasks; it is called again to make sure of what looks like a cycle.
    pub(crate) fn take(look: impl Fn() -> Vec<TaskInfo>) -> Dump {
        let tasks = look();
        let taken_at = Instant::now();
        let mut cycles = cycles(&tasks);
        if !cycles.is_empty() {
            confirm(&mut cycles, &tasks, &look());
        }
        let (tasks, depths) = in_order(tasks);
        Dump {
            tasks,
            depths,
            cycles,
            taken_at,
        }
    }

    /// The tasks, each after the one that spawned it.
    ///
    /// ```
    /// heist::run(async {
    ///     drop(heist::spawn(std::future::pending::<()>()));
    ///     assert_eq!(heist::Handle::current().dump().tasks().len(), 1);
    /// });
    /// ```
    #[must_use]
    pub fn tasks(&self) -> &[TaskInfo] {
        &self.tasks
    }

    /// Tasks that wait for each other: each for the end of the next, and the last for that of the
    /// first.
    ///
    /// All of them rested at the same moment. Unless one of them waits on something else as well,
    /// they will rest for ever.
    ///
    /// ```
    /// heist::run(async {
    ///     drop(heist::spawn(async {}));
    ///     assert!(heist::Handle::current().dump().cycles().is_empty());
    /// });
    /// ```
    #[must_use]
    pub fn cycles(&self) -> &[Vec<Id>] {
        &self.cycles
    }

    /// Tasks that can never run again, since nobody has a waker of them; see
    /// [`TaskInfo::is_stranded`].
    ///
    /// ```
    /// let mut runtime = heist::Runtime::builder().workers(1).spare_workers(0).build()?;
    /// runtime.run(async {
    ///     let lost = heist::spawn(std::future::pending::<()>());
    ///     heist::yield_now().await;
    ///     let dump = heist::Handle::current().dump();
    ///     assert_eq!(dump.stranded().next().unwrap().id(), lost.id());
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stranded(&self) -> impl Iterator<Item = &TaskInfo> {
        self.tasks.iter().filter(|task| task.is_stranded())
    }

    /// The dump as one line of JSON.
    ///
    /// An object of three arrays:
    ///
    /// * `tasks`: objects with `id`, `name` (or `null`), `kind` (`send`, `local`, `blocking`), `state`
    ///   (`queued`, `running`, `idle`, `blocking-queued`, `blocking-running`), `file`, `line` and
    ///   `column` of the spawn, `parent` (or `null`), `polls`, `stranded`, and `waits_on`. That is an
    ///   array of objects with `on`: `sleep`, with `remaining_ns` (`null` for a timer that is never
    ///   due); `readable`, `writable` or `accept`, with `fd`; `task` or `blocking`, with `id`.
    /// * `cycles`: arrays of identities, see [`Dump::cycles`].
    /// * `stranded`: identities, see [`Dump::stranded`].
    ///
    /// ```
    /// let runtime = heist::Runtime::new()?;
    /// let json = runtime.handle().dump().to_json();
    /// assert_eq!(json, r#"{"tasks":[],"cycles":[],"stranded":[]}"#);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        json::object(&mut out, |object| {
            object.array("tasks", &self.tasks, |out, task| self.task(out, task));
            object.array("cycles", &self.cycles, |out, cycle| {
                json::array(out, cycle, |out, id| id.as_u64().write(out));
            });
            object.array("stranded", self.stranded(), |out, task| {
                task.id().as_u64().write(out);
            });
        });
        out
    }

    fn task(&self, out: &mut String, task: &TaskInfo) {
        let site = task.spawned_at();
        json::object(out, |object| {
            object.field("id", task.id().as_u64());
            object.field("name", task.name());
            object.field("kind", task.kind().name());
            object.field("state", task.state().name());
            object.field("file", site.file());
            object.field("line", u64::from(site.line()));
            object.field("column", u64::from(site.column()));
            object.field("parent", task.parent().map(Id::as_u64));
            object.field("polls", u64::from(task.polls()));
            object.field("stranded", task.is_stranded());
            object.array("waits_on", task.waits_on(), |out, wait| {
                self.wait(out, *wait);
            });
        });
    }

    fn wait(&self, out: &mut String, wait: WaitsOn) {
        let (on, field, value) = match wait {
            WaitsOn::Sleep { until } => {
                let left = until.duration_since(self.taken_at).as_nanos();
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                let due = until != Instant::far_future();
                ("sleep", "remaining_ns", due.then_some(left))
            }
            WaitsOn::Readable { fd } => ("readable", "fd", Some(fd)),
            WaitsOn::Writable { fd } => ("writable", "fd", Some(fd)),
            WaitsOn::Accept { fd } => ("accept", "fd", Some(fd)),
            WaitsOn::Task { id } => ("task", "id", Some(id.as_u64())),
            WaitsOn::Blocking { id } => ("blocking", "id", Some(id.as_u64())),
        };
        json::object(out, |object| {
            object.field("on", on);
            object.field(field, value);
        });
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.tasks.len();
        write!(f, "{count} task{}", if count == 1 { "" } else { "s" })?;
        for (task, depth) in self.tasks.iter().zip(&self.depths) {
            let indent = 2 * (1 + depth.min(&LEVELS));
            write!(f, "\n{:indent$}{task}", "")?;
        }
        for cycle in &self.cycles {
            f.write_str("\nwait for each other: ")?;
            for id in cycle {
                write!(f, "task {id} -> ")?;
            }
            write!(f, "task {}", cycle[0])?;
        }
        for task in self.stranded() {
            write!(
                f,
                "\ncan never run again, nobody has a waker of it: task {}",
                task.id()
            )?;
        }
        Ok(())
    }
}

/// The tasks as a tree: each after the one that spawned it, with its depth. One whose parent has
/// ended is a root.
fn in_order(mut tasks: Vec<TaskInfo>) -> (Vec<TaskInfo>, Vec<usize>) {
    // Identities are given out in blocks to threads, so this is age only among siblings of one
    // thread; in any case it is always the same order.
    tasks.sort_by_key(TaskInfo::id);
    let places: HashMap<Id, usize> = ids(&tasks);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    // Taken from the end.
    let mut left = Vec::new();
    for (place, task) in tasks.iter().enumerate().rev() {
        match task.parent().and_then(|parent| places.get(&parent)) {
            Some(parent) => children[*parent].push(place),
            None => left.push((place, 0)),
        }
    }
    let mut order = Vec::with_capacity(tasks.len());
    while let Some((place, depth)) = left.pop() {
        order.push((place, depth));
        left.extend(children[place].iter().map(|child| (*child, depth + 1)));
    }
    let mut tasks: Vec<Option<TaskInfo>> = tasks.into_iter().map(Some).collect();
    order
        .into_iter()
        .filter_map(|(place, depth)| Some((tasks[place].take()?, depth)))
        .unzip()
}

fn ids(tasks: &[TaskInfo]) -> HashMap<Id, usize> {
    let places = tasks.iter().enumerate();
    places.map(|(place, task)| (task.id(), place)).collect()
}

/// Tasks that rest and wait for each other.
///
/// A task has one join handle, and so one task at most that waits for it: from each task one way
/// leads on, and following it either ends or comes back.
fn cycles(tasks: &[TaskInfo]) -> Vec<Vec<Id>> {
    let places = ids(tasks);
    let mut waiter: Vec<Option<usize>> = vec![None; tasks.len()];
    for (place, task) in tasks.iter().enumerate() {
        if task.state() == TaskState::Idle {
            for joined in task.joins() {
                if let Some(joined) = places.get(&joined) {
                    waiter[*joined] = Some(place);
                }
            }
        }
    }
    // In which walk a task was come by.
    let mut seen: Vec<Option<usize>> = vec![None; tasks.len()];
    let mut found = Vec::new();
    for walk in 0..tasks.len() {
        let mut at = walk;
        while seen[at].is_none() {
            seen[at] = Some(walk);
            match waiter[at] {
                Some(next) => at = next,
                None => break,
            }
        }
        if seen[at] == Some(walk) && waiter[at].is_some() {
            found.push(round(tasks, &waiter, at));
        }
    }
    found
}

/// The cycle through `start`, each task before the one it waits for, the lowest identity first.
fn round(tasks: &[TaskInfo], waiter: &[Option<usize>], start: usize) -> Vec<Id> {
    let mut cycle = vec![tasks[start].id()];
    let mut at = start;
    while let Some(next) = waiter[at].filter(|next| *next != start) {
        cycle.push(tasks[next].id());
        at = next;
    }
    cycle.reverse();
    let lowest = (0..cycle.len()).min_by_key(|place| cycle[*place]);
    cycle.rotate_left(lowest.unwrap_or(0));
    cycle
}

/// Keeps the cycles all of whose tasks rested from the first look to the second: the parts of one
/// look are of different moments, and what it takes for a cycle may have been none at any of them.
fn confirm(cycles: &mut Vec<Vec<Id>>, first: &[TaskInfo], second: &[TaskInfo]) {
    let (was, is) = (ids(first), ids(second));
    let rested = |id: &Id| match (was.get(id), is.get(id)) {
        (Some(was), Some(is)) => {
            let (was, is) = (&first[*was], &second[*is]);
            is.state() == TaskState::Idle && is.polls() == was.polls()
        }
        _ => false,
    };
    cycles.retain(|cycle| cycle.iter().all(rested));
}
