//! What flags become, and what answers look like. Against a real server the commands run in the end-to-end tests.

use super::*;

/// Reads a command line and hands the command to `look`, or returns what was written on stderr and the status.
pub(super) fn read(line: &[&str], input: &str) -> Result<(Command, Streams), (u8, String)> {
    let mut streams = Streams::new(input);
    let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    let read = flags::parse_as::<Program>(
        command("credence server"),
        "credence server",
        &line,
        &mut streams.console(),
    );
    match read {
        Ok(program) => Ok((program.command, streams)),
        Err(status) => Err((status, streams.err())),
    }
}

/// The streams of a command under test.
pub(super) struct Streams {
    input: std::io::Cursor<Vec<u8>>,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Streams {
    pub(super) fn new(input: &str) -> Self {
        Self {
            input: std::io::Cursor::new(input.as_bytes().to_vec()),
            out: Vec::new(),
            err: Vec::new(),
        }
    }

    pub(super) fn console(&mut self) -> Console<'_> {
        Console {
            input: &mut self.input,
            out: &mut self.out,
            err: &mut self.err,
            terminal: None,
        }
    }

    pub(super) fn out(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    pub(super) fn err(&self) -> String {
        String::from_utf8(self.err.clone()).unwrap()
    }
}

#[test]
fn the_first_word_decides_between_127_and_1() {
    for (line, status) in [
        (&["nope"][..], 127),
        (&[], 127),
        (&["entry", "nope"], 1),
        (&["entry", "create", "-nope"], 1),
        (&["token"], 1),
    ] {
        assert_eq!(read(line, "").map(drop).unwrap_err().0, status, "{line:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error_with_its_prefix() {
    let mut streams = Streams::new("");
    let line = ["agent", "list", "-socketPath", "/nonexistent/api.sock"].map(str::to_owned);
    assert_eq!(main("credence server", &line, &mut streams.console()), 1);
    let expected = "Error: rpc error: code = Unavailable desc = ";
    assert!(streams.err().starts_with(expected), "{}", streams.err());
    assert_eq!(streams.out(), "");
}

#[test]
fn health_of_a_server_that_is_not_there() {
    let mut streams = Streams::new("");
    let line = ["healthcheck", "-socketPath", "invalid/path"].map(str::to_owned);
    assert_eq!(main("credence server", &line, &mut streams.console()), 1);
    assert_eq!(
        streams.err(),
        "Error: server is unhealthy: unable to determine health\n"
    );
}

fn validate(config: &str, more: &[&str]) -> (u8, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.conf");
    std::fs::write(&path, config).unwrap();
    let mut line = vec![
        "validate".to_owned(),
        "-config".to_owned(),
        path.display().to_string(),
    ];
    line.extend(more.iter().map(|word| (*word).to_owned()));
    let mut streams = Streams::new("");
    let status = main("credence server", &line, &mut streams.console());
    (status, streams.out(), streams.err())
}

#[test]
fn a_configuration_is_valid_or_all_its_faults_are_named() {
    let good = r#"
        server { trust_domain = "domain.test" data_dir = "./data" }
        plugins {
            DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "./data/db" } }
            KeyManager "memory" { plugin_data {} }
        }"#;
    let valid = "SPIRE server configuration file is valid.\n";
    assert_eq!(validate(good, &[]), (0, valid.to_owned(), String::new()));

    let (status, out, err) = validate(good, &["-trustDomain", "Bad", "-serverPort", "x"]);
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    assert!(
        err.starts_with("SPIRE server configuration file is invalid.\nValidation errors:\n\t"),
        "{err}"
    );
    assert!(err.contains("trust_domain") && err.contains("bind_port"), "{err}");
}

#[test]
fn a_missing_configuration_is_looked_for_in_spires_place() {
    for command in ["run", "validate"] {
        let mut streams = Streams::new("");
        assert_eq!(
            main("credence server", &[command.to_owned()], &mut streams.console()),
            1
        );
        let expected = "conf/server/server.conf: please use the -config flag\n";
        assert!(streams.err().ends_with(expected), "{}", streams.err());
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
        let err = read(&line, "").map(|(_, streams)| streams.err());
        assert_eq!(err, Ok(String::new()), "{line:?}");
    }
}
