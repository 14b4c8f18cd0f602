use clap::{Args, Subcommand};

use super::*;

#[derive(Debug, Parser)]
#[command(version = "1.2.3", subcommand_required = true, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Run),
    /// A group.
    Entry {
        #[command(subcommand)]
        command: EntryVerb,
    },
}

#[derive(Debug, Subcommand)]
enum EntryVerb {
    Create(Run),
}

#[derive(Args, Debug, Default, Eq, PartialEq)]
struct Run {
    #[arg(long = "spiffeID")]
    id: Option<String>,
    #[arg(long = "selector")]
    selectors: Vec<String>,
    #[arg(long = "admin")]
    admin: bool,
    #[arg(long = "maybe")]
    maybe: Option<bool>,
    #[arg(long = "ttl", default_value_t = 7)]
    ttl: i32,
}

struct Outcome {
    result: Result<Run, u8>,
    out: String,
    err: String,
}

fn read(line: &[&str]) -> Outcome {
    let (mut input, mut out, mut err) = (std::io::empty(), Vec::new(), Vec::new());
    let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    let result = parse::<Program>(
        "program",
        &line,
        &mut Console {
            input: &mut input,
            out: &mut out,
            err: &mut err,
            terminal: None,
        },
    );
    Outcome {
        result: result.map(|program| match program.command {
            Verb::Run(run) => run,
            Verb::Entry {
                command: EntryVerb::Create(run),
            } => run,
        }),
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

fn run(ttl: i32) -> Run {
    Run {
        ttl,
        ..Run::default()
    }
}

#[test]
fn one_dash_or_two_and_both_forms_of_a_value() {
    for line in [
        ["run", "-spiffeID", "x", "-ttl=9"],
        ["run", "--spiffeID=x", "--ttl", "9"],
    ]
    .map(|line| line.to_vec())
    {
        let expected = Run {
            id: Some("x".into()),
            ..run(9)
        };
        assert_eq!(read(&line).result, Ok(expected), "{line:?}");
    }
}

#[test]
fn a_value_may_look_like_a_flag() {
    let read = read(&[
        "entry",
        "create",
        "-spiffeID",
        "-",
        "-selector",
        "-a:b",
        "-selector",
        "c=d:e",
        "-ttl",
        "-5",
    ]);
    let expected = Run {
        id: Some("-".into()),
        selectors: vec!["-a:b".into(), "c=d:e".into()],
        ..run(-5)
    };
    assert_eq!(read.result, Ok(expected), "{}", read.err);
}

#[test]
fn the_last_of_a_repeated_flag_counts() {
    assert_eq!(read(&["run", "-ttl", "1", "-ttl", "2"]).result, Ok(run(2)));
}

#[test]
fn booleans() {
    for (line, admin, maybe) in [
        (&["run"][..], false, None),
        (&["run", "-admin"], true, None),
        (&["run", "-admin", "true", "-maybe"], true, Some(true)),
        (&["run", "--admin=false", "-maybe=F"], false, Some(false)),
        (&["run", "-admin=1"], true, None),
    ] {
        let expected = Run {
            admin,
            maybe,
            ..run(7)
        };
        let read = read(line);
        assert_eq!(read.result, Ok(expected), "{line:?} {}", read.err);
        assert_eq!(read.err, "");
    }
    for line in [["run", "-admin", "false"].as_slice(), &["run", "-admin=maybe"]] {
        let read = read(line);
        assert_eq!(read.result, Err(USAGE), "{line:?}");
        assert!(read.err.starts_with("Error: "), "{}", read.err);
    }
}

#[test]
fn stray_arguments_are_told_of_and_ignored() {
    let read = read(&["run", "config", "-ttl", "3", "-"]);
    assert_eq!(read.result, Ok(run(3)));
    assert_eq!(
        read.err,
        "Warning: argument \"config\" is ignored\nWarning: argument \"-\" is ignored\n"
    );
}

#[test]
fn exit_statuses() {
    for (line, status) in [
        (&[][..], UNKNOWN_COMMAND),
        (&["nope"], UNKNOWN_COMMAND),
        (&["entry"], USAGE),
        (&["entry", "nope"], USAGE),
        (&["run", "-nope"], USAGE),
        (&["run", "-ttl"], USAGE),
        (&["run", "-ttl", "x"], USAGE),
        (&["-h"], 0),
        (&["run", "-h"], 0),
        (&["entry", "create", "--help"], 0),
    ] {
        let read = read(line);
        assert_eq!(read.result, Err(status), "{line:?}: {}{}", read.out, read.err);
        assert_eq!(status == 0, read.err.is_empty(), "{line:?}");
    }
}

#[test]
fn the_version_is_alone_on_its_line() {
    for flag in ["-version", "--version", "-v"] {
        assert_eq!(read(&[flag]).out, "1.2.3\n");
    }
}
