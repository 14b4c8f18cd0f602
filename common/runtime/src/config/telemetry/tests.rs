use super::*;
use crate::config::{Document, Report};

fn read(text: &str) -> Result<(TelemetryConfig, Vec<String>), Vec<String>> {
    let document = Document::parse("server.conf", text).unwrap();
    let report = Report::new();
    let root = document.root(&report);
    let config = telemetry(&root);
    root.finish(UnknownKeys::Fatal);
    let texts = |all: Vec<crate::config::Fault>| all.iter().map(ToString::to_string).collect();
    match report.finish("server.conf", Some(config)) {
        Ok((config, warnings)) => Ok((config, texts(warnings))),
        Err(faults) => Err(texts(faults)),
    }
}

#[test]
fn spires_example_is_read_whole() {
    let (config, warnings) = read(
        r#"telemetry {
            Prometheus { host = "0.0.0.0" port = 9988 }
            DogStatsd = [ { address = "localhost:8125" }, { address = "unix:///run/dd.sock" }, ]
            Statsd = [ { address = "localhost:1337" }, { address = "collector.example.org:8125" }, ]
            M3 = [ { address = "localhost:9000" env = "prod" }, ]
            InMem {}
            MetricPrefix = "mine"
            EnableTrustDomainLabel = true
            EnableHostnameLabel = false
            AllowedPrefixes = ["mine.rpc"]
            BlockedPrefixes = ["mine"]
            AllowedLabels = ["status"]
            BlockedLabels = ["host"]
        }"#,
    )
    .unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("server.conf:5:13: telemetry.M3: "),
        "{warnings:?}"
    );
    assert_eq!(
        config,
        TelemetryConfig {
            prometheus: Some(PrometheusConfig {
                host: "0.0.0.0".to_owned(),
                port: 9988,
                tls: None,
            }),
            statsd: vec![
                "localhost:1337".to_owned(),
                "collector.example.org:8125".to_owned()
            ],
            dogstatsd: vec!["localhost:8125".to_owned(), "unix:///run/dd.sock".to_owned()],
            in_memory: true,
            otlp: None,
            prefix: Some("mine".to_owned()),
            selection: Selection {
                trust_domain_label: true,
                hostname_label: false,
                allowed_prefixes: vec!["mine.rpc".to_owned()],
                blocked_prefixes: vec!["mine".to_owned()],
                allowed_labels: Some(vec!["status".to_owned()]),
                blocked_labels: vec!["host".to_owned()],
            },
        }
    );
}

#[test]
fn nothing_is_measured_by_default() {
    assert_eq!(read("").unwrap().0, TelemetryConfig::default());
    assert_eq!(read("telemetry {}").unwrap().0, TelemetryConfig::default());
    assert!(TelemetryConfig::default().selection.hostname_label);
    let (config, _) = read("telemetry { Prometheus {} }").unwrap();
    assert_eq!(config.prometheus.unwrap().host, "localhost");
}

#[test]
fn one_address_may_stand_without_a_list() {
    let (config, _) =
        read("telemetry {\n Statsd { address = \"a:1\" }\n Statsd { address = \"b:2\" }\n }").unwrap();
    assert_eq!(config.statsd, ["a:1", "b:2"]);
}

#[test]
fn opentelemetry_sends_everything_unless_told() {
    let (config, _) =
        read(r#"telemetry { OTLP { endpoint = "http://localhost:4317" logs = false } }"#).unwrap();
    let want = OtlpConfig {
        endpoint: "http://localhost:4317".to_owned(),
        authorities: None,
        metrics: true,
        traces: true,
        logs: false,
    };
    assert_eq!(config.otlp, Some(want));
    let otlp = |inner| read(&format!("telemetry {{ OTLP {{\n{inner}\n}} }}"));
    let (config, _) = otlp("endpoint = \"https://c.test:4317\"\nca_file = \"ca.pem\"").unwrap();
    assert_eq!(config.otlp.unwrap().authorities, Some("ca.pem".into()));
    let faults = otlp("endpoint = \"http://c.test:4317\"\nca_file = \"ca.pem\"").unwrap_err();
    assert_eq!(faults.len(), 1);
}

#[test]
fn readers_and_certificates() {
    let tls = |inner: &str| {
        let text = format!("telemetry {{ Prometheus {{ tls {{\n{inner}\n}} }} }}");
        read(&text).map(|(config, _)| config.prometheus.unwrap())
    };
    let config = tls("use_spire_svid = true\nauthorized_spiffe_ids = [\"spiffe://td/prometheus\"]").unwrap();
    assert!(config.needs_identity());
    let readers = TlsReaders::Ids(vec![SpiffeId::parse("spiffe://td/prometheus").unwrap()]);
    let own = TlsCertificate::Svid;
    assert_eq!(config.tls, Some(PrometheusTls { own, readers }));
    let config = tls("cert_file = \"c\"\nkey_file = \"k\"\nclient_ca_file = \"a\"").unwrap();
    assert!(!config.needs_identity());
    for wrong in [
        "use_spire_svid = true\ncert_file = \"c\"",
        "cert_file = \"c\"",
        "",
        "cert_file = \"c\"\nkey_file = \"k\"\nclient_ca_file = \"a\"\nauthorized_spiffe_ids = [\"spiffe://td/a\"]",
        "use_spire_svid = true\nauthorized_spiffe_ids = [\"nonsense\"]",
    ] {
        assert_eq!(tls(wrong).unwrap_err().len(), 1, "{wrong}");
    }
}

#[test]
fn all_faults_show_with_their_places() {
    let faults = read(
        "telemetry {\n Prometheus {\n port = \"many\"\n hots = \"a\"\n }\n Statsd = [ { address = \"nowhere\" } ]\n \
         OTLP {\n endpoint = \"ftp://x\"\n }\n DogStatsd = \"x\"\n Allowed = []\n}",
    )
    .unwrap_err();
    let starts = [
        "server.conf:3:9: telemetry.Prometheus.port: expected a whole number",
        "server.conf:4:2: unknown key \"hots\" in telemetry.Prometheus; did you mean \"host\"?",
        "server.conf:6:15: telemetry.Statsd.address: \"nowhere\" is no address",
        "server.conf:8:2: telemetry.OTLP.endpoint: \"ftp://x\" is no address",
        "server.conf:10:14: telemetry.DogStatsd: expected a block",
        "server.conf:11:2: unknown key \"Allowed\" in telemetry",
    ];
    for start in starts {
        assert!(
            faults.iter().any(|fault| fault.starts_with(start)),
            "{start}: {faults:#?}"
        );
    }
    assert_eq!(faults.len(), starts.len(), "{faults:#?}");
}
