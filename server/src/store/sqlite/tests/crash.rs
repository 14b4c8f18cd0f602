//! `kill -9` of a process that commits all the time: this test binary, started again as the victim.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

const FOLDER: &str = "CREDENCE_TEST_CRASH_FOLDER";
const ROUNDS: u64 = 10;

#[tokio::test]
async fn what_was_acknowledged_survives_and_no_revision_repeats() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut victim = start(folder.path());
        // Killed between, before and after acknowledgements: at a different moment of its work each round.
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let lines = lines
            .map(Result::unwrap)
            .filter(|line| line.starts_with("acknowledged "));
        let mut seen = 0;
        for line in lines {
            let mut words = line.split(' ').skip(1);
            let (revision, id) = (
                words.next().unwrap().parse::<u64>().unwrap(),
                words.next().unwrap(),
            );
            let before = acknowledged.insert(revision, id.to_owned());
            assert_eq!(before, None, "revision {revision} was given out twice");
            seen += 1;
            if seen == 3 + 4 * round {
                victim.kill().unwrap();
            }
        }
        victim.wait().unwrap();
        assert!(
            seen >= 3 + 4 * round,
            "the victim died by itself in round {round}"
        );
        let mut store = open(&folder.path().join("db")).await.unwrap();
        let held = store.load().await.unwrap();
        let held: BTreeMap<_, _> = held
            .entries
            .iter()
            .map(|(row, e)| (row.0, e.id.to_string()))
            .collect();
        for (revision, id) in &acknowledged {
            assert_eq!(held.get(revision), Some(id), "acknowledged, then lost");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_creation_cut_short_at_any_moment_leaves_a_store_that_opens() {
    for round in 0..12 {
        let folder = TempDir::new().unwrap();
        let mut victim = start(folder.path());
        std::thread::sleep(Duration::from_millis(2 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let mut store = open(&folder.path().join("db")).await.unwrap();
        let held = store.load().await.unwrap();
        assert_eq!(held.entries.len() as u64, held.revision.0);
        store.close().await;
    }
}

fn start(folder: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "store::sqlite::tests::crash::victim",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: does nothing unless it was started by the one above.
#[tokio::test]
async fn victim() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mut store = open(&Path::new(&folder).join("db")).await.unwrap();
    let mut revision = store.load().await.unwrap().revision;
    // Ends by itself, should nobody kill it.
    for _ in 0..5_000 {
        let batch: Vec<_> = (0..7).map(|n| put(&format!("e-{}", revision.0 + n))).collect();
        let first = revision.0 + 1;
        revision = store.commit(revision, &batch, NOW).await.unwrap();
        let mut out = io::stdout().lock();
        for (n, change) in (first..).zip(&batch) {
            let Change::EntryPut(entry) = change else {
                unreachable!()
            };
            writeln!(out, "acknowledged {n} {}", entry.id).unwrap();
        }
        out.flush().unwrap();
    }
}
