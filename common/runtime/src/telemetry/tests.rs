use super::*;

#[test]
fn what_is_not_configured_does_nothing() {
    let telemetry = Telemetry::default();
    telemetry.count("a", 1);
    telemetry.call("b").end(&Ok::<(), ()>(()));
    assert_eq!(telemetry.measure("c", || Err::<(), _>(1)), Err(1));
    assert!(!telemetry.is_on());
}

mod sinks {
    use std::io;
    use std::time::Duration;

    use credence_identity::TrustDomain;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use crate::clock::{Clock, SystemClock};
    use crate::config::{Selection, TelemetryConfig};
    use crate::log::{LogOptions, layer_writing_to};
    use crate::supervisor::Supervisor;
    use crate::telemetry::{Subject, Telemetry};
    use crate::tls::KeyExchange;
    use std::sync::Arc;

    async fn received(socket: &UdpSocket) -> String {
        let mut packet = [0; 2048];
        let length = timeout(Duration::from_secs(10), socket.recv(&mut packet)).await;
        let length = length.expect("in time").unwrap();
        String::from_utf8(packet[..length].to_vec()).unwrap()
    }

    /// Real packets, of both dialects, from one measurement; what is blocked isn't sent.
    #[tokio::test]
    async fn each_measurement_is_sent_to_every_server() {
        let (statsd, dogstatsd) = (
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        );
        let config = TelemetryConfig {
            statsd: vec![statsd.local_addr().unwrap().to_string()],
            dogstatsd: vec![dogstatsd.local_addr().unwrap().to_string()],
            selection: Selection {
                trust_domain_label: true,
                hostname_label: false,
                // What the process says of itself would come between.
                blocked_prefixes: vec!["spire_server".to_owned()],
                allowed_prefixes: vec!["spire_server.rpc".to_owned()],
                ..Selection::default()
            },
            ..TelemetryConfig::default()
        };
        let (_, log) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
        let supervisor = Supervisor::new();
        let subject = Subject {
            service: "spire_server",
            version: "1",
            trust_domain: &TrustDomain::parse("example.org").unwrap(),
            key_exchange: KeyExchange::Any,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (telemetry, _) = Telemetry::start(&config, subject, &clock, &log, &supervisor)
            .await
            .unwrap();
        telemetry.count("secret", 1);
        telemetry.count_with("rpc.svid.v1.svid.new_jwtsvid", 2, &[("status", "OK")]);
        telemetry.gauge("rpc.level", 1.5);
        assert_eq!(
            received(&statsd).await,
            "spire_server.rpc.svid.v1.svid.new_jwtsvid.OK.example_org:2.000000|c\n\
             spire_server.rpc.level.example_org:1.500000|g\n"
        );
        assert_eq!(
            received(&dogstatsd).await,
            "spire_server.rpc.svid.v1.svid.new_jwtsvid:2|c|#status:OK,trust_domain:example_org\n\
             spire_server.rpc.level:1.5|g|#trust_domain:example_org\n"
        );
        supervisor.shutdown();
        supervisor.wait().await.unwrap();
    }
}
