//! The attribute macros of heist: `#[heist::main]` and `#[heist::test]`.
//!
//! Use them through the crate `heist`, which re-exports both. They are thin: each turns an async
//! function into a plain one that hands it to a runtime. What a runtime does is written in `heist`,
//! not here.
//!
//! - [`macro@main`] for the entry of a program,
//! - [`macro@test`] for tests.
//!
//! # How it works
//!
//! The function moves inside a plain function of the same name, with its body token for token as it
//! was:
//!
//! ```text
//! async fn main() -> T { body }      =>      fn main() -> T {
//!                                                async fn main() -> T { body }
//!                                                ::heist::run(main())
//!                                            }
//! ```
//!
//! An inner `async fn` and not an `async` block, because the signature then says the output type:
//! `?`, `return` and coercions in the body behave as they did, and a type error is reported at the
//! user's own line. The body is never parsed: syntax that this crate does not know passes through,
//! and errors in it come from the compiler.
//!
//! Three modules: `options` reads what is in the brackets of the attribute, `function` decides
//! which functions are accepted, `expand` writes the result. All three work on `proc_macro2`
//! tokens, so tests can call them.
#![forbid(unsafe_code)]

mod expand;
mod function;
mod options;

use proc_macro::TokenStream;

/// Runs an `async fn main` on a heist runtime.
///
/// Without options the function becomes a call of `heist::run`: the calling thread is worker 0,
/// `main` runs on it, and when it ends everything it started is ended too. The output may be of any
/// type that a plain `main` may return.
///
/// # Options
///
/// - `workers = N`: the number of workers, an expression of type `usize`. Makes the runtime with
///   `heist::Runtime::builder().workers(N)` instead. A literal `0` is a compile error.
/// - `cancel_on_ctrl_c`: Ctrl-C cancels `main` and ends the loop before the process ends, as
///   `heist::Builder::cancel_on_ctrl_c` describes. Without it, Ctrl-C ends the process at once.
/// - `crate = path`: where to find the crate `heist`, when it is renamed or re-exported. Default:
///   `::heist`.
///
/// # Panics
///
/// The function it makes panics where `heist::run` would. With an option but `crate` it also panics when the
/// runtime cannot be built, and says so.
///
/// # Examples
///
/// ```
/// #[heist::main]
/// async fn main() {
///     let task = heist::spawn(async { 6 * 7 });
///     assert_eq!(task.await.unwrap(), 42);
/// }
/// ```
///
/// A `main` that can fail, on one worker:
///
/// ```
/// #[heist::main(workers = 1)]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let number: u32 = "17".parse()?;
///     assert_eq!(number, 17);
///     Ok(())
/// }
/// ```
///
/// A program that ends in order when somebody presses Ctrl-C:
///
/// ```
/// #[heist::main(cancel_on_ctrl_c)]
/// async fn main() {
///     heist::yield_now().await;
/// }
/// ```
///
/// These do not compile: a runtime needs a worker, and the function must be `async`.
///
/// ```compile_fail
/// #[heist::main(workers = 0)]
/// async fn main() {}
/// ```
///
/// ```compile_fail
/// #[heist::main]
/// fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(options.into(), item.into()).into()
}

/// Makes a test of an `async fn`: it gets a runtime of its own and fails when it leaks tasks.
///
/// The function must have no arguments. It may return what a plain test may return, and other
/// attributes keep their meaning: `#[should_panic]`, `#[ignore]`, `#[cfg(..)]`. When the body has
/// ended, the runtime is closed, and the test panics if tasks were left that the end of the loop had
/// to cancel or to abandon.
///
/// # Options
///
/// - `workers = N`: the number of workers, an expression of type `usize`. Default: 2, so that tasks
///   meet a second thread also on a machine with one core. A literal `0` is a compile error.
/// - `seed = N`: runs the test in a simulation (`heist::sim`), where the seed `N`, an expression of type
///   `u64`, decides what happens when, and time is virtual. The environment variable `HEIST_SEED` has
///   precedence.
/// - `virtual_time`: likewise, with the seed 0 unless `seed` says otherwise.
/// - `seeds = N`: runs the test in a simulation with each of `N` seeds, an expression of type `u64`, as
///   `heist::sim::explore` does, and stops at the first that fails. The function then answers `()` or a
///   `Result`. A literal `0`, and `seed` beside it, are compile errors.
/// - `crate = path`: where to find the crate `heist`, when it is renamed or re-exported. Default:
///   `::heist`.
///
/// # Panics
///
/// The test panics when its body does, when the runtime cannot be built, when tasks leaked, and when it
/// is proven that the body can never go on (`heist::Deadlock`). In a simulation also when `HEIST_SEED` is
/// no number, and when `N` of `seeds = N` is zero.
///
/// # Examples
///
/// ```
/// #[heist::test]
/// async fn a_task_gives_its_output() {
///     assert_eq!(heist::spawn(async { 1 + 1 }).await.unwrap(), 2);
/// }
///
/// #[heist::test(workers = 4)]
/// async fn a_test_may_return_a_result() -> Result<(), heist::JoinError> {
///     heist::spawn(async {}).await
/// }
///
/// #[heist::test(virtual_time)]
/// async fn an_hour_takes_no_time() {
///     heist::sleep(std::time::Duration::from_secs(3600)).await;
/// }
///
/// #[heist::test]
/// #[should_panic(expected = "on purpose")]
/// async fn a_panic_of_the_body_fails_the_test() {
///     panic!("on purpose");
/// }
/// # fn main() {}
/// ```
///
/// A test has no arguments, and one seed or many; these do not compile:
///
/// ```compile_fail
/// #[heist::test]
/// async fn with_an_argument(n: u32) {}
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// #[heist::test(seed = 1, seeds = 100)]
/// async fn with_one_seed_and_many() {}
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(options.into(), item.into()).into()
}
