//! HCL 1 (not 2) and its JSON form as a tree with positions.
//!
//! Owns the grammar: keys bare or quoted, labels, `=`-less blocks, repeated keys, several assignments on one line,
//! heredocs, three kinds of comment. Nothing is merged or typed here. Invariant: any text yields a tree of bounded depth
//! or one error with its place.

mod cursor;
mod json;
mod native;

use cursor::Cursor;

/// How deeply blocks and lists may nest.
pub const MAX_DEPTH: usize = 32;

/// A place in the text; both count from 1, columns in characters. Line 0 means the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character on the line.
    pub column: u32,
}

/// The items of a file or block, in their order, repeated ones included.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Body {
    /// The items.
    pub items: Vec<Item>,
}

impl Body {
    /// A body of strings that were not read from a text, such as the flags of a command line; those without a value
    /// are left out.
    pub fn from_flags<'a>(flags: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let position = Position::default();
        let item = |(key, text): (&str, Option<&str>)| {
            let kind = Kind::String(text?.to_owned());
            let keys = vec![Key {
                text: key.to_owned(),
                position,
            }];
            Some(Item {
                keys,
                value: Value { kind, position },
            })
        };
        Body {
            items: flags.into_iter().filter_map(item).collect(),
        }
    }
}

/// `key = value`, or `key "label" … { … }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The key and then the labels; never empty.
    pub keys: Vec<Key>,
    /// What is assigned.
    pub value: Value,
}

/// A key or label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Without quotes, escapes resolved.
    pub text: String,
    /// Where it begins.
    pub position: Position,
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub position: Position,
}

/// What a value can be.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// JSON's null.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// A string or heredoc, escapes resolved, `${…}` left as it is.
    String(String),
    /// `[…]`.
    List(Vec<Value>),
    /// `{…}`.
    Object(Body),
}

/// Why a text is neither HCL nor JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {message}", position.line, position.column)]
pub struct SyntaxError {
    /// Where.
    pub position: Position,
    /// What is wrong there.
    pub message: String,
}

/// Parses HCL 1, or JSON when the first character is `{`.
///
/// # Errors
/// [`SyntaxError`]: the first fault.
pub fn parse(text: &str) -> Result<Body, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        json::document(Cursor::new(text))
    } else {
        native::document(Cursor::new(text))
    }
}

#[cfg(test)]
mod tests;
