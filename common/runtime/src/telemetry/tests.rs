use super::*;

#[test]
fn what_is_not_configured_does_nothing() {
    let telemetry = Telemetry::default();
    telemetry.count("a", 1);
    telemetry.call("b").end(&Ok::<(), ()>(()));
    assert_eq!(telemetry.measure("c", || Err::<(), _>(1)), Err(1));
    assert!(!telemetry.is_on());
}
