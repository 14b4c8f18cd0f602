//! A text and how far it has been read.

use super::{MAX_DEPTH, Position, SyntaxError};

/// Reads characters and counts lines.
pub(super) struct Cursor<'a> {
    rest: &'a str,
    position: Position,
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Cursor {
            rest: text,
            position: Position { line: 1, column: 1 },
            depth: 0,
        }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn starts_with(&self, prefix: &str) -> bool {
        self.rest.starts_with(prefix)
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        if next == '\n' {
            self.position = Position {
                line: self.position.line.saturating_add(1),
                column: 1,
            };
        } else {
            self.position.column = self.position.column.saturating_add(1);
        }
        Some(next)
    }

    /// Takes `wanted` if it comes next.
    pub(super) fn eat(&mut self, wanted: char) -> bool {
        let here = self.peek() == Some(wanted);
        if here {
            self.bump();
        }
        here
    }

    pub(super) fn take_while(&mut self, allowed: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(next) = self.peek().filter(|c| allowed(*c)) {
            taken.push(next);
            self.bump();
        }
        taken
    }

    /// The rest of the line without its end, which is taken too; whether there was an end.
    pub(super) fn take_line(&mut self) -> (String, bool) {
        let line = self.take_while(|c| c != '\n');
        let ended = self.eat('\n');
        (line.strip_suffix('\r').map(str::to_owned).unwrap_or(line), ended)
    }

    /// To be called at each `{` and `[`.
    pub(super) fn enter(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested more than {MAX_DEPTH} deep")));
        }
        Ok(())
    }

    /// To be called at each `}` and `]`.
    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// `count` hexadecimal digits as a number.
    pub(super) fn hex(&mut self, count: usize) -> Result<u32, SyntaxError> {
        let mut value = 0_u32;
        for _ in 0..count {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(16)) else {
                return Err(self.error(format!("the escape needs {count} hexadecimal digits")));
            };
            value = value << 4 | digit;
            self.bump();
        }
        Ok(value)
    }

    pub(super) fn error(&self, message: impl Into<String>) -> SyntaxError {
        error_at(self.position, message)
    }

    /// "expected X, found Y" at what comes next.
    pub(super) fn expected(&self, what: &str) -> SyntaxError {
        match self.peek() {
            Some(found) => self.error(format!("expected {what}, found {found:?}")),
            None => self.error(format!("expected {what}, found the end of the file")),
        }
    }
}

pub(super) fn error_at(position: Position, message: impl Into<String>) -> SyntaxError {
    SyntaxError {
        position,
        message: message.into(),
    }
}
