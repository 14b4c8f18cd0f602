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
        terminal: None,
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

#[test]
fn a_configuration_is_valid_or_its_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.conf");
    let config = r#"
        agent { trust_domain = "domain.test" server_address = "localhost" server_port = "8081" data_dir = "./data" }
        plugins { KeyManager "memory" { plugin_data {} } WorkloadAttestor "unix" { plugin_data {} } }"#;
    std::fs::write(&path, config).unwrap();
    let path = path.display().to_string();
    let flags = [
        "-insecureBootstrap",
        "-joinToken",
        "secret",
        "--socketPath=./a.sock",
    ];
    let line: Vec<&str> = ["validate", "-config", &path].into_iter().chain(flags).collect();
    let (status, out, err) = run(&line);
    assert_eq!(
        (status, out.as_str()),
        (0, "SPIRE agent configuration file is valid.\n"),
        "{err}"
    );

    let (status, out, err) = run(&["validate", "-config", &path, "-serverPort", "x"]);
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(
        err.starts_with("SPIRE agent configuration file is invalid"),
        "{err}"
    );
    assert!(err.contains("server_port"), "{err}");
}

#[test]
fn a_missing_configuration_is_looked_for_in_spires_place() {
    for (command, prefix) in [
        ("validate", "SPIRE agent configuration file is invalid: "),
        ("run", ""),
    ] {
        let (status, _, err) = run(&[command]);
        assert_eq!(status, 1);
        let prefix = format!("{prefix}could not find config file /");
        let expected = "conf/agent/agent.conf: please use the -config flag\n";
        assert!(err.starts_with(&prefix) && err.ends_with(expected), "{err}");
    }
}

#[test]
fn no_command_has_a_flag_twice() {
    <Program as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn each_command_has_an_example_that_it_takes() {
    let tree = command("PROGRAM");
    let paths = help::commands(&tree);
    for (path, command) in &paths {
        let shown = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            shown.starts_with(&format!("Example:\n  PROGRAM {path}")),
            "{path}: {shown:?}"
        );
    }
    for (path, flags) in examples::EXAMPLES {
        assert!(
            paths.iter().any(|(known, _)| known == path),
            "{path} is no command"
        );
        let line: Vec<&str> = path.split(' ').chain(flags.split_whitespace()).collect();
        let line: Vec<String> = line.into_iter().map(str::to_owned).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut std::io::empty(),
            out: &mut out,
            err: &mut err,
            terminal: None,
        };
        let read = flags::parse_as::<Program>(tree.clone(), "PROGRAM", &line, &mut console);
        assert!(
            read.is_ok() && err.is_empty(),
            "{line:?}: {}",
            String::from_utf8_lossy(&err)
        );
    }
}
