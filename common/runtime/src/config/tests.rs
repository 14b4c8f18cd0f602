use std::time::Duration;

use super::value::{as_boolean, as_integer, as_string};
use super::*;
use hcl::Kind;

const FILE: &str = r#"
server {
    trust_domain = "example.org"
    bind_port = "8081"
    other = 0x10
    ca_ttl = "1h30m"
    audit = "true"
    empty = ""
    ids = ["a", 1]
    ids = ["b"]
    ca_subject { country = ["US"] }
    ca_subject { common_name = "x" }
    RateLimit { attestation = false }
}
plugins {
    NodeAttestor "join_token" { plugin_data {} }
    NodeAttestor "x509pop" { plugin_data = { mode = "m" } }
    KeyManager "memory" {}
}
"#;

const JSON: &str = r#"{
  "server": {"trust_domain": "example.org", "bind_port": 8081, "other": 16, "ca_ttl": "1h30m", "audit": 1, "empty": null,
    "ids": ["a", "1", "b"], "ca_subject": [{"country": ["US"]}, {"common_name": "x"}], "ratelimit": {"attestation": false}},
  "plugins": {"NodeAttestor": [{"join_token": {"plugin_data": {}}}, {"x509pop": {"plugin_data": {"mode": "m"}}}],
    "KeyManager": {"memory": {}}}
}"#;

#[test]
fn both_forms_read_the_same() {
    for text in [FILE, JSON] {
        let document = Document::parse("conf", text).unwrap();
        let report = Report::new();
        let root = document.root(&report);
        let server = root.block("server").unwrap();
        assert_eq!(server.required("trust_domain").as_deref(), Some("example.org"));
        assert_eq!(
            (server.integer("bind_port"), server.number::<u16>("other")),
            (Some(8081), Some(16))
        );
        assert_eq!(server.duration("ca_ttl"), Some(Duration::from_secs(5400)));
        assert_eq!(
            (server.boolean("audit"), server.boolean("absent")),
            (Some(true), None)
        );
        assert_eq!(server.string("empty"), None);
        let ids: Vec<String> = server.strings("ids").into_iter().map(|id| id.value).collect();
        assert_eq!(ids, ["a", "1", "b"]);
        let subject = server.block("ca_subject").unwrap();
        assert_eq!(subject.strings("country").len(), 1);
        assert_eq!(subject.string("common_name").as_deref(), Some("x"));
        subject.finish(UnknownKeys::Fatal);
        assert_eq!(
            server.block("ratelimit").unwrap().boolean("attestation"),
            Some(false)
        );
        server.finish(UnknownKeys::Fatal);
        let plugins = root.block("plugins").unwrap();
        let attestors = plugins.labelled("NodeAttestor");
        let names: Vec<&str> = attestors.iter().map(|(name, _)| name.value.as_str()).collect();
        assert_eq!(names, ["join_token", "x509pop"]);
        assert_eq!(
            attestors[1]
                .1
                .block("plugin_data")
                .unwrap()
                .string("mode")
                .as_deref(),
            Some("m")
        );
        assert_eq!(plugins.labelled("KeyManager")[0].0.value, "memory");
        root.finish(UnknownKeys::Fatal);
        assert_eq!(report.finish("conf", Some(())).unwrap().1, []);
    }
}

#[test]
fn all_faults_come_at_once_each_with_its_place() {
    let text = "server {\n trust_domian = \"x\"\n bind_port = \"http\"\n ca_ttl = \"1 hour\"\n audit = [1]\n ids = \"a\"\n port = 70000\n \
                sub = 1\n zzz = 1\n}\nsrever {}";
    let document = Document::parse("s.conf", text).unwrap();
    let report = Report::new();
    let root = document.root(&report);
    let server = root.block("server").unwrap();
    server.required("trust_domain");
    server.integer("bind_port");
    server.duration("ca_ttl");
    server.boolean("audit");
    server.strings("ids");
    server.number::<u16>("port");
    assert!(server.block("sub").unwrap().keys().is_empty());
    server.finish(UnknownKeys::Fatal);
    root.finish(UnknownKeys::Warn);
    report.warn(Place::file(&"s.conf".into()), "whole");
    let faults = report.finish::<()>("s.conf", None).unwrap_err();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "s.conf:1:1: server.trust_domain must be configured",
            "s.conf:3:14: server.bind_port: expected a whole number, found \"http\"",
            "s.conf:4:2: server.ca_ttl: \"1 hour\" is no duration such as \"1h30m\" or \"90s\"",
            "s.conf:5:10: server.audit: expected true or false, found a list",
            "s.conf:6:8: server.ids: expected a list of strings, found \"a\"",
            "s.conf:7:2: server.port: 70000 is out of range",
            "s.conf:8:8: server.sub: expected a block, found 1",
            "s.conf:2:2: unknown key \"trust_domian\" in server; did you mean \"trust_domain\"?",
            "s.conf:9:2: unknown key \"zzz\" in server",
        ]
    );
}

#[test]
fn unknown_keys_can_be_warnings_and_an_overlay_wins() {
    let document = Document::parse("s.conf", "server { level = \"INFO\" }\nsrever {}").unwrap();
    let flags = hcl::parse("level = \"DEBUG\" port = \"x\"").unwrap();
    let report = Report::new();
    let root = document.root(&report);
    let mut server = root.block("server").unwrap();
    server.overlay("command line", &flags);
    assert_eq!(server.string("level").as_deref(), Some("DEBUG"));
    assert_eq!(server.place_of("level").file.as_ref(), "command line");
    server.finish(UnknownKeys::Warn);
    root.finish(UnknownKeys::Warn);
    let (_, warnings) = report.finish("s.conf", Some(())).unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2);
    assert_eq!(
        warnings[1],
        "s.conf:2:1: unknown key \"srever\" at the top level; did you mean \"server\"?"
    );
}

#[test]
fn durations_as_go_reads_them() {
    let ms = Duration::from_millis;
    for (text, want) in [
        ("0", Some(Duration::ZERO)),
        ("1h", Some(ms(3_600_000))),
        ("1h30m10s", Some(ms(5_410_000))),
        ("1.5s", Some(ms(1_500))),
        (".5m", Some(ms(30_000))),
        ("1.s", Some(ms(1_000))),
        ("250ms", Some(ms(250))),
        ("0.000000001s", Some(Duration::from_nanos(1))),
        ("1us2µs3ns", Some(Duration::from_nanos(3_003))),
        ("+5s", Some(ms(5_000))),
        ("2562047h", Some(Duration::from_secs(2_562_047 * 3600))),
        ("2562048h", None),
        ("99999999999999999999h", None),
        ("-1s", None),
        ("", None),
        ("1", None),
        ("s", None),
        (".s", None),
        ("1.2.3s", None),
        ("1d", None),
        ("1h ", None),
        ("é", None),
    ] {
        assert_eq!(parse_duration(text), want, "{text}");
    }
}

#[test]
fn weak_typing() {
    let string = |text: &str| Kind::String(text.to_owned());
    let number = |text: &str| Kind::Number(text.to_owned());
    for (kind, want) in [
        (number("010"), Some(8)),
        (string("-5"), Some(-5)),
        (string("0x7f"), Some(127)),
        (number("-9223372036854775808"), Some(i64::MIN)),
        (number("9223372036854775808"), None),
        (number("1.5"), None),
        (string("--1"), None),
        (string("0x"), None),
        (string(""), None),
        (Kind::Bool(true), None),
    ] {
        assert_eq!(as_integer(&kind), want, "{kind:?}");
    }
    assert_eq!(as_string(&Kind::Bool(true)).as_deref(), Some("true"));
    assert_eq!(as_string(&number("1.50")).as_deref(), Some("1.50"));
    assert_eq!(as_boolean(&string("TRUE")), Some(true));
    assert_eq!(as_boolean(&number("2")), None);
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.conf");
    let fault = Document::load(&missing, None).unwrap_err();
    assert_eq!(
        fault.message,
        format!("open {}: no such file or directory", missing.display())
    );
    let large = dir.path().join("large.conf");
    std::fs::write(&large, " ".repeat(MAX_SIZE + 1)).unwrap();
    assert!(
        Document::load(&large, None)
            .unwrap_err()
            .message
            .contains("more than")
    );
    let latin = dir.path().join("latin.conf");
    std::fs::write(&latin, b"a = \"\xe9\"").unwrap();
    assert!(
        Document::load(&latin, None)
            .unwrap_err()
            .message
            .contains("UTF-8")
    );
    let good = dir.path().join("good.conf");
    std::fs::write(&good, "a = \"$X\"").unwrap();
    let document = Document::load(&good, Some(&|name| (name == "X").then(|| "y".to_owned()))).unwrap();
    let report = Report::new();
    assert_eq!(document.root(&report).string("a").as_deref(), Some("y"));
}

#[test]
fn plugins_are_unwrapped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.conf");
    std::fs::write(&data, "keys_path = \"from-file\"\nbroken = [1").unwrap();
    let good = dir.path().join("good.conf");
    std::fs::write(&good, "keys_path = \"from-file\"").unwrap();
    let text = format!(
        r#"
KeyManager "disk" {{ plugin_data {{ keys_path = "inline" }} }}
KeyManager "off" {{ enabled = false plugin_cmd = "x" }}
KeyManager "file" {{ plugin_data_file = "{good}" }}
KeyManager "bare" {{}}
KeyManager "torn" {{ plugin_data_file = "{data}" }}
KeyManager "none" {{ plugin_data_file = "conf/none.conf" }}
KeyManager "both" {{ plugin_data {{}} plugin_data_file = "{good}" }}
KeyManager "cmd" {{ plugin_cmd = "/bin/x" plugin_args = ["y"] }}
"#,
        good = good.display(),
        data = data.display()
    );
    let document = Document::parse("p.conf", &text).unwrap();
    let report = Report::new();
    let root = document.root(&report);
    let mut seen = Vec::new();
    let count = each_plugin(&root, "KeyManager", &mut |name, data| {
        seen.push(format!("{}={:?}", name.value, data.string("keys_path")));
        data.finish(UnknownKeys::Fatal);
    });
    root.finish(UnknownKeys::Fatal);
    assert_eq!(count, 7);
    assert_eq!(
        seen,
        [
            "disk=Some(\"inline\")",
            "file=Some(\"from-file\")",
            "bare=None",
            "cmd=None"
        ]
    );
    let faults = report.finish("p.conf", Some(())).unwrap_err();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 4);
    assert!(
        faults[0].ends_with("data.conf:2:10: the list that begins here is never closed"),
        "{}",
        faults[0]
    );
    let go = "failed to read plugin configuration: open conf/none.conf: no such file or directory";
    assert!(faults[1].contains(go), "{}", faults[1]);
    assert!(
        faults[2].contains("plugin_data_file: excludes plugin_data"),
        "{}",
        faults[2]
    );
    assert!(
        faults[3].contains("external plugins are not supported"),
        "{}",
        faults[3]
    );
}

#[test]
fn health_checks_are_off_unless_switched_on() {
    let read = |text: &str| {
        let document = Document::parse("h.conf", text).unwrap();
        let report = Report::new();
        let checks = health_checks(&document.root(&report));
        report.finish("h.conf", Some(checks)).map(|(checks, _)| checks)
    };
    assert_eq!(read("").unwrap(), None);
    assert_eq!(read("health_checks { bind_port = 1 }").unwrap(), None);
    let on =
        read("health_checks { listener_enabled = true bind_port = \"8080\" live_path = \"/l\" }").unwrap();
    let want = HealthChecks {
        bind_address: "localhost".to_owned(),
        bind_port: 8080,
        live_path: "/l".to_owned(),
        ready_path: "/ready".to_owned(),
    };
    assert_eq!(on, Some(want));
    let faults = read("health_checks { ready_path = \"r\" bind_prot = 1 }").unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
}
