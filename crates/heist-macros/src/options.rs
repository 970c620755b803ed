//! What is written in the brackets of an attribute: `workers = N`, `crate = path`,
//! `cancel_on_ctrl_c`, `seed = N`, `seeds = N`, `virtual_time`.
//!
//! Reading never stops at the first mistake inside an option: all are collected, so that the
//! compiler shows them together. The options that were right are kept, and the expansion goes on
//! with them. That avoids the follow-up errors of a function that is missing altogether.
#![forbid(unsafe_code)]

use proc_macro2::{Ident, TokenStream};
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser as _};
use syn::spanned::Spanned as _;
use syn::{Expr, Lit, Path, Token, UnOp};

/// The options of one attribute, as far as they were given.
#[derive(Default)]
pub(crate) struct Options {
    /// `workers = N`, checked as far as it can be: never a literal below one.
    pub(crate) workers: Option<Expr>,
    /// `crate = path`.
    pub(crate) krate: Option<Path>,
    /// `cancel_on_ctrl_c`, a word without a value: where it stands.
    pub(crate) cancel_on_ctrl_c: Option<Ident>,
    /// `seed = N`: the name, and the number.
    pub(crate) seed: Option<(Ident, Expr)>,
    /// `seeds = N`: likewise, never a literal zero.
    pub(crate) seeds: Option<(Ident, Expr)>,
    /// `virtual_time`, a word without a value: where it stands.
    pub(crate) virtual_time: Option<Ident>,
}

impl Options {
    /// Reads the tokens between the brackets of `#[heist::<attribute>(..)]`.
    ///
    /// The second value holds every mistake, combined.
    pub(crate) fn read(tokens: TokenStream) -> (Options, Option<syn::Error>) {
        let mut options = Options::default();
        let mut mistakes = Mistakes::default();
        let parsed =
            (|input: ParseStream<'_>| options.read_list(input, &mut mistakes)).parse2(tokens);
        if let Err(error) = parsed {
            mistakes.add(error);
        }
        (options, mistakes.0)
    }

    /// Reads `name = value, word, ..`; an error is one of syntax, after which nothing more can be read.
    fn read_list(&mut self, input: ParseStream<'_>, mistakes: &mut Mistakes) -> syn::Result<()> {
        while !input.is_empty() {
            // `crate` is a keyword, so any identifier must do.
            let name = Ident::parse_any(input)?;
            let has_value = input.peek(Token![=]);
            let read = match self.word(&name) {
                Some(place) if !has_value => store(place, name.clone(), &name),
                _ => {
                    input.parse::<Token![=]>().map_err(|error| {
                        let message = format!("expected a value: `{name} = ..`");
                        syn::Error::new(
                            if input.is_empty() {
                                name.span()
                            } else {
                                error.span()
                            },
                            message,
                        )
                    })?;
                    self.read_value(&name, input)?
                }
            };
            if let Err(error) = read {
                mistakes.add(error);
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    /// The place of an option that is a word without a value.
    fn word(&mut self, name: &Ident) -> Option<&mut Option<Ident>> {
        match name.to_string().as_str() {
            "cancel_on_ctrl_c" => Some(&mut self.cancel_on_ctrl_c),
            "virtual_time" => Some(&mut self.virtual_time),
            _ => None,
        }
    }

    /// Reads the value of `name`.
    ///
    /// The outer error is one of syntax; the inner one is a value that was read and is refused.
    fn read_value(&mut self, name: &Ident, input: ParseStream<'_>) -> syn::Result<syn::Result<()>> {
        match name.to_string().as_str() {
            "workers" => {
                let value: Expr = input.parse()?;
                Ok(check_workers(&value).and_then(|()| store(&mut self.workers, value, name)))
            }
            "crate" => {
                let value = input.call(Path::parse_mod_style)?;
                Ok(store(&mut self.krate, value, name))
            }
            "seed" => {
                let value: Expr = input.parse()?;
                let value = check_seed(&value).map(|()| (name.clone(), value));
                Ok(value.and_then(|value| store(&mut self.seed, value, name)))
            }
            "seeds" => {
                let value: Expr = input.parse()?;
                let value = check_seeds(&value).map(|()| (name.clone(), value));
                Ok(value.and_then(|value| store(&mut self.seeds, value, name)))
            }
            _ => {
                input.parse::<Expr>()?;
                let message = if self.word(name).is_some() {
                    format!("the option `{name}` has no value: write the word alone")
                } else {
                    format!(
                        "unknown option `{name}`; the options are `workers = N`, `crate = path`, \
                         `cancel_on_ctrl_c`, `seed = N`, `seeds = N` and `virtual_time`"
                    )
                };
                Ok(Err(syn::Error::new(name.span(), message)))
            }
        }
    }
}

/// Keeps `value`, or refuses it when the option was given before.
fn store<T>(place: &mut Option<T>, value: T, name: &Ident) -> syn::Result<()> {
    if place.is_some() {
        return Err(syn::Error::new(
            name.span(),
            format!("the option `{name}` is given twice"),
        ));
    }
    *place = Some(value);
    Ok(())
}

/// Refuses a literal that cannot be a number of workers. Other expressions are for the compiler and
/// the builder to check.
fn check_workers(value: &Expr) -> syn::Result<()> {
    let complaint = match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => match number.base10_parse::<usize>() {
                Ok(0) => "a runtime needs at least one worker: `workers = 1` or more",
                Ok(_) => return Ok(()),
                Err(_) => "the number of workers must fit in `usize`",
            },
            _ => "the number of workers must be a whole number: `workers = 2`",
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => {
            "a runtime needs at least one worker: `workers = 1` or more"
        }
        _ => return Ok(()),
    };
    Err(syn::Error::new(value.span(), complaint))
}

/// Refuses a literal that cannot be a seed.
fn check_seed(value: &Expr) -> syn::Result<()> {
    match number(value) {
        Number::Some(_) | Number::Unknown => Ok(()),
        Number::None => {
            let complaint = "the seed must be a whole number that fits in `u64`: `seed = 7`";
            Err(syn::Error::new(value.span(), complaint))
        }
    }
}

/// Refuses a literal that cannot be a number of seeds.
fn check_seeds(value: &Expr) -> syn::Result<()> {
    let complaint = match number(value) {
        Number::Some(0) => "a test that tries no seed tests nothing: `seeds = 1` or more",
        Number::Some(_) | Number::Unknown => return Ok(()),
        Number::None => {
            "the number of seeds must be a whole number that fits in `u64`: `seeds = 100`"
        }
    };
    Err(syn::Error::new(value.span(), complaint))
}

/// What an expression is that stands for a `u64`.
enum Number {
    /// A literal that is one.
    Some(u64),
    /// A literal that is none.
    None,
    /// For the compiler to find out.
    Unknown,
}

fn number(value: &Expr) -> Number {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().map_or(Number::None, Number::Some),
            _ => Number::None,
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => Number::None,
        _ => Number::Unknown,
    }
}

/// Mistakes found so far, as one error that shows them all.
#[derive(Default)]
struct Mistakes(Option<syn::Error>);

impl Mistakes {
    fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::ToTokens as _;

    fn read(text: &str) -> (Options, Vec<(String, usize)>) {
        let (options, error) =
            Options::read(text.parse().expect("the test's own tokens are well formed"));
        let mistakes = error.into_iter().flatten();
        (
            options,
            mistakes
                .map(|one| (one.to_string(), one.span().start().column))
                .collect(),
        )
    }

    /// The only mistake in `text`: its message, and the column that it points at.
    fn mistake(text: &str) -> (String, usize) {
        let (_, mut mistakes) = read(text);
        assert_eq!(
            mistakes.len(),
            1,
            "one mistake in {text:?}, found {mistakes:?}"
        );
        mistakes.remove(0)
    }

    #[test]
    fn no_options_are_fine() {
        let (options, mistakes) = read("");
        assert!(options.workers.is_none() && options.krate.is_none());
        assert_eq!(mistakes, []);
    }

    #[test]
    fn both_options_are_read_in_any_order_and_a_last_comma_is_allowed() {
        for text in ["workers = 3, crate = a::b", "crate = a::b, workers = 3,"] {
            let (options, mistakes) = read(text);
            assert_eq!(mistakes, [], "{text}");
            assert_eq!(
                options
                    .workers
                    .expect("workers")
                    .to_token_stream()
                    .to_string(),
                "3"
            );
            assert_eq!(
                options.krate.expect("crate").to_token_stream().to_string(),
                "a :: b"
            );
        }
    }

    #[test]
    fn workers_may_be_a_constant_or_an_expression() {
        for text in [
            "workers = WORKERS",
            "workers = limits::WORKERS",
            "workers = 2 * CORES",
            "workers = 0x10",
            "workers = 4usize",
        ] {
            let (options, mistakes) = read(text);
            assert_eq!(mistakes, [], "{text}");
            assert!(options.workers.is_some(), "{text}");
        }
    }

    #[test]
    fn zero_workers_are_refused_at_the_number() {
        for (text, column) in [
            ("workers = 0", 10),
            ("workers = 0x0", 10),
            ("workers = 0usize", 10),
            ("crate = x, workers=00", 19),
        ] {
            let (message, at) = mistake(text);
            assert!(message.contains("at least one worker"), "{text}: {message}");
            assert_eq!(at, column, "{text}");
        }
        assert!(mistake("workers = -1").0.contains("at least one worker"));
    }

    #[test]
    fn workers_that_are_no_number_are_refused() {
        for text in [
            "workers = \"2\"",
            "workers = 2.5",
            "workers = true",
            "workers = 'x'",
        ] {
            let (message, at) = mistake(text);
            assert!(message.contains("whole number"), "{text}: {message}");
            assert_eq!(at, 10, "{text}");
        }
        let (message, _) = mistake("workers = 99999999999999999999999999");
        assert!(message.contains("fit in `usize`"), "{message}");
    }

    #[test]
    fn a_refused_value_is_not_kept() {
        assert!(read("workers = 0").0.workers.is_none());
    }

    #[test]
    fn an_unknown_option_is_named_with_those_that_exist() {
        let (message, at) = mistake("workers = 2, flavor = \"x\"");
        assert!(message.contains("unknown option `flavor`"), "{message}");
        assert!(
            message.contains("workers = N") && message.contains("crate = path"),
            "{message}"
        );
        assert_eq!(at, 13);
    }

    #[test]
    fn an_option_given_twice_is_refused_at_the_second() {
        assert_eq!(
            mistake("workers = 2, workers = 3"),
            ("the option `workers` is given twice".to_owned(), 13)
        );
        assert_eq!(
            mistake("crate = a, crate = b"),
            ("the option `crate` is given twice".to_owned(), 11)
        );
    }

    #[test]
    fn the_word_for_ctrl_c_is_read_in_any_place() {
        for text in [
            "cancel_on_ctrl_c",
            "cancel_on_ctrl_c,",
            "workers = 2, cancel_on_ctrl_c",
            "cancel_on_ctrl_c, workers = 2",
        ] {
            let (options, mistakes) = read(text);
            assert_eq!(mistakes, [], "{text}");
            assert!(options.cancel_on_ctrl_c.is_some(), "{text}");
            assert_eq!(
                options.workers.is_some(),
                text.contains("workers"),
                "{text}"
            );
        }
        assert!(read("workers = 2").0.cancel_on_ctrl_c.is_none());
    }

    #[test]
    fn the_word_for_ctrl_c_has_no_value_and_is_given_once() {
        let (message, at) = mistake("cancel_on_ctrl_c = true");
        assert!(message.contains("the word alone"), "{message}");
        assert_eq!(at, 0);
        let (message, at) = mistake("cancel_on_ctrl_c, cancel_on_ctrl_c");
        assert!(message.contains("given twice"), "{message}");
        assert_eq!(at, 18);
    }

    #[test]
    fn the_options_of_a_simulation_are_read_in_any_order() {
        let text = |option: Option<(Ident, Expr)>| {
            option.map(|(_, value)| value.to_token_stream().to_string())
        };
        for (list, seed, seeds, is_virtual) in [
            ("seed = 7", Some("7"), None, false),
            ("virtual_time", None, None, true),
            ("virtual_time, seed = SEED,", Some("SEED"), None, true),
            ("workers = 2, seed = 0, virtual_time", Some("0"), None, true),
            ("seeds = 10 * MANY", None, Some("10 * MANY"), false),
        ] {
            let (options, mistakes) = read(list);
            assert_eq!(mistakes, [], "{list}");
            assert_eq!(text(options.seed).as_deref(), seed, "{list}");
            assert_eq!(text(options.seeds).as_deref(), seeds, "{list}");
            assert_eq!(options.virtual_time.is_some(), is_virtual, "{list}");
        }
    }

    #[test]
    fn what_is_no_seed_is_refused_at_the_number() {
        for text in [
            "seed = -1",
            "seed = \"7\"",
            "seed = 1.5",
            "seed = 18446744073709551616",
        ] {
            let (message, at) = mistake(text);
            assert!(message.contains("a whole number"), "{text}: {message}");
            assert_eq!(at, 7, "{text}");
        }
        assert!(read("seed = 18446744073709551615").0.seed.is_some());
        for text in ["seeds = 0", "seeds = 0x0"] {
            let (message, at) = mistake(text);
            assert!(message.contains("tests nothing"), "{text}: {message}");
            assert_eq!(at, 8, "{text}");
        }
        assert!(mistake("seeds = -5").0.contains("a whole number"));
        assert!(mistake("seed = 1, seed = 2").0.contains("given twice"));
        assert!(
            mistake("virtual_time, virtual_time")
                .0
                .contains("given twice")
        );
        assert!(mistake("virtual_time = true").0.contains("the word alone"));
    }

    #[test]
    fn an_option_without_a_value_says_what_is_missing() {
        assert_eq!(
            mistake("workers"),
            ("expected a value: `workers = ..`".to_owned(), 0)
        );
        assert_eq!(
            mistake("workers(2)"),
            ("expected a value: `workers = ..`".to_owned(), 7)
        );
    }

    #[test]
    fn tokens_that_are_no_list_are_refused() {
        assert_eq!(read("4").1.len(), 1);
        assert_eq!(read("workers = 2 crate = x").1.len(), 1);
        assert_eq!(read("crate = 4").1.len(), 1);
    }

    #[test]
    fn all_mistakes_are_shown_at_once_and_the_good_options_are_kept() {
        let (options, mistakes) = read("workers = 0, speed = 3, crate = kept");
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert_eq!(
            options.krate.expect("crate").to_token_stream().to_string(),
            "kept"
        );
    }
}
