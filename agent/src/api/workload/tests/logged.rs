//! What stands in the log of a call: scripts wait for these words.

use credence_runtime::log::{LogOptions, layer_writing_to};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

#[tokio::test(start_paused = true)]
async fn lines_have_spires_words_and_fields() {
    let sink = Sink::default();
    let options = LogOptions {
        level: "debug".parse().unwrap(),
        ..LogOptions::default()
    };
    let (layer, _handle) = layer_writing_to(&options, Box::new(sink.clone()));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let lab = Lab::new(Setup::default());
    let mut client = lab.client().await;
    let token = JwtsvidRequest {
        audience: vec!["a".into()],
        spiffe_id: String::new(),
    };
    client
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap_err();
    lab.put(own_entry("one"));
    lab.sign(own_entry("one"));
    client
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap();
    // The second comes from the cache and is logged all the same.
    let tokens = [(); 2].map(|()| token.clone());
    for token in tokens {
        client.fetch_jwtsvid(with_header(token)).await.unwrap();
    }

    let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let pid = std::process::id();
    let ours = "service=WorkloadAPI";
    let line = |level: &str, message: &str, method: &str, fields: &[&str]| {
        let wanted = [
            format!("level={level} msg=\"{message}\""),
            format!("method={method} pid={pid} "),
        ];
        let count = log.lines().filter(|line| {
            line.contains(ours)
                && wanted.iter().all(|part| line.contains(part))
                && fields.iter().all(|part| line.contains(part))
        });
        count.count()
    };
    let identity = [
        "registered=true",
        "spiffe_id=\"spiffe://example.org/one\"",
        "ttl=",
    ];
    assert_eq!(
        line(
            "error",
            "No identity issued",
            "FetchX509SVID",
            &["registered=false"]
        ),
        1,
        "{log}"
    );
    assert_eq!(
        line("debug", "Fetched X.509 SVID", "FetchX509SVID", &identity),
        1,
        "{log}"
    );
    assert_eq!(
        line("debug", "Fetched JWT SVID", "FetchJWTSVID", &identity),
        2,
        "{log}"
    );
    assert!(!log.contains("eyJ"), "no token is logged: {log}");
}
