//! `-expandEnv`: environment variables in the text of a file, by the rules of Go's `os.Expand`.

use super::EnvLookup;

/// Replaces `$NAME` and `${NAME}` by what `lookup` says, or by nothing; `$$` becomes `$`, a `$` before anything else stays.
pub fn expand(text: &str, lookup: EnvLookup<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, left) = shell_name(after);
        rest = left;
        match name {
            Name::Variable("$") => out.push('$'),
            Name::Variable(name) => out.push_str(&lookup(name).unwrap_or_default()),
            Name::Malformed => {}
            Name::None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

enum Name<'a> {
    Variable(&'a str),
    /// `${}`, or a brace without its end: eaten.
    Malformed,
    None,
}

fn shell_name(after: &str) -> (Name<'_>, &str) {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            None => (Name::Malformed, braced),
            Some((name, rest)) if is_special(name) || is_word(name) => (Name::Variable(name), rest),
            Some((_, rest)) => (Name::Malformed, rest),
        };
    }
    if let Some((special, rest)) = after.split_at_checked(1).filter(|(first, _)| is_special(first)) {
        return (Name::Variable(special), rest);
    }
    let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    match after.strip_suffix(rest) {
        Some(name) if !name.is_empty() => (Name::Variable(name), rest),
        _ => (Name::None, after),
    }
}

fn is_special(name: &str) -> bool {
    matches!(name, "*" | "#" | "$" | "@" | "!" | "?" | "-") || (name.len() == 1 && is_digit(name))
}

fn is_digit(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn as_go_expands() {
        let lookup = |name: &str| match name {
            "HOST" => Some("db".to_owned()),
            "PORT" => Some("1".to_owned()),
            _ => None,
        };
        for (text, want) in [
            ("a=$HOST:${PORT}.", "a=db:1."),
            ("$$HOST $$$HOST", "$HOST $db"),
            ("[$NOPE][${NOPE}]", "[][]"),
            ("cost: $ 5 and $.", "cost: $ 5 and $."),
            ("${}x ${a b}y", "x y"),
            ("$1HOST", "HOST"),
            ("é$HOSTé$", "édbé$"),
            ("open ${HOST", "open HOST"),
        ] {
            assert_eq!(expand(text, &lookup), want, "{text}");
        }
    }
}
