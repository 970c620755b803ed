//! Writing JSON: the little that a dump needs.

#![forbid(unsafe_code)]

use std::fmt::Write;

/// A value that can be written.
pub(super) trait Json {
    fn write(&self, out: &mut String);
}

impl Json for u64 {
    fn write(&self, out: &mut String) {
        // Writing to a `String` cannot fail.
        let _ = write!(out, "{self}");
    }
}

impl Json for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Json for &str {
    fn write(&self, out: &mut String) {
        out.push('"');
        for c in self.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c < ' ' => {
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

impl<T: Json> Json for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
}

/// An object that is being written.
pub(super) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl Object<'_> {
    pub(super) fn field(&mut self, name: &str, value: impl Json) {
        self.name(name);
        value.write(self.out);
    }

    pub(super) fn array<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        item: impl FnMut(&mut String, T),
    ) {
        self.name(name);
        array(self.out, items, item);
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(',');
        }
        name.write(self.out);
        self.out.push(':');
    }
}

/// Writes an object; `fields` writes what is in it.
pub(super) fn object(out: &mut String, fields: impl FnOnce(&mut Object<'_>)) {
    out.push('{');
    fields(&mut Object { out, empty: true });
    out.push('}');
}

/// Writes an array; `item` writes each of `items`.
pub(super) fn array<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut String, T),
) {
    out.push('[');
    for (nth, next) in items.into_iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        item(out, next);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: impl Json) -> String {
        let mut out = String::new();
        value.write(&mut out);
        out
    }

    /// All that JSON wants escaped: quotes, backslashes, and control characters up to U+001F.
    #[test]
    fn strings_are_escaped() {
        assert_eq!(text("a \"b\" \\c"), r#""a \"b\" \\c""#);
        assert_eq!(text("\n\r\t\0\u{1f}"), r#""\n\r\t\u0000\u001f""#);
        assert_eq!(text("Zoë ☂ \u{7f}\u{2028}"), "\"Zoë ☂ \u{7f}\u{2028}\"");
        for c in (0..0x20).filter_map(char::from_u32) {
            let text = text(c.to_string().as_str());
            assert!(text.chars().all(|c| c >= ' '), "{c:?} as {text}");
        }
    }

    #[test]
    fn values_and_nesting() {
        assert_eq!(text(u64::MAX), "18446744073709551615");
        assert_eq!(text(None::<u64>), "null");
        let mut out = String::new();
        object(&mut out, |object| {
            object.field("a", Some(1));
            object.field("b", true);
            object.array("c", [1_u64, 2], |out, n| n.write(out));
            object.array("d", [0_u64; 0], |out, n| n.write(out));
        });
        assert_eq!(out, r#"{"a":1,"b":true,"c":[1,2],"d":[]}"#);
        let mut out = String::new();
        object(&mut out, |_| ());
        assert_eq!(out, "{}");
    }
}
