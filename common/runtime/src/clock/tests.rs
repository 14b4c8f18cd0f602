use std::sync::Arc;
use std::time::Duration;

use credence_identity::Timestamp;
use tokio::time::{Instant, timeout};

use super::{Clock, ManualClock, StepWatch, SystemClock, sleep_until};
use crate::supervisor::Supervisor;

const HOUR: Duration = Duration::from_secs(3600);
const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

#[tokio::test(start_paused = true)]
async fn manual_clock_follows_tokio_time_and_steps() {
    let clock = ManualClock::new(START);
    tokio::time::advance(Duration::from_millis(1_500)).await;
    assert_eq!(clock.now().unix_millis(), START.unix_millis() + 1_500);
    clock.step_back(HOUR);
    assert_eq!(clock.now().unix_millis(), START.unix_millis() + 1_500 - 3_600_000);
    clock.step_forward(HOUR);
    assert_eq!(clock.now().unix_millis(), START.unix_millis() + 1_500);
}

#[test]
fn system_clock_is_in_this_century() {
    assert!(SystemClock.now() > START);
}

struct Bench {
    clock: Arc<ManualClock>,
    steps: StepWatch,
    _supervisor: Supervisor,
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new(START));
    let supervisor = Supervisor::new();
    let steps = StepWatch::spawn(clock.clone(), &supervisor);
    Bench {
        clock,
        steps,
        _supervisor: supervisor,
    }
}

async fn slept(bench: &Bench, deadline: Timestamp, step: impl FnOnce(&ManualClock)) -> Duration {
    let began = Instant::now();
    let clock = bench.clock.clone();
    let mut steps = bench.steps.subscribe();
    let sleeping = sleep_until(&*clock, &mut steps, deadline);
    tokio::pin!(sleeping);
    assert!(
        timeout(Duration::from_secs(10), &mut sleeping).await.is_err(),
        "woke before the step"
    );
    step(&bench.clock);
    sleeping.await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn wakes_at_the_deadline() {
    let bench = bench();
    let took = slept(&bench, START + HOUR, |_| ()).await;
    assert!(took >= HOUR && took < HOUR + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn forward_step_past_the_deadline_wakes_within_a_second() {
    let bench = bench();
    let took = slept(&bench, START + HOUR, |clock| clock.step_forward(HOUR)).await;
    assert!(took <= Duration::from_millis(11_500), "{took:?}");
    assert!(bench.clock.now() >= START + HOUR);
}

#[tokio::test(start_paused = true)]
async fn forward_step_short_of_the_deadline_shortens_the_wait() {
    let bench = bench();
    let took = slept(&bench, START + HOUR, |clock| clock.step_forward(HOUR / 2)).await;
    assert!(
        took >= HOUR / 2 && took < HOUR / 2 + Duration::from_secs(2),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn backward_step_does_not_prolong_the_wait() {
    let bench = bench();
    let took = slept(&bench, START + HOUR, |clock| clock.step_back(HOUR)).await;
    assert!(took >= HOUR && took < HOUR + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn ordinary_time_is_no_step() {
    let bench = bench();
    tokio::time::sleep(HOUR).await;
    assert_eq!(*bench.steps.subscribe().borrow(), 0);
    bench.clock.step_back(Duration::from_secs(3));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*bench.steps.subscribe().borrow(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_all_time_waits() {
    let clock = ManualClock::new(START);
    let mut steps = StepWatch::never().subscribe();
    let far = Timestamp::from_unix_millis(i64::MAX);
    assert!(timeout(HOUR, sleep_until(&clock, &mut steps, far)).await.is_err());
    sleep_until(&clock, &mut steps, START).await;
}
