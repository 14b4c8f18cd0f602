use std::collections::VecDeque;
use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use credence_crypto::x509::Certificate;
use credence_runtime::clock::ManualClock;

use super::*;
use crate::cache::testing::{START, authority, entry, svid};
use crate::files::batch::Named;
use crate::files::job::{Choice, HookSettings, X509Files};
use crate::files::owner::Owner;
use crate::files::source::Token;
use crate::files::target::Target;

/// A source that says what a test sends, and hands out numbered tokens of an hour.
struct Said {
    events: tokio::sync::Mutex<mpsc::Receiver<Event>>,
    clock: Arc<dyn Clock>,
    tokens: Arc<AtomicUsize>,
    refusals: Mutex<VecDeque<SourceError>>,
}

impl Source for Said {
    async fn watch(&self, _: Wants, sender: mpsc::Sender<Event>) -> SourceError {
        let mut events = self.events.lock().await;
        while let Some(event) = events.recv().await {
            sender.send(event).await.unwrap();
        }
        pending().await
    }

    async fn token(&self, audience: &[String]) -> Result<Token, SourceError> {
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        Ok(Token {
            text: Zeroizing::new(format!("{}-{number}", audience.join(","))),
            expires_at: self.clock.now() + Duration::from_secs(3600),
        })
    }
}

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    events: mpsc::Sender<Event>,
    tokens: Arc<AtomicUsize>,
    status: Status,
    keeper: Option<Keeper<Said>>,
}

fn named(name: &str) -> Named {
    Named {
        name: name.into(),
        mode: 0o600,
    }
}

impl Bench {
    fn new(with_x509: bool, refusals: Vec<SourceError>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let x509 = X509Files {
            pair: None,
            bundle: None,
            combined: Some(named("all.pem")),
            stores: Vec::new(),
            intermediates_in_bundle: false,
            federated: false,
            omit_expired: false,
        };
        let job = Job {
            name: "test".to_owned(),
            choice: Choice::default(),
            target: Target {
                folder: folder.path().join("target"),
                owner: Owner::this_process(),
                guarded: false,
            },
            x509: with_x509.then_some(x509),
            jwt_bundle: None,
            tokens: vec![TokenFile {
                file: named("token"),
                audience: vec!["a".to_owned(), "b".to_owned()],
            }],
            hooks: HookSettings::default(),
        };
        let (events, receiver) = mpsc::channel(4);
        let tokens = Arc::new(AtomicUsize::new(0));
        let source = Said {
            events: tokio::sync::Mutex::new(receiver),
            clock: clock.clone(),
            tokens: tokens.clone(),
            refusals: Mutex::new(refusals.into()),
        };
        let status = Status::of(&job);
        let keeper = Keeper::new(job, source, clock.clone(), status.clone(), false);
        Self {
            folder,
            clock,
            events,
            tokens,
            status,
            keeper: Some(keeper),
        }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// Runs the keeper while `test` looks at what it does.
    async fn while_kept(&mut self, test: impl AsyncFnOnce(&Self)) {
        let keeper = self.keeper.take().unwrap();
        tokio::select! {
            ended = keeper.run(Mode::Daemon) => panic!("{ended:?}"),
            () = test(self) => {}
        }
    }

    async fn say(&self, material: &Material) {
        let event = Event::X509(Box::new(material.clone()));
        self.events.send(event).await.unwrap();
    }

    /// Waits until the file holds this, and returns how long that took.
    async fn until(&self, name: &str, expected: &str) -> Duration {
        let (began, path) = (Instant::now(), self.target().join(name));
        while !fs::read_to_string(&path).unwrap_or_default().contains(expected) {
            assert!(
                began.elapsed() < Duration::from_secs(36_000),
                "{name} never held {expected}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        began.elapsed()
    }
}

fn material() -> Material {
    let key = svid(&entry("web"), START, Duration::from_secs(3600));
    let authority = Certificate::from_der(&authority()).unwrap();
    Material::new(Arc::new(key), vec![authority], BTreeMap::new()).unwrap()
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_when_half_of_its_time_is_over() {
    let mut bench = Bench::new(false, Vec::new());
    fs::create_dir(bench.target()).unwrap();
    bench
        .while_kept(async |bench| {
            bench.until("token", "a,b-0").await;
            assert!(bench.status.is_ready());
            let took = bench.until("token", "a,b-1").await.as_secs();
            assert!((1795..=1805).contains(&took), "{took}");
            // Whatever may have made it useless has another one fetched at once.
            bench
                .events
                .send(Event::JwtBundles(BTreeMap::new()))
                .await
                .unwrap();
            let took = bench.until("token", "a,b-2").await;
            assert!(took < Duration::from_secs(5), "{took:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_asked_for_again() {
    let refusal = || SourceError::Failed("the server is away".to_owned());
    let mut bench = Bench::new(false, vec![refusal(), refusal(), refusal()]);
    fs::create_dir(bench.target()).unwrap();
    bench
        .while_kept(async |bench| {
            let took = bench.until("token", "a,b-0").await.as_secs();
            assert!((3..=7).contains(&took), "{took}");
            assert_eq!(bench.tokens.load(Ordering::Relaxed), 1);
        })
        .await;
}

/// The newest is written as soon as it can be, and once.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_written_is_kept_and_reported() {
    let mut bench = Bench::new(true, Vec::new());
    bench
        .while_kept(async |bench| {
            bench.say(&material()).await;
            let (newest, began) = (material(), Instant::now());
            bench.say(&newest).await;
            while bench.status.is_live() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(!bench.status.is_ready());
            assert!(
                bench
                    .status
                    .fault()
                    .unwrap()
                    .contains("no such file or directory")
            );
            tokio::time::sleep(Duration::from_secs(600)).await;
            fs::create_dir(bench.target()).unwrap();
            let pem = credence_crypto::bundle::private_key_to_pem(newest.svid.key.pkcs8_der());
            bench.until("all.pem", &pem).await;
            bench.until("token", "a,b-").await;
            assert!(
                began.elapsed() < Duration::from_secs(670),
                "{:?}",
                began.elapsed()
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(bench.status.is_live() && bench.status.is_ready());
            let written = inode(&bench.target().join("all.pem"));
            bench.say(&newest).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(inode(&bench.target().join("all.pem")), written, "nothing was new");
            bench.say(&material()).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_ne!(inode(&bench.target().join("all.pem")), written);
        })
        .await;
    let _clock = &bench.clock;
}

#[tokio::test(start_paused = true)]
async fn written_once_means_all_or_an_error() {
    let mut bench = Bench::new(true, Vec::new());
    bench.say(&material()).await;
    let error = bench.keeper.take().unwrap().run(Mode::Once).await.unwrap_err();
    assert!(matches!(error, KeepError::Write(_)), "{error}");
    let mut bench = Bench::new(true, vec![SourceError::NoIdentity("not yet".to_owned())]);
    fs::create_dir(bench.target()).unwrap();
    bench.say(&material()).await;
    let ended = bench.keeper.take().unwrap().run(Mode::Once).await.unwrap();
    assert!(matches!(ended, Ended::Written));
    assert!(bench.target().join("token").exists() && bench.target().join("all.pem").exists());
}
