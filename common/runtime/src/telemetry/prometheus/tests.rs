use super::*;
use crate::config::Selection;
use crate::telemetry::selection::Select;
use crate::telemetry::sinks::Sinks;

fn recorder(selection: &Selection) -> Recorder {
    let common = vec![("host".to_owned(), "node-1".to_owned())];
    Recorder::new(
        "spire_server",
        Select::new(selection),
        common,
        Sinks::default(),
        None,
    )
}

fn ours(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.contains("process_")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_page_has_spires_names_and_labels() {
    let recorder = recorder(&Selection::default());
    recorder.count("rpc.entry.v1.entry.list_entries", 2, &[("status", "OK")]);
    recorder.count("rpc.entry.v1.entry.list_entries", 1, &[("status", "Internal")]);
    recorder.gauge(
        "started",
        1.0,
        &[("version", "1.16.0-a"), ("trust_domain_id", "example.org")],
    );
    recorder.sample(
        "rpc.entry.v1.entry.list_entries.elapsed_time",
        2.5,
        &[("status", "OK")],
    );
    let page = page(&recorder);
    assert_eq!(
        ours(&page),
        [
            "# HELP spire_server_rpc_entry_v1_entry_list_entries Calls of this method.",
            "# TYPE spire_server_rpc_entry_v1_entry_list_entries counter",
            "spire_server_rpc_entry_v1_entry_list_entries{host=\"node-1\",status=\"Internal\"} 1",
            "spire_server_rpc_entry_v1_entry_list_entries{host=\"node-1\",status=\"OK\"} 2",
            "# HELP spire_server_rpc_entry_v1_entry_list_entries_elapsed_time How long the calls took, in milliseconds.",
            "# TYPE spire_server_rpc_entry_v1_entry_list_entries_elapsed_time summary",
            "spire_server_rpc_entry_v1_entry_list_entries_elapsed_time{host=\"node-1\",status=\"OK\",quantile=\"0.5\"} 2.48427367383269",
            "spire_server_rpc_entry_v1_entry_list_entries_elapsed_time{host=\"node-1\",status=\"OK\",quantile=\"0.9\"} 2.48427367383269",
            "spire_server_rpc_entry_v1_entry_list_entries_elapsed_time{host=\"node-1\",status=\"OK\",quantile=\"0.99\"} 2.48427367383269",
            "spire_server_rpc_entry_v1_entry_list_entries_elapsed_time_sum{host=\"node-1\",status=\"OK\"} 2.5",
            "spire_server_rpc_entry_v1_entry_list_entries_elapsed_time_count{host=\"node-1\",status=\"OK\"} 1",
            "# HELP spire_server_started Whether it has started; the labels say what it is.",
            "# TYPE spire_server_started gauge",
            "spire_server_started{host=\"node-1\",trust_domain_id=\"example_org\",version=\"1_16_0_a\"} 1",
        ]
    );
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(
            page.lines().any(|line| line.starts_with(&format!("{name} "))),
            "{name}"
        );
    }
}

/// Two series that differ only in a label that is left out are one, or Prometheus would refuse the page.
#[tokio::test(start_paused = true)]
async fn series_that_look_alike_are_one() {
    let recorder = recorder(&Selection {
        blocked_labels: vec!["status".to_owned(), "host".to_owned()],
        blocked_prefixes: vec!["spire_server.secret".to_owned()],
        ..Selection::default()
    });
    recorder.count("calls", 1, &[("status", "OK")]);
    recorder.count("calls", 1, &[("status", "Internal")]);
    recorder.count("secret.calls", 1, &[]);
    let page = page(&recorder);
    assert_eq!(ours(&page).last(), Some(&"spire_server_calls 2"));
    assert!(!page.contains("secret"));
}

#[test]
fn names_and_labels_never_break_the_page() {
    assert_eq!(metric_name("9 lives.a-b:c/é"), "_9_lives_a_b:c__");
    let labels = [("host".to_owned(), "a\"b\\c\nd".to_owned())];
    assert_eq!(label_text(&labels), "host=\"a\\\"b\\\\c\\nd\"");
    assert_eq!(number(f64::NAN), "NaN");
    assert_eq!(number(f64::INFINITY), "+Inf");
}

#[tokio::test(start_paused = true)]
async fn a_metric_has_a_bounded_number_of_series() {
    let recorder = recorder(&Selection::default());
    for number in 0..3_000 {
        recorder.count("calls", 1, &[("trust_domain_id", &number.to_string())]);
    }
    assert_eq!(
        page(&recorder)
            .lines()
            .filter(|line| line.starts_with("spire_server_calls{"))
            .count(),
        2_000
    );
}
