//! Which functions the attributes accept.
//!
//! A function is taken apart into attributes, visibility, signature and body. The body stays one
//! group of tokens that nobody looks into: it keeps its spans, so panics and errors point at the
//! lines of the user.
#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::{Attribute, Signature, Visibility};

/// One function with its body unparsed.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    /// The body with its braces.
    pub(crate) body: proc_macro2::Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Function {
            attributes: input.call(Attribute::parse_outer)?,
            visibility: input.parse()?,
            signature: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Function {
            attributes,
            visibility,
            signature,
            body,
        } = self;
        tokens.extend(quote!(#(#attributes)* #visibility #signature #body));
    }
}

impl Function {
    /// Refuses what neither attribute can run. `attribute` is its name as the user wrote it, such
    /// as `#[heist::main]`.
    ///
    /// # Errors
    ///
    /// All complaints at once, each at the tokens that cause it.
    pub(crate) fn check(&self, attribute: &str) -> syn::Result<()> {
        let signature = &self.signature;
        let mut complaints = Vec::new();
        if signature.asyncness.is_none() {
            let message = format!(
                "{attribute} needs an `async fn`: write `async fn {}`",
                signature.ident
            );
            complaints.push(syn::Error::new(signature.fn_token.span, message));
        }
        if !signature.inputs.is_empty() || signature.variadic.is_some() {
            let message = format!(
                "a function with {attribute} has no arguments: nobody is there to give them"
            );
            complaints.push(syn::Error::new(signature.paren_token.span.join(), message));
        }
        if !signature.generics.params.is_empty() {
            let message = format!(
                "a function with {attribute} has no generic parameters: nobody is there to choose them"
            );
            complaints.push(syn::Error::new(signature.generics.span(), message));
        }
        if let Some(clause) = &signature.generics.where_clause {
            let message = format!("a function with {attribute} has no `where` clause");
            complaints.push(syn::Error::new(clause.span(), message));
        }
        for (found, word) in [
            (signature.constness.map(|token| token.span), "const"),
            (signature.unsafety.map(|token| token.span), "unsafe"),
            (
                signature.abi.as_ref().map(|abi| abi.extern_token.span),
                "extern",
            ),
        ] {
            if let Some(span) = found {
                complaints.push(syn::Error::new(
                    span,
                    format!("a function with {attribute} cannot be `{word}`"),
                ));
            }
        }
        combine(complaints)
    }

    /// Refuses a second attribute that would make this a test twice.
    pub(crate) fn check_is_no_test_yet(&self) -> syn::Result<()> {
        let is_test = |attribute: &&Attribute| {
            let path = attribute.path();
            path.is_ident("test")
                || path
                    .segments
                    .last()
                    .is_some_and(|last| last.ident == "test")
        };
        let complaints = self.attributes.iter().filter(is_test).map(|attribute| {
            let message = "a second test attribute: #[heist::test] alone makes this a test";
            syn::Error::new(attribute.span(), message)
        });
        combine(complaints.collect())
    }
}

/// One error that shows all of `errors`, or none.
fn combine(errors: Vec<syn::Error>) -> syn::Result<()> {
    let all = errors.into_iter().reduce(|mut all, next| {
        all.combine(next);
        all
    });
    all.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Function {
        syn::parse_str(text).expect("the test's own function parses")
    }

    /// Message and column of every complaint about `text`.
    fn complaints(text: &str) -> Vec<(String, usize)> {
        let errors = parse(text).check("#[heist::test]").err();
        let each = errors.into_iter().flatten();
        each.map(|one| (one.to_string(), one.span().start().column))
            .collect()
    }

    #[test]
    fn a_plain_async_function_is_accepted() {
        for text in [
            "async fn a() {}",
            "pub(crate) async fn a() -> Result<(), E> { Ok(()) }",
            "#[ignore] async fn a() -> ! { loop {} }",
        ] {
            assert_eq!(complaints(text), [], "{text}");
        }
    }

    #[test]
    fn a_function_that_is_not_async_is_refused_at_its_fn_with_the_fix() {
        let found = complaints("pub fn serve() {}");
        assert_eq!(
            found,
            [(
                "#[heist::test] needs an `async fn`: write `async fn serve`".to_owned(),
                4
            )]
        );
    }

    #[test]
    fn arguments_are_refused_at_the_parentheses() {
        let found = complaints("async fn a(n: u32, m: u32) {}");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0.contains("has no arguments"), "{found:?}");
        assert_eq!(found[0].1, 10);
    }

    #[test]
    fn what_nobody_could_choose_or_call_is_refused() {
        for (text, part) in [
            ("async fn a<T>() {}", "generic"),
            ("async fn a() where u8: Copy {}", "where"),
            ("const async fn a() {}", "`const`"),
            ("async unsafe fn a() {}", "`unsafe`"),
            ("async extern \"C\" fn a() {}", "`extern`"),
        ] {
            let found = complaints(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].0.contains(part), "{text}: {found:?}");
        }
    }

    #[test]
    fn all_complaints_come_together() {
        assert_eq!(complaints("unsafe fn a<T>(t: T) {}").len(), 4);
    }

    #[test]
    fn a_second_test_attribute_is_refused_and_others_are_not() {
        for text in [
            "#[test] async fn a() {}",
            "#[core::prelude::v1::test] async fn a() {}",
            "#[tokio::test] async fn a() {}",
        ] {
            assert!(parse(text).check_is_no_test_yet().is_err(), "{text}");
        }
        let fine = parse("#[ignore = \"slow\"] #[should_panic] #[cfg(test)] async fn a() {}");
        assert!(fine.check_is_no_test_yet().is_ok());
    }

    #[test]
    fn a_body_is_not_parsed() {
        let odd = parse("async fn a() { some future syntax => @ 4 }");
        assert_eq!(odd.body.stream().to_string(), "some future syntax => @ 4");
    }

    #[test]
    fn a_function_is_written_as_it_was_read() {
        let text = "#[ignore] pub async fn a() -> u8 { 7 }";
        let tokens: TokenStream = text.parse().expect("tokens");
        assert_eq!(
            parse(text).to_token_stream().to_string(),
            tokens.to_string()
        );
    }
}
