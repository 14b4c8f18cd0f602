//! `cmd_args`: one text of several arguments, as spiffe-helper splits it.

/// Why a text isn't split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    /// A quote within an argument that has none around it.
    #[error("a double quote stands within an argument: put quotes around the argument and double this one")]
    Bare,
    /// Something other than a space after the closing quote.
    #[error("a double quote is followed by neither a space nor another one")]
    After,
    /// No closing quote.
    #[error("a double quote is not closed")]
    Open,
}

/// Splits at each space; `"` around an argument keeps its spaces, `""` within one is a quote. Nothing else is special, and
/// two spaces in a row have an empty argument between them. Of several lines the first that isn't empty counts.
pub(super) fn split(text: &str) -> Result<Vec<String>, SplitError> {
    let mut rest = text.trim_start_matches(['\r', '\n']);
    let mut arguments = Vec::new();
    if rest.is_empty() {
        return Ok(arguments);
    }
    loop {
        let (argument, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find([' ', '\n']).unwrap_or(rest.len());
                let (plain, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
                if plain.contains('"') {
                    return Err(SplitError::Bare);
                }
                (plain.trim_end_matches('\r').to_owned(), after)
            }
        };
        arguments.push(argument);
        match after.strip_prefix(' ') {
            Some(more) => rest = more,
            None => return Ok(arguments),
        }
    }
}

/// The argument after an opening quote, and what follows its closing one.
fn unquote(mut rest: &str) -> Result<(String, &str), SplitError> {
    let mut argument = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or(SplitError::Open)?;
        argument.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                argument.push('"');
                rest = more;
            }
            None if after.is_empty() || after.starts_with([' ', '\n', '\r']) => return Ok((argument, after)),
            None => return Err(SplitError::After),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_as_spiffe_helper_splits_them() {
        for (text, expected) in [
            ("", vec![]),
            ("start_envoy.sh", vec!["start_envoy.sh"]),
            ("-c 'echo hello world'", vec!["-c", "'echo", "hello", "world'"]),
            ("-c \"echo hello\"", vec!["-c", "echo hello"]),
            (
                "\"with \"\"quotes\"\" in it\" x",
                vec!["with \"quotes\" in it", "x"],
            ),
            ("a  b", vec!["a", "", "b"]),
            ("a ", vec!["a", ""]),
            ("\n\na b\nc", vec!["a", "b"]),
            (
                "-e \"ALTER INSTANCE RELOAD TLS;\"",
                vec!["-e", "ALTER INSTANCE RELOAD TLS;"],
            ),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text:?}");
        }
        assert_eq!(split("a\"b"), Err(SplitError::Bare));
        assert_eq!(split("\"a\"b"), Err(SplitError::After));
        assert_eq!(split("\"a b"), Err(SplitError::Open));
    }
}
