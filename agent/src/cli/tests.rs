//! What flags become, and what answers look like. Against a real agent the commands run in the end-to-end tests.

use super::*;

struct Streams {
    out: Vec<u8>,
    err: Vec<u8>,
}

fn run(line: &[&str]) -> (u8, String, String) {
    let mut streams = Streams {
        out: Vec::new(),
        err: Vec::new(),
    };
    let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    let mut console = Console {
        input: &mut std::io::empty(),
        out: &mut streams.out,
        err: &mut streams.err,
    };
    let status = main("credence agent", &line, &mut console);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status, text(streams.out), text(streams.err))
}

#[test]
fn an_agent_that_is_not_there() {
    for line in [
        &["api", "fetch", "-socketPath", "/nonexistent/api.sock"][..],
        &["api", "fetch", "x509", "--socketPath=/nonexistent/api.sock"],
        &[
            "api",
            "fetch",
            "jwt",
            "-audience",
            "a,b",
            "-socketPath",
            "/nonexistent/api.sock",
        ],
    ] {
        let (status, out, err) = run(line);
        assert_eq!((status, out.as_str()), (1, ""), "{line:?}");
        assert!(err.starts_with("rpc error: code = Unavailable desc = "), "{err}");
    }
}

#[test]
fn health_of_an_agent_that_is_not_there() {
    let (status, out, err) = run(&["healthcheck", "-verbose", "-socketPath", "invalid/path"]);
    assert_eq!((status, out.as_str()), (1, "Checking agent health...\n"));
    let expected = "Failed to check health: rpc error: code = Unavailable desc = ";
    assert!(err.starts_with(expected), "{err}");
    assert!(
        err.ends_with("\nAgent is unhealthy: unable to determine health\n"),
        "{err}"
    );
}

#[test]
fn what_is_missing_is_named() {
    for (line, fault) in [
        (&["api", "fetch", "jwt"][..], "audience must be specified\n"),
        (&["api", "validate", "jwt"], "audience must be specified\n"),
        (
            &["api", "validate", "jwt", "-audience", "x"],
            "svid must be specified\n",
        ),
    ] {
        assert_eq!(run(line), (1, String::new(), fault.to_owned()), "{line:?}");
    }
    assert_eq!(run(&["nope"]).0, 127);
    assert_eq!(run(&["api"]).0, 1);
    assert_eq!(run(&["api", "fetch", "jwt", "-timeout", "soon"]).0, 1);
}
