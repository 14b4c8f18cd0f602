use super::*;

/// The tree in one line, for comparing.
fn show(body: &Body) -> String {
    let items: Vec<String> = body
        .items
        .iter()
        .map(|item| {
            let keys: Vec<&str> = item.keys.iter().map(|key| key.text.as_str()).collect();
            format!("{}={}", keys.join(" "), show_value(&item.value))
        })
        .collect();
    items.join(";")
}

fn show_value(value: &Value) -> String {
    match &value.kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(text) => text.clone(),
        Kind::String(text) => format!("{text:?}"),
        Kind::List(values) => format!(
            "[{}]",
            values.iter().map(show_value).collect::<Vec<_>>().join(",")
        ),
        Kind::Object(body) => format!("{{{}}}", show(body)),
    }
}

fn parsed(text: &str) -> String {
    match parse(text) {
        Ok(body) => show(&body),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn oddities_of_real_files() {
    for (text, want) in [
        ("", ""),
        ("# only\n// comments /* */\n/* of\n all kinds */", ""),
        ("a = 1 b = 2", "a=1;b=2"),
        ("server { a = \"x\" b = true }", "server={a=\"x\";b=true}"),
        (
            "NodeAttestor \"x509pop\" {\n\tplugin_data {}\n}",
            "NodeAttestor x509pop={plugin_data={}}",
        ),
        (
            "KeyManager \"disk\" { plugin_data = { k = \"v\" } }",
            "KeyManager disk={plugin_data={k=\"v\"}}",
        ),
        ("\"quoted key\" = 1\n\"a\" \"b\" {}", "quoted key=1;a b={}"),
        ("a = 1\na = 2\nb {}\nb {}", "a=1;a=2;b={};b={}"),
        (
            "l = [\"a\", 1, true, [2], {x = 3},]",
            "l=[\"a\",1,true,[2],{x=3}]",
        ),
        ("l = [ # one\n  \"a\" /* two */ ,\n]", "l=[\"a\"]"),
        ("a = 1, b = 2,", "a=1;b=2"),
        ("bind-port.x_1 = -0x1F", "bind-port.x_1=-0x1F"),
        ("n = [1.5e3, -2, 0755, +3]", "n=[1.5e3,-2,0755,+3]"),
        (
            "x = \"${env.\"q\" {}} \\\" \\\\ \\n \\u00e9 \\101 \\x41\"",
            "x=\"${env.\\\"q\\\" {}} \\\" \\\\ \\n é A A\"",
        ),
        ("x = <<EOF\none\n  EOF\nEOF\ny = 1", "x=\"one\\n  EOF\\n\";y=1"),
        ("x = <<-EOF\n  one\n    two\n\n  EOF\n", "x=\"one\\n  two\\n\\n\""),
        ("x = <<-EOF\n one\n   EOF", "x=\" one\\n\""),
        ("x = <<EOF\r\na\r\nEOF\r\n", "x=\"a\\n\""),
        ("\u{feff}a = 1", "a=1"),
        ("a\n=\n1", "a=1"),
    ] {
        assert_eq!(parsed(text), want, "{text}");
    }
}

#[test]
fn the_json_form() {
    for (text, want) in [
        ("{}", ""),
        (
            r#" {"server": {"a": "x", "a": 2, "n": null, "f": -1.5e2}, "l": [true, {"b": []}]} "#,
            "server={a=\"x\";a=2;n=null;f=-1.5e2};l=[true,{b=[]}]",
        ),
        (
            r#"{"s": "\"\\\/\n\u00e9\ud83d\ude00 ${x}"}"#,
            "s=\"\\\"\\\\/\\né😀 ${x}\"",
        ),
    ] {
        assert_eq!(parsed(text), want, "{text}");
    }
}

#[test]
fn faults_have_their_place() {
    for (text, line, column, message) in [
        (
            "server {\n  a = 1\n",
            1,
            8,
            "the block that begins here is never closed",
        ),
        (
            "a = 1\n  b",
            2,
            4,
            "expected '=', '{' or a label, found the end of the file",
        ),
        ("a \"b\" = 1", 1, 7, "expected '{' after a label, found '='"),
        ("a = yes", 1, 5, "\"yes\" is no value; a string needs quotes"),
        ("a = 1h", 1, 5, "\"1h\" is no number; a string needs quotes"),
        ("a = [1 2]", 1, 8, "expected ',' or ']', found '2'"),
        ("a = [1,,2]", 1, 8, "expected a value, found ','"),
        ("a = [1,", 1, 5, "the list that begins here is never closed"),
        (
            "a = \"x\nb = 1",
            1,
            5,
            "the string that begins here is never closed",
        ),
        ("a = \"\\q\"", 1, 7, "unknown escape in a string"),
        ("a = \"\\ud800\"", 1, 7, "the escape is no Unicode character"),
        ("a = \"${x", 1, 5, "the string that begins here is never closed"),
        (
            "a = <<EOF\nx",
            1,
            5,
            "the heredoc that begins here is never closed by \"EOF\"",
        ),
        (
            "a = <<",
            1,
            5,
            "a heredoc begins with << and a word, alone on the rest of its line",
        ),
        ("\n/* x", 2, 1, "the comment that begins here is never closed"),
        ("}", 1, 1, "expected a key, found '}'"),
        ("a = }", 1, 5, "expected a value, found '}'"),
        ("{\"a\": 1,}", 1, 9, "expected a string, found '}'"),
        ("{\"a\" 1}", 1, 6, "expected ':', found '1'"),
        ("{} x", 1, 4, "expected the end of the file, found 'x'"),
        ("{\"a\": tru}", 1, 7, "\"tru\" is no value; a string needs quotes"),
        ("{\"a\": \"\\ud800\"}", 1, 9, "the escape is no Unicode character"),
    ] {
        let error = parse(text).expect_err(text);
        let got = (error.position.line, error.position.column, error.message.as_str());
        assert_eq!(got, (line, column, message), "{text}");
    }
}

#[test]
fn depth_is_bounded() {
    assert!(
        parse(&"a {".repeat(100_000))
            .unwrap_err()
            .message
            .starts_with("nested more")
    );
    assert!(
        parse(&format!("a = {}", "[".repeat(100_000)))
            .unwrap_err()
            .message
            .starts_with("nested more")
    );
    assert!(
        parse(&"{\"a\":".repeat(100_000))
            .unwrap_err()
            .message
            .starts_with("nested more")
    );
    assert!(
        parse(&format!("{{\"a\":{}", "[".repeat(100_000)))
            .unwrap_err()
            .message
            .starts_with("nested more")
    );
    parsed(&format!("a = {}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)));
}

#[test]
fn every_cut_of_a_file_is_a_tree_or_an_error() {
    let text = "# c\nserver { a = \"x${y}\\u00e9\" b = [1, \"2\",] }\nX \"é\" \"m\" {\nc = <<-E\n t\n E\n}\n/* e */ d = 0x1";
    for (cut, _) in text.char_indices() {
        let (before, after) = text.split_at(cut);
        drop(parse(before));
        drop(parse(after));
        drop(parse(&format!("{{{after}")));
    }
    parsed(text);
}
