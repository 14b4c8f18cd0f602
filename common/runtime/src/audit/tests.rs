use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::clock::ManualClock;
use crate::log::layer_writing_to;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// A sink in memory that can be broken.
#[derive(Clone, Default)]
struct Paper {
    written: Arc<Mutex<Vec<u8>>>,
    /// Ends of lines in it. Whoever waits for them must not hold the lock that the writer needs.
    ends: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Paper {
    fn lines(&self) -> Vec<Value> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8(written.clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    async fn wait_for(&self, lines: usize) -> Vec<Value> {
        while self.ends.load(Ordering::SeqCst) < lines {
            tokio::task::yield_now().await;
        }
        self.lines()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("disk full"));
        }
        self.written.lock().unwrap().extend_from_slice(bytes);
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.ends.fetch_add(ends, Ordering::SeqCst);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_to(paper: &Paper, supervisor: &Supervisor) -> AuditLog {
    let options = LogOptions {
        format: Format::Json,
        ..LogOptions::default()
    };
    let (_, handle) = layer_writing_to(&options, Box::new(paper.clone()));
    AuditLog::writing_to(handle, Arc::new(ManualClock::new(NOW)), supervisor)
}

fn event(number: u64) -> AuditEvent {
    AuditEvent {
        time: NOW,
        message: "API accessed",
        fields: AuditFields::from([("number".to_owned(), number.into())]),
    }
}

#[tokio::test]
async fn events_come_out_in_order_also_those_that_wait_at_the_end() {
    let (paper, supervisor) = (Paper::default(), Supervisor::new());
    let log = log_to(&paper, &supervisor);
    for number in 0..1000 {
        log.record(event(number));
    }
    drop(log);
    supervisor.shutdown();
    supervisor.wait().await.unwrap();
    let lines = paper.lines();
    assert_eq!(lines.len(), 1000);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["number"], number);
        assert_eq!(
            (&line["type"], &line["msg"], &line["level"], &line["time"]),
            (
                &"audit".into(),
                &"API accessed".into(),
                &"info".into(),
                &"2023-11-14T22:13:20Z".into()
            )
        );
    }
}

#[tokio::test]
async fn a_sink_that_fails_stops_no_call_and_says_how_many_were_lost() {
    let (paper, supervisor) = (Paper::default(), Supervisor::new());
    let log = log_to(&paper, &supervisor);
    log.record(event(1));
    paper.wait_for(1).await;
    paper.broken.store(true, Ordering::SeqCst);
    for number in 2..5 {
        log.record(event(number));
    }
    while log.lost.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    paper.broken.store(false, Ordering::SeqCst);
    log.record(event(5));
    let lines = paper.wait_for(3).await;
    assert_eq!(
        (&lines[1]["msg"], &lines[1]["count"]),
        (&"Audit events lost".into(), &3.into())
    );
    assert_eq!(lines[2]["number"], 5);
    assert_eq!(log.lost.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn more_than_the_sink_takes_is_counted_and_nobody_waits() {
    let supervisor = Supervisor::new();
    let paper = Paper::default();
    // The writer can't run before this test yields.
    let log = log_to(&paper, &supervisor);
    for number in 0..u64::try_from(WAITING).unwrap() + 7 {
        log.record(event(number));
    }
    assert_eq!(log.lost.load(Ordering::Relaxed), 7);
    let lines = paper.wait_for(WAITING + 1).await;
    assert_eq!(
        (&lines[0]["msg"], &lines[0]["count"]),
        (&"Audit events lost".into(), &7.into())
    );
}

#[tokio::test]
async fn a_file_is_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.json");
    std::fs::write(&path, "{\"old\":1}\n").unwrap();
    let supervisor = Supervisor::new();
    let (_, program) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
    let to = AuditSink::File(path.clone());
    let log = AuditLog::start(&to, &program, Arc::new(ManualClock::new(NOW)), &supervisor).unwrap();
    log.record(event(1));
    drop(log);
    supervisor.shutdown();
    supervisor.wait().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    let to = AuditSink::File(dir.path().join("none/audit.json"));
    assert!(AuditLog::start(&to, &program, Arc::new(ManualClock::new(NOW)), &supervisor).is_err());
}
