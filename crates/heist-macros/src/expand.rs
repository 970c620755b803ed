//! Writes the function that the attribute stands for.
//!
//! Spans: everything that comes from the user keeps its own. What is added carries the span of the
//! attribute, so the place of entry that heist records, and names in nested-call errors, is the
//! line of the attribute.
//!
//! A mistake does not remove the function. The errors are emitted beside the best expansion that is
//! left: with the options that were right, or, when the function itself is refused, the function as
//! it was.
#![forbid(unsafe_code)]

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens as _, quote};
use syn::{ReturnType, Signature};

use crate::function::Function;
use crate::options::Options;

/// Workers of a `#[heist::test]` that does not say how many.
///
/// Two, on any machine: a test should meet a second thread, and a hundred tests at once should not
/// start a hundred threads per core.
const TEST_WORKERS: usize = 2;

/// The seed of a test with `virtual_time` that does not say which: any would do.
const SEED: u64 = 0;

/// Expands `#[heist::main(<options>)] <item>`.
pub(crate) fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options, item, "#[heist::main]", |function, options| {
        if let Some(name) = simulation(options) {
            let message = format!("`{name}` is for tests: `main` runs in no simulation");
            let error = syn::Error::new(name.span(), message);
            return refused(&error, function.to_token_stream());
        }
        let heist = krate(options);
        let name = &function.signature.ident;
        let workers = options
            .workers
            .iter()
            .map(|workers| quote!(.workers(#workers)));
        let ctrl_c = options
            .cancel_on_ctrl_c
            .iter()
            .map(|_| quote!(.cancel_on_ctrl_c(true)));
        let builder: TokenStream = workers.chain(ctrl_c).collect();
        let call = if builder.is_empty() {
            quote!(#heist::run(#name()))
        } else {
            quote! {
                #heist::Runtime::builder()
                    #builder
                    .build()
                    .expect("heist: the runtime could not be built")
                    .run(#name())
            }
        };
        plain_function(function, TokenStream::new(), call)
    })
}

/// Expands `#[heist::test(<options>)] <item>`.
pub(crate) fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options, item, "#[heist::test]", |function, options| {
        if let Err(error) = function.check_is_no_test_yet() {
            return refused(&error, function.to_token_stream());
        }
        if let Some(word) = &options.cancel_on_ctrl_c {
            let message =
                "a test has no option `cancel_on_ctrl_c`: Ctrl-C ends all tests of a process";
            let error = syn::Error::new(word.span(), message);
            return refused(&error, function.to_token_stream());
        }
        let heist = krate(options);
        let name = &function.signature.ident;
        let workers = match &options.workers {
            Some(workers) => workers.to_token_stream(),
            None => quote!(#TEST_WORKERS),
        };
        let configure = quote!(|builder| builder.workers(#workers));
        let seed = match (&options.seed, &options.virtual_time) {
            (Some((_, seed)), _) => Some(seed.to_token_stream()),
            (None, Some(_)) => Some(quote!(#SEED)),
            (None, None) => None,
        };
        let call = match (&options.seeds, &options.seed, seed) {
            (Some((many, _)), Some(_), _) => {
                let message = "`seeds` tries the seeds from 0 on: `seed` beside it has no meaning";
                let error = syn::Error::new(many.span(), message);
                return refused(&error, function.to_token_stream());
            }
            (Some((_, seeds)), None, _) => {
                quote!(#heist::__private::explore_test(#configure, #seeds, #name))
            }
            (None, _, Some(seed)) => {
                quote!(#heist::__private::simulate_test(#configure, #seed, #name()))
            }
            (None, _, None) => quote!(#heist::__private::run_test(#configure, #name())),
        };
        let test = quote!(#[::core::prelude::v1::test]);
        match options.seeds {
            // What the last of many runs answers is nothing to the harness: the first failure panics.
            Some(_) => plain_function_with(function, ReturnType::Default, test, call),
            None => plain_function(function, test, call),
        }
    })
}

/// The name of an option that asks for a simulation, if one does.
fn simulation(options: &Options) -> Option<&Ident> {
    let seeds = options.seed.iter().chain(&options.seeds);
    let names = seeds.map(|(name, _)| name);
    names.chain(&options.virtual_time).next()
}

/// What both attributes share: read, check, write, and put the errors beside the result.
fn expand(
    options: TokenStream,
    item: TokenStream,
    attribute: &str,
    write: impl FnOnce(&Function, &Options) -> TokenStream,
) -> TokenStream {
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => return refused(&not_a_function(error, attribute), item),
    };
    if let Err(error) = function.check(attribute) {
        return refused(&error, item);
    }
    let (options, mistakes) = Options::read(options);
    let written = write(&function, &options);
    match mistakes {
        None => written,
        Some(error) => refused(&error, written),
    }
}

/// The errors, beside what the compiler may go on with.
fn refused(error: &syn::Error, rest: TokenStream) -> TokenStream {
    let errors = error.to_compile_error();
    quote!(#errors #rest)
}

/// Says that the attribute stands on something else than a function.
fn not_a_function(error: syn::Error, attribute: &str) -> syn::Error {
    let mut complaint = syn::Error::new(
        error.span(),
        format!("{attribute} goes on an `async fn` with a body"),
    );
    complaint.combine(error);
    complaint
}

/// The path of the crate `heist`.
fn krate(options: &Options) -> TokenStream {
    match &options.krate {
        Some(path) => path.to_token_stream(),
        None => quote!(::heist),
    }
}

/// The plain function around `function`; `call` runs the async function inside it, and answers what
/// that one does.
fn plain_function(function: &Function, marker: TokenStream, call: TokenStream) -> TokenStream {
    let output = function.signature.output.clone();
    plain_function_with(function, output, marker, call)
}

/// Likewise, where `call` answers `output`.
fn plain_function_with(
    function: &Function,
    output: ReturnType,
    marker: TokenStream,
    call: TokenStream,
) -> TokenStream {
    let Function {
        attributes,
        visibility,
        signature,
        body,
    } = function;
    let outer = Signature {
        asyncness: None,
        output,
        ..signature.clone()
    };
    quote! {
        #marker
        #(#attributes)*
        #visibility #outer {
            #signature #body
            #call
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote_spanned;
    use syn::{Item, ItemFn, Stmt};

    fn tokens(text: &str) -> TokenStream {
        text.parse().expect("the test's own tokens are well formed")
    }

    /// Compares without regard to blanks.
    #[track_caller]
    fn assert_same(found: TokenStream, wanted: TokenStream) {
        assert_eq!(found.to_string(), wanted.to_string());
    }

    /// The messages of all `compile_error!`s, and the items beside them.
    fn errors_and_items(found: TokenStream) -> (Vec<String>, Vec<ItemFn>) {
        let file: syn::File = syn::parse2(found).expect("the result is a list of items");
        let mut messages = Vec::new();
        let mut functions = Vec::new();
        for item in file.items {
            match item {
                Item::Macro(one) => messages.push(
                    one.mac
                        .parse_body::<syn::LitStr>()
                        .expect("a message")
                        .value(),
                ),
                Item::Fn(function) => functions.push(function),
                other => panic!("unexpected item: {}", other.to_token_stream()),
            }
        }
        (messages, functions)
    }

    #[test]
    fn main_without_options_is_a_call_of_run() {
        assert_same(
            main(tokens(""), tokens("async fn main() { work().await; }")),
            quote! {
                fn main() {
                    async fn main() { work().await; }
                    ::heist::run(main())
                }
            },
        );
    }

    #[test]
    fn main_with_workers_builds_a_runtime() {
        assert_same(
            main(
                tokens("workers = 3"),
                tokens("async fn main() -> Result<(), Error> { Ok(()) }"),
            ),
            quote! {
                fn main() -> Result<(), Error> {
                    async fn main() -> Result<(), Error> { Ok(()) }
                    ::heist::Runtime::builder()
                        .workers(3)
                        .build()
                        .expect("heist: the runtime could not be built")
                        .run(main())
                }
            },
        );
    }

    #[test]
    fn main_with_ctrl_c_asks_the_builder_for_it() {
        let call = |options: &str| main(tokens(options), tokens("async fn main() {}")).to_string();
        let found = call("cancel_on_ctrl_c");
        assert!(
            found.contains(". cancel_on_ctrl_c (true) . build ()"),
            "{found}"
        );
        assert!(!found.contains("workers"), "{found}");
        let found = call("cancel_on_ctrl_c, workers = 2");
        assert!(
            found.contains(". workers (2) . cancel_on_ctrl_c (true)"),
            "{found}"
        );
        assert!(!call("workers = 2").contains("ctrl_c"));
    }

    #[test]
    fn a_test_has_no_ctrl_c() {
        let item = tokens("async fn it() {}");
        let (messages, functions) = errors_and_items(test(tokens("cancel_on_ctrl_c"), item));
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("cancel_on_ctrl_c"), "{messages:?}");
        assert_eq!(functions.len(), 1, "the function as it was");
    }

    #[test]
    fn crate_says_where_heist_is() {
        let item = tokens("async fn main() {}");
        let found = main(tokens("crate = my::own"), item.clone()).to_string();
        assert!(found.contains("my :: own :: run"), "{found}");
        let found = main(tokens("crate = ::other, workers = 2"), item.clone()).to_string();
        assert!(found.contains(":: other :: Runtime :: builder"), "{found}");
        let found = test(tokens("crate = my::own"), item).to_string();
        assert!(
            found.contains("my :: own :: __private :: run_test"),
            "{found}"
        );
        assert!(!found.contains(":: heist"), "{found}");
    }

    #[test]
    fn a_test_runs_on_two_workers_unless_it_says_otherwise() {
        assert_same(
            test(tokens(""), tokens("async fn it_works() { step().await }")),
            quote! {
                #[::core::prelude::v1::test]
                fn it_works() {
                    async fn it_works() { step().await }
                    ::heist::__private::run_test(|builder| builder.workers(2usize), it_works())
                }
            },
        );
        let found = test(tokens("workers = 5"), tokens("async fn it_works() {}")).to_string();
        assert!(found.contains("builder . workers (5)"), "{found}");
    }

    #[test]
    fn a_seed_or_virtual_time_asks_for_a_simulation() {
        let call = |options: &str| test(tokens(options), tokens("async fn it() {}")).to_string();
        let simulated = ":: heist :: __private :: simulate_test (| builder | builder . workers";
        for (options, rest) in [
            ("seed = 7", "(2usize) , 7 , it ())"),
            ("virtual_time", "(2usize) , 0u64 , it ())"),
            ("seed = 7, virtual_time", "(2usize) , 7 , it ())"),
            ("virtual_time, workers = 3, seed = A", "(3) , A , it ())"),
        ] {
            let found = call(options);
            assert!(found.contains(&format!("{simulated} {rest}")), "{found}");
        }
    }

    #[test]
    fn seeds_are_explored_and_the_test_answers_nothing() {
        let item = tokens("async fn it() -> Result<(), E> { Ok(()) }");
        for options in ["seeds = 10", "virtual_time, seeds = 10"] {
            assert_same(
                test(tokens(options), item.clone()),
                quote! {
                    #[::core::prelude::v1::test]
                    fn it() {
                        async fn it() -> Result<(), E> { Ok(()) }
                        ::heist::__private::explore_test(|builder| builder.workers(2usize), 10, it)
                    }
                },
            );
        }
    }

    #[test]
    fn a_seed_beside_seeds_and_a_simulation_of_main_are_refused() {
        let item = || tokens("async fn it() {}");
        let (messages, functions) = errors_and_items(test(tokens("seed = 1, seeds = 2"), item()));
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("`seed` beside it"), "{messages:?}");
        assert_eq!(functions.len(), 1, "the function as it was");
        for options in ["seed = 1", "seeds = 2", "virtual_time"] {
            let (messages, functions) = errors_and_items(main(tokens(options), item()));
            assert_eq!(messages.len(), 1, "{options}");
            assert!(messages[0].contains("is for tests"), "{messages:?}");
            assert_eq!(functions.len(), 1, "{options}");
        }
    }

    #[test]
    fn attributes_visibility_and_output_are_kept_once_on_the_outer_function() {
        let item = "/// Says why.\n #[should_panic(expected = \"x\")] #[ignore] pub(crate) async fn it() -> Result<u8, E> { Ok(1) }";
        let (messages, functions) = errors_and_items(test(tokens(""), tokens(item)));
        assert_eq!(messages, [""; 0]);
        let [outer] = functions.as_slice() else {
            panic!("one function, found {}", functions.len())
        };
        let names: Vec<String> = outer
            .attrs
            .iter()
            .map(|one| one.path().to_token_stream().to_string())
            .collect();
        assert_eq!(
            names,
            [
                ":: core :: prelude :: v1 :: test",
                "doc",
                "should_panic",
                "ignore"
            ]
        );
        assert_eq!(outer.vis.to_token_stream().to_string(), "pub (crate)");
        assert_eq!(
            outer.sig.to_token_stream().to_string(),
            "fn it () -> Result < u8 , E >"
        );
        let Stmt::Item(Item::Fn(inner)) = &outer.block.stmts[0] else {
            panic!("the async function comes first")
        };
        assert!(inner.attrs.is_empty());
        assert_eq!(
            inner.sig.to_token_stream().to_string(),
            "async fn it () -> Result < u8 , E >"
        );
    }

    /// Spans carry the line numbers of panics and errors, so each token of the body must keep the
    /// one it had.
    #[test]
    fn the_body_keeps_its_spans() {
        let text = "async fn main() {\n    one();\n    two().await;\n}";
        let found = main(tokens(""), tokens(text));
        let (_, functions) = errors_and_items(found);
        let Stmt::Item(Item::Fn(inner)) = &functions[0].block.stmts[0] else {
            panic!("the async function comes first")
        };
        let lines: Vec<usize> = inner.block.stmts.iter().map(statement_line).collect();
        assert_eq!(lines, [2, 3]);
    }

    fn statement_line(statement: &Stmt) -> usize {
        syn::spanned::Spanned::span(statement).start().line
    }

    #[test]
    fn a_wrong_option_is_an_error_beside_the_expansion() {
        for (options, part) in [
            ("workers = 0", "at least one worker"),
            ("colour = 3", "unknown option `colour`"),
            ("workers", "expected a value"),
        ] {
            for attribute in [main, test] {
                let (messages, functions) =
                    errors_and_items(attribute(tokens(options), tokens("async fn a() {}")));
                assert_eq!(messages.len(), 1, "{options}: {messages:?}");
                assert!(messages[0].contains(part), "{options}: {messages:?}");
                assert_eq!(functions.len(), 1, "{options}");
                assert!(
                    functions[0].sig.asyncness.is_none(),
                    "{options}: the function is still expanded"
                );
            }
        }
    }

    #[test]
    fn a_function_that_is_not_async_is_left_as_it_was() {
        let (messages, functions) =
            errors_and_items(main(tokens(""), tokens("fn main() { go() }")));
        assert_eq!(
            messages,
            ["#[heist::main] needs an `async fn`: write `async fn main`"]
        );
        assert_same(
            functions[0].to_token_stream(),
            quote!(
                fn main() {
                    go()
                }
            ),
        );
    }

    #[test]
    fn a_test_with_arguments_is_no_test() {
        let (messages, functions) =
            errors_and_items(test(tokens(""), tokens("async fn a(n: u8) {}")));
        assert_eq!(messages.len(), 1);
        assert!(messages[0].contains("has no arguments"), "{messages:?}");
        assert!(functions[0].attrs.is_empty());
    }

    #[test]
    fn a_test_twice_is_refused() {
        let (messages, _) = errors_and_items(test(tokens(""), tokens("#[test] async fn a() {}")));
        assert_eq!(
            messages,
            ["a second test attribute: #[heist::test] alone makes this a test"]
        );
    }

    #[test]
    fn something_that_is_no_function_is_refused_with_the_name_of_the_attribute() {
        let found = main(tokens(""), tokens("struct Main;")).to_string();
        assert!(
            found.contains("#[heist::main] goes on an `async fn` with a body"),
            "{found}"
        );
        assert!(found.contains("struct Main"), "{found}");
    }

    /// The errors of the two attributes point at the user's tokens, not at the attribute.
    #[test]
    fn an_error_has_the_span_of_its_cause() {
        let here = tokens("\n\n  x")
            .into_iter()
            .next()
            .expect("one token")
            .span();
        let item = quote_spanned!(here=> fn main() {});
        let error = syn::parse2::<Function>(item)
            .expect("a function")
            .check("#[heist::main]")
            .expect_err("not async");
        assert_eq!(
            (error.span().start().line, error.span().start().column),
            (3, 2)
        );
    }
}
