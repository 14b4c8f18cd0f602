//! The JSON form: strict JSON, but repeated keys are kept.

use super::cursor::{Cursor, error_at};
use super::{Body, Item, Key, Kind, SyntaxError, Value};

pub(super) fn document(mut cursor: Cursor<'_>) -> Result<Body, SyntaxError> {
    skip_space(&mut cursor);
    let body = object(&mut cursor)?;
    skip_space(&mut cursor);
    match cursor.peek() {
        None => Ok(body),
        Some(_) => Err(cursor.expected("the end of the file")),
    }
}

fn object(cursor: &mut Cursor<'_>) -> Result<Body, SyntaxError> {
    cursor.enter()?;
    expect(cursor, '{')?;
    let mut body = Body::default();
    skip_space(cursor);
    if !cursor.eat('}') {
        loop {
            skip_space(cursor);
            let position = cursor.position();
            let text = string(cursor)?;
            skip_space(cursor);
            expect(cursor, ':')?;
            let value = value(cursor)?;
            body.items.push(Item {
                keys: vec![Key { text, position }],
                value,
            });
            skip_space(cursor);
            if cursor.eat('}') {
                break;
            }
            expect(cursor, ',')?;
        }
    }
    cursor.leave();
    Ok(body)
}

fn value(cursor: &mut Cursor<'_>) -> Result<Value, SyntaxError> {
    skip_space(cursor);
    let position = cursor.position();
    let kind = match cursor.peek() {
        Some('"') => Kind::String(string(cursor)?),
        Some('{') => Kind::Object(object(cursor)?),
        Some('[') => Kind::List(list(cursor)?),
        Some(c) if c == '-' || c.is_ascii_digit() => {
            let text = cursor.take_while(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
            if text.parse::<f64>().is_err() {
                return Err(error_at(position, format!("{text:?} is no number")));
            }
            Kind::Number(text)
        }
        _ => match cursor.take_while(|c| c.is_ascii_alphabetic()).as_str() {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            "null" => Kind::Null,
            "" => return Err(cursor.expected("a value")),
            other => {
                return Err(error_at(
                    position,
                    format!("{other:?} is no value; a string needs quotes"),
                ));
            }
        },
    };
    Ok(Value { kind, position })
}

fn list(cursor: &mut Cursor<'_>) -> Result<Vec<Value>, SyntaxError> {
    cursor.enter()?;
    expect(cursor, '[')?;
    let mut values = Vec::new();
    skip_space(cursor);
    if !cursor.eat(']') {
        loop {
            values.push(value(cursor)?);
            skip_space(cursor);
            if cursor.eat(']') {
                break;
            }
            expect(cursor, ',')?;
        }
    }
    cursor.leave();
    Ok(values)
}

fn string(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    let opened = cursor.position();
    if !cursor.eat('"') {
        return Err(cursor.expected("a string"));
    }
    let mut text = String::new();
    loop {
        match cursor.bump() {
            Some('"') => return Ok(text),
            Some('\\') => text.push(escape(cursor)?),
            None => return Err(error_at(opened, "the string that begins here is never closed")),
            Some(control) if control < ' ' => {
                return Err(error_at(
                    opened,
                    "the string that begins here holds a control character",
                ));
            }
            Some(other) => text.push(other),
        }
    }
}

fn escape(cursor: &mut Cursor<'_>) -> Result<char, SyntaxError> {
    let position = cursor.position();
    match cursor.bump() {
        Some(same @ ('"' | '\\' | '/')) => Ok(same),
        Some('b') => Ok('\u{8}'),
        Some('f') => Ok('\u{c}'),
        Some('n') => Ok('\n'),
        Some('r') => Ok('\r'),
        Some('t') => Ok('\t'),
        Some('u') => {
            let mut code = cursor.hex(4)?;
            if (0xd800..0xdc00).contains(&code) && cursor.eat('\\') && cursor.eat('u') {
                let low = cursor.hex(4)?.wrapping_sub(0xdc00);
                code = if low < 0x400 {
                    0x10000 + ((code - 0xd800) << 10 | low)
                } else {
                    0xd800
                };
            }
            char::from_u32(code).ok_or_else(|| error_at(position, "the escape is no Unicode character"))
        }
        _ => Err(error_at(position, "unknown escape in a string")),
    }
}

fn expect(cursor: &mut Cursor<'_>, wanted: char) -> Result<(), SyntaxError> {
    if cursor.eat(wanted) {
        Ok(())
    } else {
        Err(cursor.expected(&format!("{wanted:?}")))
    }
}

fn skip_space(cursor: &mut Cursor<'_>) {
    cursor.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
}
