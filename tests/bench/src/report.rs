//! The table that goes into the README.

use crate::raw::Raw;

/// Rows in the order they were measured.
#[derive(Debug)]
pub(crate) struct Report {
    raw: Raw,
    rows: Vec<[String; 3]>,
}

impl Report {
    pub(crate) fn new(raw: &Raw) -> Self {
        Self {
            raw: *raw,
            rows: Vec::new(),
        }
    }

    /// Adds a figure and says it at once: a long run shouldn't be silent.
    pub(crate) fn row(&mut self, figure: impl Into<String>, measured: String, goal: impl Into<String>) {
        let (figure, goal) = (figure.into(), goal.into());
        eprintln!("{figure}: {measured} (goal {goal})");
        self.rows.push([figure, measured, goal]);
    }

    /// A goal in microseconds that was set where raw verify + sign costs 72 µs, scaled to this machine.
    pub(crate) fn scaled(&self, micros: f64) -> String {
        format!("≤ {:.0} µs", micros * self.raw.verify_and_sign() / 72.0)
    }

    pub(crate) fn print(&self) {
        println!(
            "Raw P-256 in this run: verify {:.1} µs, sign {:.1} µs, together {:.1} µs (goals are scaled by it to 72 µs).\n",
            self.raw.verify,
            self.raw.sign,
            self.raw.verify_and_sign()
        );
        println!("| Figure | Measured | Goal |\n|---|---|---|");
        for [figure, measured, goal] in &self.rows {
            println!("| {figure} | {measured} | {goal} |");
        }
    }
}
