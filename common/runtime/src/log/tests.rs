use std::sync::{Arc, Mutex};

use credence_identity::Timestamp;
use tracing::subscriber::with_default;

use super::format::{Line, json, text};
use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `events` logs, without the time of each line.
fn logged(options: &LogOptions, events: impl FnOnce(&LogHandle)) -> Vec<String> {
    let sink = Sink::default();
    let (layer, handle) = layer_writing_to(options, Box::new(sink.clone()));
    with_default(Registry::default().with(layer), || events(&handle));
    let bytes = sink.0.lock().unwrap().clone();
    let lines = String::from_utf8(bytes).unwrap();
    lines
        .lines()
        .map(|line| line.split_once("Z\" ").map_or(line, |(_, rest)| rest).to_owned())
        .collect()
}

#[test]
fn text_is_what_logrus_prints() {
    let lines = logged(&LogOptions::default(), |_| {
        tracing::info!("Starting Server APIs");
        tracing::warn!(
            subsystem_name = "ca_manager",
            upstream = false,
            ttl = 3_600_u64,
            "X509 CA minted"
        );
        tracing::info!(spiffe_id = "spiffe://example.org/db", address = %"127.0.0.1:8081", empty = "", "Entry created");
        tracing::error!(r#type = "x", "plain");
    });
    assert_eq!(
        lines,
        [
            r#"level=info msg="Starting Server APIs""#,
            r#"level=warning msg="X509 CA minted" subsystem_name=ca_manager ttl=3600 upstream=false"#,
            r#"level=info msg="Entry created" address="127.0.0.1:8081" empty= spiffe_id="spiffe://example.org/db""#,
            "level=error msg=plain type=x",
        ]
    );
}

#[test]
fn time_is_rfc3339_in_utc_and_clashing_names_move_away() {
    let fields = [("level", "x".into()), ("time", 3.into())].into();
    let line = Line {
        time: Timestamp::from_unix_seconds(1_767_323_045),
        level: Level::Info,
        message: "m",
        file: Some(("src/a.rs", 7)),
        fields: &fields,
    };
    assert_eq!(
        text(&line),
        "time=\"2026-01-02T03:04:05Z\" level=info msg=m file=\"src/a.rs:7\" fields.level=x fields.time=3\n"
    );
    assert_eq!(
        json(&line),
        concat!(
            r#"{"fields.level":"x","fields.time":3,"file":"src/a.rs:7","level":"info","msg":"m","#,
            r#""time":"2026-01-02T03:04:05Z"}"#,
            "\n"
        )
    );
}

#[test]
fn hostile_text_stays_on_its_line() {
    let hostile = "a\nlevel=info msg=forged\r\u{1b}[2J\"\\\u{0}\u{202e}\u{2028}\u{1f600}é";
    let lines = logged(&LogOptions::default(), |_| tracing::info!(id = hostile, "seen"));
    assert_eq!(
        lines,
        [r#"level=info msg=seen id="a\nlevel=info msg=forged\r\x1b[2J\"\\\x00\u202e\u2028😀é""#]
    );
    let json_options = LogOptions {
        format: Format::Json,
        ..LogOptions::default()
    };
    let lines = logged(&json_options, |_| tracing::info!(id = hostile, "seen"));
    assert_eq!(lines.len(), 1);
    let value: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(value["id"], hostile);
}

#[test]
fn spans_lend_their_fields_and_the_event_wins() {
    let lines = logged(&LogOptions::default(), |_| {
        let outer = tracing::info_span!(
            "call",
            method = "GetBundle",
            caller = tracing::field::Empty,
            n = 1
        );
        outer.record("caller", "local");
        let _entered = outer.enter();
        tracing::info_span!("inner", n = 2).in_scope(|| tracing::info!(method = "Other", "in"));
    });
    assert_eq!(lines, ["level=info msg=in caller=local method=Other n=2"]);
}

#[test]
fn errors_print_their_chain() {
    #[derive(Debug, thiserror::Error)]
    #[error("unable to load")]
    struct Outer(#[source] io::Error);
    let error = Outer(io::Error::other("disk on fire"));
    let lines = logged(&LogOptions::default(), |_| {
        tracing::error!(error = &error as &(dyn std::error::Error + 'static), "Failed");
    });
    assert_eq!(
        lines,
        [r#"level=error msg=Failed error="unable to load: disk on fire""#]
    );
}

#[test]
fn the_level_changes_at_run_time() {
    let lines = logged(&LogOptions::default(), |handle| {
        let speak = |n: u32| tracing::debug!(n, "quiet");
        speak(1);
        handle.set_level("DEBUG".parse().unwrap());
        assert_eq!(
            (handle.level(), handle.launch_level()),
            (Level::Debug, Level::Info)
        );
        speak(2);
        handle.reset();
        speak(3);
        handle.set_level(Level::Fatal);
        tracing::error!("silent");
    });
    assert_eq!(lines, ["level=debug msg=quiet n=2"]);
    assert_eq!("Warn".parse(), Ok(Level::Warn));
    assert_eq!("loud".parse::<Level>(), Err(UnknownLevel("loud".to_owned())));
}

#[test]
fn other_crates_are_heard_from_warning_on() {
    let options = LogOptions {
        level: Level::Trace,
        ..LogOptions::default()
    };
    let lines = logged(&options, |_| {
        tracing::info!(target: "h2::codec", "chatter");
        tracing::warn!(target: "h2::codec", "trouble");
    });
    assert_eq!(lines, ["level=warning msg=trouble"]);
}

#[test]
fn reopen_follows_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.log");
    let options = LogOptions {
        file: Some(path.clone()),
        ..LogOptions::default()
    };
    let (layer, handle) = layer_writing_to(&options, Box::new(open(&path).unwrap()));
    with_default(Registry::default().with(layer), || {
        tracing::info!("one");
        std::fs::rename(&path, dir.path().join("server.log.1")).unwrap();
        tracing::info!("two");
        handle.reopen().unwrap();
        tracing::info!("three");
    });
    let old = std::fs::read_to_string(dir.path().join("server.log.1")).unwrap();
    let new = std::fs::read_to_string(&path).unwrap();
    assert!(old.contains("msg=one") && old.contains("msg=two") && !old.contains("msg=three"));
    assert!(new.contains("msg=three") && !new.contains("msg=two"));
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert!(handle.reopen().is_err());
}
