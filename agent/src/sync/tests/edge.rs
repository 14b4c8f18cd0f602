//! What a server of another make, or a broken one, may answer.

use std::collections::BTreeMap;

use credence_identity::EntryId;
use credence_proto::credence::sync::v1 as push_pb;
use credence_proto::credence::sync::v1::subscribe_response::{Event, Unchanged};
use credence_proto::spire::api::server::entry::v1::{EntryRevision, SyncAuthorizedEntriesResponse};
use credence_proto::spire::api::types;
use credence_runtime::clock::ManualClock;
use tokio::time::{Instant, advance};
use tonic::Status;

use super::fake::{Answers, Script, connect, message, trust};
use super::*;
use crate::cache::testing::{bundle, entry};
use crate::cache::{CacheUpdate, EntryVersion};
use crate::sync::server::{CallError, PushEvent};

type Page = SyncAuthorizedEntriesResponse;

fn whole(entries: Vec<types::Entry>) -> Page {
    Page {
        entries,
        ..Page::default()
    }
}

fn revision(id: &str, revision_number: i64) -> EntryRevision {
    EntryRevision {
        id: id.to_owned(),
        revision_number,
        created_at: START.unix_seconds(),
    }
}

fn revisions(entry_revisions: Vec<EntryRevision>, more: bool) -> Page {
    Page {
        entry_revisions,
        more,
        ..Page::default()
    }
}

/// What an exchange by this script yields for an agent that holds `a` and `b`, and the ids that it asked for.
async fn exchange(answers: Vec<Answers<Page>>) -> (Result<CacheUpdate, CallError>, Vec<Vec<String>>) {
    let script = Arc::new(Script {
        entries: std::sync::Mutex::new(answers.into()),
        ..Script::default()
    });
    let supervisor = Supervisor::new();
    let (server, _refused) = connect(&script, &supervisor);
    let held = ["a", "b"].map(|id| (entry(id).id, EntryVersion::of(&entry(id))));
    let outcome = server.sync_entries(BTreeMap::from(held)).await;
    let asked = script
        .entries_asked
        .lock()
        .unwrap()
        .iter()
        .skip(1)
        .map(|asked| asked.ids.clone())
        .collect();
    supervisor.shutdown();
    (outcome, asked)
}

fn ids<'a>(ids: impl IntoIterator<Item = &'a EntryId>) -> Vec<&'a str> {
    ids.into_iter().map(EntryId::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn a_small_set_comes_whole_and_what_is_not_in_it_goes() {
    let (update, asked) = exchange(vec![vec![Ok(whole(vec![message("a", 0), message("c", 0)]))]]).await;
    let update = update.unwrap();
    assert_eq!(
        ids(update.entries.iter().map(|entry| &entry.id)),
        ["c"],
        "a is held as it is"
    );
    assert_eq!(ids(&update.removed_entries), ["b"]);
    assert!(asked.is_empty());
    let (update, _) = exchange(vec![vec![Ok(whole(Vec::new()))]]).await;
    assert_eq!(ids(&update.unwrap().removed_entries), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_large_set_comes_as_revisions_of_which_the_lacking_are_asked_for() {
    let first = vec![
        Ok(revisions(vec![revision("z", 0), revision("a", 0)], true)),
        Ok(revisions(vec![revision("b", 1), revision("c", 0)], true)),
        Ok(revisions(vec![revision("bad id", 0), revision("d", -1)], false)),
    ];
    let part = |id, more| {
        Ok(Page {
            entries: vec![message(id, 1)],
            more,
            ..Page::default()
        })
    };
    // The bodies of one question come in two parts, and the other's entry is gone meanwhile.
    let (update, asked) = exchange(vec![
        first,
        vec![part("b", true), part("c", false)],
        vec![Ok(whole(Vec::new()))],
    ])
    .await;
    let update = update.unwrap();
    assert_eq!(
        asked,
        [vec!["b", "c"], vec!["z"]],
        "sorted, in pages of the first one's size"
    );
    assert_eq!(ids(update.entries.iter().map(|entry| &entry.id)), ["b", "c"]);
    assert!(update.removed_entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_say_when_an_entry_was_created_is_taken_at_its_revision() {
    let old = |id, number| EntryRevision {
        created_at: 0,
        ..revision(id, number)
    };
    let (update, asked) = exchange(vec![vec![Ok(revisions(vec![old("a", 0), old("b", 0)], false))]]).await;
    assert_eq!((update.unwrap(), asked.len()), (CacheUpdate::default(), 0));
}

#[tokio::test(start_paused = true)]
async fn answers_that_mix_both_forms_or_end_too_early_change_nothing() {
    let mixed = Page {
        entries: vec![message("a", 0)],
        ..revisions(vec![revision("a", 0)], false)
    };
    let pages = vec![Ok(revisions(vec![revision("c", 0)], false))];
    for (what, answers) in [
        ("entries among revisions", vec![vec![Ok(mixed.clone())]]),
        ("revisions among entries", vec![pages.clone(), vec![Ok(mixed)]]),
        (
            "no page after more",
            vec![vec![Ok(revisions(vec![revision("a", 0)], true))]],
        ),
        ("no bodies", vec![pages, vec![Err(Status::unavailable("gone"))]]),
        ("nothing", vec![vec![]]),
    ] {
        let outcome = timeout(PATIENCE, exchange(answers)).await.expect("in time").0;
        assert!(outcome.is_err(), "{what}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_is_left_out_alone() {
    let bad = types::Entry {
        spiffe_id: None,
        ..message("a", 1)
    };
    let (update, _) = exchange(vec![vec![Ok(whole(vec![bad, message("b", 1)]))]]).await;
    let update = update.unwrap();
    assert_eq!(ids(update.entries.iter().map(|entry| &entry.id)), ["b"]);
    assert_eq!(ids(&update.removed_entries), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_counts_as_dead_after_two_missed_heartbeats() {
    let unchanged = push_pb::SubscribeResponse {
        revision: 1,
        event: Some(Event::Unchanged(Unchanged {})),
    };
    let script = Arc::new(Script {
        push: std::sync::Mutex::new(Some(vec![unchanged])),
        ..Script::default()
    });
    let supervisor = Supervisor::new();
    let (server, _refused) = connect(&script, &supervisor);
    let mut stream = server.subscribe(Vec::new()).await.unwrap();
    assert!(matches!(stream.next().await, Ok(Some(PushEvent::Unchanged))));
    let silent_since = Instant::now();
    stream.next().await.unwrap_err();
    assert!((30..40).contains(&silent_since.elapsed().as_secs()));
    supervisor.shutdown();
}

struct Parts {
    script: Arc<Script>,
    server: Server,
    cache: Cache,
    clock: Arc<ManualClock>,
    supervisor: Supervisor,
    _refused: mpsc::Receiver<Refused>,
}

fn parts(script: Script) -> Parts {
    let (script, supervisor) = (Arc::new(script), Supervisor::new());
    let (server, refused) = connect(&script, &supervisor);
    let clock = Arc::new(ManualClock::new(START));
    let issuer = Arc::new(ServerTokenIssuer {
        server: server.clone(),
        key_type: KeyType::EcP256,
    });
    let cache = Cache::new(clock.clone(), bundle(), CacheLimits::default(), issuer);
    Parts {
        script,
        server,
        cache,
        clock,
        supervisor,
        _refused: refused,
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_push_is_polled_and_asked_again_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let polls = (0..200).map(|_| vec![Ok(whole(vec![message("a", 0)]))]).collect();
    let parts = parts(Script {
        entries: std::sync::Mutex::new(polls),
        ..Script::default()
    });
    let synchroniser = Synchroniser {
        server: parts.server.clone(),
        svid: watch::channel(Arc::new(crate::cache::testing::svid(
            &entry("x"),
            START,
            PATIENCE,
        )))
        .1,
        cache: parts.cache.clone(),
        trust: trust(folder.path(), parts.clock.clone()),
        bundle: watch::channel(bundle()).0,
        in_step: watch::channel(0).0,
        last_sync: watch::channel(None).0,
        clock: Arc::new(ManualClock::new(START)),
        interval: Duration::from_secs(5),
        whole_sets: false,
        version: "1.2.3",
        signing: watch::channel(Signing::default()).1,
        journal: Journal::new(parts.clock.clone()),
    };
    parts
        .supervisor
        .spawn("synchroniser", async move { synchroniser.run().await.map(drop) });
    tokio::time::sleep(Duration::from_secs(61)).await;
    let polls = *parts.script.polls.lock().unwrap();
    assert!((10..=15).contains(&polls), "{polls} polls in a minute");
    assert_eq!(parts.cache.entry_count(), 1);
    assert_eq!(*parts.script.pushes_asked.lock().unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(250)).await;
    assert_eq!(*parts.script.pushes_asked.lock().unwrap(), 2);
    parts.supervisor.shutdown();
}

#[tokio::test(start_paused = true)]
async fn batches_shrink_until_the_server_takes_them_and_one_refused_holds_up_no_other() {
    let parts = parts(Script {
        largest_batch: 100,
        refused_entry: Some("e007"),
        ..Script::default()
    });
    let issuing = Issuing {
        server: parts.server.clone(),
        cache: parts.cache.clone(),
        key_type: KeyType::EcP256,
        steps: watch::channel(0).1,
        in_step: watch::channel(0).1,
        signing: watch::channel(Signing::default()).0,
        journal: Journal::new(parts.clock.clone()),
    };
    let entries = (0..300).map(|n| Arc::new(entry(&format!("e{n:03}")))).collect();
    parts.cache.apply(CacheUpdate {
        entries,
        ..CacheUpdate::default()
    });
    parts.supervisor.spawn("issuing", issuing.run());
    let mut subscription = parts.cache.subscribe(caller(1));
    let signed = async {
        while subscription.update().identities.len() < 299 {
            subscription.changed().await;
        }
    };
    timeout(PATIENCE, signed).await.expect("in time");
    let batches = std::mem::take(&mut *parts.script.batches.lock().unwrap());
    assert_eq!(batches[..4], [300, 250, 125, 62], "halved until it was taken");
    assert!(subscription.update().is_pending(), "the refused one");

    let asked_before = batches.len();
    advance(Duration::from_secs(120)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let again = parts.script.batches.lock().unwrap().clone();
    assert!(
        asked_before < 20 && !again.is_empty() && again.iter().all(|size| *size == 1),
        "{batches:?} {again:?}"
    );
    assert!(again.len() < 12, "not without a pause: {again:?}");
    assert!(parts.clock.now() > START);
    parts.supervisor.shutdown();
}
