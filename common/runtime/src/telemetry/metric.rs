//! What a metric is, to each way out: what becomes of its values, and how its name is written.

/// What is done with the values of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// They are added.
    Counter,
    /// The last one counts.
    Gauge,
    /// Their quantiles are shown.
    Sample,
}

/// The name in the forms of the ways out.
pub(super) struct Texts {
    /// The labels' values are further words.
    pub(super) flat: String,
    /// The words alone.
    pub(super) bare: String,
    /// `|#name:value,…`
    pub(super) tags: String,
}

impl Texts {
    /// As go-metrics writes them: neither colons nor spaces.
    pub(super) fn of(name: &str, labels: &[(String, String)]) -> Self {
        let bare = name.replace([':', ' '], "_");
        let mut flat = bare.clone();
        let mut tags = String::new();
        for (name, value) in labels {
            let (name, value) = (name.replace([':', ' '], "_"), value.replace([':', ' '], "_"));
            flat.push('.');
            flat.push_str(&value);
            tags.push_str(if tags.is_empty() { "|#" } else { "," });
            tags.push_str(&name);
            if !value.is_empty() {
                tags.push(':');
                tags.push_str(&value);
            }
        }
        Self { flat, bare, tags }
    }
}
