//! Explanations on the wire and on the screen: one form for server, agent and command line.
//!
//! Decides nothing: what is wrong was found by whoever explained.

use std::io::{self, Write};

use credence_identity::diagnosis::{Candidate, Explanation};
use credence_proto::credence::explain::v1 as pb;

use crate::{CommandError, Console, Format, json};

/// Exit status where a fault was named.
pub const FAULT: u8 = 1;

/// The explanation as a message.
pub fn to_proto(explanation: Explanation) -> pb::Explanation {
    pb::Explanation {
        subject: explanation.subject,
        all_well: if explanation.findings.is_empty() {
            explanation.all_well
        } else {
            String::new()
        },
        findings: explanation
            .findings
            .into_iter()
            .map(|finding| pb::Finding {
                cause: finding.cause.to_owned(),
                text: finding.text,
                fix: finding.fix,
            })
            .collect(),
        facts: explanation
            .facts
            .into_iter()
            .map(|fact| pb::Fact {
                name: fact.name.to_owned(),
                values: fact.values,
            })
            .collect(),
        candidates: explanation.candidates.iter().map(candidate).collect(),
    }
}

fn candidate(candidate: &Candidate) -> pb::Candidate {
    let texts =
        |selectors: &[credence_identity::Selector]| selectors.iter().map(ToString::to_string).collect();
    pb::Candidate {
        entry_id: candidate.id.to_string(),
        spiffe_id: candidate.spiffe_id.to_string(),
        parent_id: candidate.parent_id.to_string(),
        selectors: texts(&candidate.selectors),
        missing: texts(&candidate.missing),
        standing: candidate.standing.clone(),
    }
}

/// Writes it and returns the exit status: 0 where nothing is wrong, [`FAULT`] where something is.
///
/// # Errors
/// If it can't be written.
pub fn print(
    explanation: &pb::Explanation,
    format: Format,
    console: &mut Console<'_>,
) -> Result<u8, CommandError> {
    match format {
        Format::Pretty => pretty(explanation, console.out)?,
        data @ (Format::Json | Format::Yaml) => data.print(console.out, &[json::message(explanation)?])?,
    }
    Ok(if explanation.findings.is_empty() { 0 } else { FAULT })
}

fn pretty(explanation: &pb::Explanation, out: &mut dyn Write) -> io::Result<()> {
    for finding in &explanation.findings {
        writeln!(out, "Cause: {} [{}]", finding.text, finding.cause)?;
        writeln!(out, "Fix:   {}", finding.fix)?;
    }
    if explanation.findings.is_empty() {
        writeln!(out, "Nothing is wrong. {}", explanation.all_well)?;
    }
    writeln!(out, "\n{}", explanation.subject)?;
    for fact in &explanation.facts {
        let mut name = fact.name.as_str();
        for value in &fact.values {
            writeln!(out, "  {name:<28}: {value}")?;
            name = "";
        }
    }
    if !explanation.candidates.is_empty() {
        writeln!(out, "\nEntries, the nearest first")?;
    }
    for candidate in &explanation.candidates {
        writeln!(
            out,
            "  {} gives {} below {}",
            candidate.entry_id, candidate.spiffe_id, candidate.parent_id
        )?;
        for selector in &candidate.selectors {
            let mark = if candidate.missing.contains(selector) {
                "missing"
            } else {
                ""
            };
            writeln!(out, "    {mark:<8}{selector}")?;
        }
        if !candidate.standing.is_empty() {
            writeln!(out, "    -> {}", candidate.standing)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_and_text(explanation: &pb::Explanation, format: Format) -> (u8, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut io::empty(),
            out: &mut out,
            err: &mut err,
            terminal: None,
        };
        let status = print(explanation, format, &mut console).unwrap();
        (status, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_cause_and_the_fix_come_first_and_make_the_status() {
        let mut explanation = pb::Explanation {
            subject: "process 7".into(),
            all_well: "It has an identity.".into(),
            ..Default::default()
        };
        let (status, text) = status_and_text(&explanation, Format::Pretty);
        assert_eq!(
            (status, text.as_str()),
            (0, "Nothing is wrong. It has an identity.\n\nprocess 7\n")
        );
        explanation.findings.push(pb::Finding {
            cause: "no-process".into(),
            text: "there is no process 7".into(),
            fix: "name another".into(),
        });
        let (status, text) = status_and_text(&explanation, Format::Pretty);
        assert_eq!(status, FAULT);
        assert!(
            text.starts_with("Cause: there is no process 7 [no-process]\nFix:   name another\n"),
            "{text}"
        );
        let (_, text) = status_and_text(&explanation, Format::Json);
        assert!(text.contains("\"cause\":\"no-process\""), "{text}");
    }
}
