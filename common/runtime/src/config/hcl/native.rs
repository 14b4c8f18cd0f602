//! The HCL 1 form.

use super::cursor::{Cursor, error_at};
use super::{Body, Item, Key, Kind, Position, SyntaxError, Value};

pub(super) fn document(mut cursor: Cursor<'_>) -> Result<Body, SyntaxError> {
    items(&mut cursor, None)
}

/// Items up to the end of the file, or to the `}` of the block that was opened at `opened`.
fn items(cursor: &mut Cursor<'_>, opened: Option<Position>) -> Result<Body, SyntaxError> {
    let mut body = Body::default();
    loop {
        skip_trivia(cursor)?;
        match (cursor.peek(), opened) {
            (None, None) => return Ok(body),
            (None, Some(opened)) => {
                return Err(error_at(opened, "the block that begins here is never closed"));
            }
            (Some('}'), Some(_)) => {
                cursor.bump();
                return Ok(body);
            }
            _ => body.items.push(item(cursor)?),
        }
        // Nothing, a line end or a comma stands between items.
        skip_trivia(cursor)?;
        cursor.eat(',');
    }
}

fn item(cursor: &mut Cursor<'_>) -> Result<Item, SyntaxError> {
    let mut keys = vec![key(cursor, "a key")?];
    loop {
        skip_trivia(cursor)?;
        match cursor.peek() {
            Some('=') if keys.len() == 1 => {
                cursor.bump();
                skip_trivia(cursor)?;
                return Ok(Item {
                    keys,
                    value: value(cursor)?,
                });
            }
            Some('{') => {
                return Ok(Item {
                    keys,
                    value: value(cursor)?,
                });
            }
            Some('=') => return Err(cursor.expected("'{' after a label")),
            _ => keys.push(key(cursor, "'=', '{' or a label")?),
        }
    }
}

fn key(cursor: &mut Cursor<'_>, what: &str) -> Result<Key, SyntaxError> {
    let position = cursor.position();
    let text = match cursor.peek() {
        Some('"') => string(cursor)?,
        Some(c) if c.is_alphabetic() || c == '_' => word(cursor),
        _ => return Err(cursor.expected(what)),
    };
    Ok(Key { text, position })
}

fn word(cursor: &mut Cursor<'_>) -> String {
    cursor.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn value(cursor: &mut Cursor<'_>) -> Result<Value, SyntaxError> {
    let position = cursor.position();
    let kind = match cursor.peek() {
        Some('"') => Kind::String(string(cursor)?),
        Some('<') => Kind::String(heredoc(cursor)?),
        Some('{') => {
            cursor.enter()?;
            cursor.bump();
            let body = items(cursor, Some(position))?;
            cursor.leave();
            Kind::Object(body)
        }
        Some('[') => list(cursor)?,
        Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => number(cursor)?,
        Some(c) if c.is_alphabetic() || c == '_' => match word(cursor).as_str() {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            other => {
                return Err(error_at(
                    position,
                    format!("{other:?} is no value; a string needs quotes"),
                ));
            }
        },
        _ => return Err(cursor.expected("a value")),
    };
    Ok(Value { kind, position })
}

fn list(cursor: &mut Cursor<'_>) -> Result<Kind, SyntaxError> {
    let opened = cursor.position();
    cursor.enter()?;
    cursor.bump();
    let mut values = Vec::new();
    loop {
        skip_trivia(cursor)?;
        if cursor.eat(']') {
            cursor.leave();
            return Ok(Kind::List(values));
        }
        if cursor.peek().is_none() {
            return Err(error_at(opened, "the list that begins here is never closed"));
        }
        values.push(value(cursor)?);
        skip_trivia(cursor)?;
        if !cursor.eat(',') && !matches!(cursor.peek(), Some(']') | None) {
            return Err(cursor.expected("',' or ']'"));
        }
    }
}

fn number(cursor: &mut Cursor<'_>) -> Result<Kind, SyntaxError> {
    let position = cursor.position();
    let text = cursor.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let valid = match hex {
        Some(hex) => !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit()),
        None => digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok(),
    };
    if valid {
        Ok(Kind::Number(text))
    } else {
        Err(error_at(
            position,
            format!("{text:?} is no number; a string needs quotes"),
        ))
    }
}

fn string(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let opened = cursor.position();
    cursor.bump();
    let mut text = String::new();
    loop {
        if cursor.starts_with("${") {
            interpolation(cursor, &mut text);
            continue;
        }
        match cursor.bump() {
            Some('"') => return Ok(text),
            Some('\\') => text.push(escape(cursor)?),
            None | Some('\n') => return Err(error_at(opened, "the string that begins here is never closed")),
            Some(other) => text.push(other),
        }
    }
}

/// `${…}` is kept as it stands, quotes and line ends included, up to its closing brace.
fn interpolation(cursor: &mut Cursor<'_>, text: &mut String) {
    let mut depth = 0_usize;
    while let Some(next) = cursor.bump() {
        text.push(next);
        match next {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if next == '}' && depth == 0 {
            return;
        }
    }
}

fn escape(cursor: &mut Cursor<'_>) -> Result<char, SyntaxError> {
    let position = cursor.position();
    let code = match cursor.bump() {
        Some('a') => 0x07,
        Some('b') => 0x08,
        Some('f') => 0x0c,
        Some('n') => 0x0a,
        Some('r') => 0x0d,
        Some('t') => 0x09,
        Some('v') => 0x0b,
        Some(same @ ('\\' | '"')) => u32::from(same),
        Some('x') => cursor.hex(2)?,
        Some('u') => cursor.hex(4)?,
        Some('U') => cursor.hex(8)?,
        Some(first @ '0'..='7') => {
            let mut code = first.to_digit(8).unwrap_or(0);
            for _ in 0..2 {
                let Some(digit) = cursor.peek().and_then(|c| c.to_digit(8)) else {
                    return Err(cursor.expected("three octal digits"));
                };
                code = code << 3 | digit;
                cursor.bump();
            }
            code
        }
        _ => return Err(error_at(position, "unknown escape in a string")),
    };
    char::from_u32(code).ok_or_else(|| error_at(position, "the escape is no Unicode character"))
}

/// `<<WORD` or `<<-WORD`, lines, `WORD` alone on its line; the second form takes away the indentation of the end word
/// if all lines have it.
fn heredoc(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let opened = cursor.position();
    cursor.bump();
    if !cursor.eat('<') {
        return Err(error_at(opened, "expected a value, found '<'"));
    }
    let indented = cursor.eat('-');
    let (end, more) = cursor.take_line();
    let proper = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
    if end.is_empty() || !end.chars().all(proper) {
        return Err(error_at(
            opened,
            "a heredoc begins with << and a word, alone on the rest of its line",
        ));
    }
    let mut lines: Vec<String> = Vec::new();
    let mut more = more;
    while more {
        let (line, ended) = cursor.take_line();
        more = ended;
        let bare = line.trim_start();
        if bare == end && (indented || line == end) {
            let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
            let all_have_it = lines
                .iter()
                .all(|line| line.is_empty() || line.starts_with(&indent));
            let strip = |line: &String| match line.strip_prefix(&indent).filter(|_| indented && all_have_it) {
                Some(stripped) => format!("{stripped}\n"),
                None => format!("{line}\n"),
            };
            return Ok(lines.iter().map(strip).collect());
        }
        lines.push(line);
    }
    Err(error_at(
        opened,
        format!("the heredoc that begins here is never closed by {end:?}"),
    ))
}

fn skip_trivia(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    loop {
        cursor.take_while(char::is_whitespace);
        if cursor.starts_with("#") || cursor.starts_with("//") {
            cursor.take_line();
        } else if cursor.starts_with("/*") {
            let opened = cursor.position();
            while !cursor.starts_with("*/") {
                if cursor.bump().is_none() {
                    return Err(error_at(opened, "the comment that begins here is never closed"));
                }
            }
            cursor.bump();
            cursor.bump();
        } else {
            return Ok(());
        }
    }
}
