use super::*;

const LIMIT: u32 = 10;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

async fn waited(limiter: &Limiter, ip: IpAddr, count: usize) -> Duration {
    let start = Instant::now();
    limiter.take(ip, count).await.unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_the_rest_waits() {
    let limiter = Limiter::new(LIMIT);
    assert_eq!(waited(&limiter, ip(1), 10).await, Duration::ZERO);
    let second = waited(&limiter, ip(1), 5).await;
    assert!((499..=502).contains(&second.as_millis()), "{second:?}");
    assert_eq!(
        waited(&limiter, ip(2), 10).await,
        Duration::ZERO,
        "another source has its own bucket"
    );
}

#[tokio::test(start_paused = true)]
async fn more_than_the_burst_is_refused_at_once_and_takes_nothing() {
    let limiter = Limiter::new(LIMIT);
    let refused = limiter.take(ip(1), 11).await.unwrap_err();
    assert_eq!(refused.to_string(), "rate (11) exceeds burst size (10)");
    assert_eq!(waited(&limiter, ip(1), 10).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_gives_its_tokens_back() {
    let limiter = Limiter::new(LIMIT);
    limiter.take(ip(1), 10).await.unwrap();
    let abandoned = tokio::time::timeout(Duration::from_millis(1), limiter.take(ip(1), 10)).await;
    assert!(abandoned.is_err());
    let next = waited(&limiter, ip(1), 1).await;
    assert!(next <= Duration::from_millis(101), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unused_bucket_is_dropped_after_a_minute() {
    let limiter = Limiter::new(LIMIT);
    limiter.take(ip(1), 1).await.unwrap();
    tokio::time::advance(UNUSED).await;
    limiter.take(ip(2), 1).await.unwrap();
    assert_eq!(limiter.state.lock().unwrap().full_at.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn local_callers_and_switched_off_limits_never_wait() {
    let local = Caller::Local {
        uid: 0,
        gid: 0,
        pid: None,
    };
    let remote = Caller::Anonymous {
        address: (ip(1), 1).into(),
    };
    let limits = Limits::new(true, false);
    limits.take(Bucket::Attest, &local, 100).await.unwrap();
    limits.take(Bucket::Csr, &remote, 5_000).await.unwrap();
    let refused = limits.take(Bucket::Status, &remote, 11).await;
    assert_eq!(refused, Err(LimitError::ExceedsBurst { asked: 11, burst: 10 }));
}
