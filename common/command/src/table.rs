//! Lists as tables, for terminals. Scripts never see one: what isn't a terminal gets SPIRE's text.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};

/// Writes rows under headings, at most `width` columns wide; long cells are wrapped. Columns without a word are left out.
pub fn print(out: &mut dyn Write, width: u16, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let told: Vec<bool> = (0..headings.len())
        .map(|column| {
            rows.iter()
                .any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()))
        })
        .collect();
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(kept(headings.iter().map(ToString::to_string), &told));
    for row in rows {
        table.add_row(kept(row.iter().cloned(), &told));
    }
    for line in table.lines() {
        // The table begins with the padding of its first column.
        writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
    }
    Ok(())
}

fn kept(cells: impl Iterator<Item = String>, told: &[bool]) -> Vec<String> {
    let cells = cells.zip(told).filter(|(_, told)| **told);
    // No terminal should obey what stands in an entry.
    cells
        .map(|(cell, _)| cell.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(width: u16, rows: &[[&str; 3]]) -> String {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(ToString::to_string).collect())
            .collect();
        let mut out = Vec::new();
        print(&mut out, width, &["ID", "HINT", "SELECTORS"], &rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_stand_under_their_headings() {
        assert_eq!(
            text(80, &[["a", "", "unix:uid:1\nunix:gid:1"], ["long", "", "x:y"]]),
            "ID    SELECTORS\na     unix:uid:1\n      unix:gid:1\nlong  x:y\n"
        );
    }

    #[test]
    fn a_narrow_terminal_wraps_and_loses_nothing() {
        let shown = text(30, &[["spiffe://example.org/a/long/path", "h", "unix:uid:1000"]]);
        assert!(shown.lines().all(|line| line.chars().count() <= 30), "{shown}");
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
        let all = ["IDHINTSELECTORS", "spiffeexampleorgalongpath", "hunixuid1000"];
        assert_eq!(letters(&shown), all.concat().len(), "{shown}");
    }

    #[test]
    fn a_terminal_is_told_no_escapes() {
        assert!(!text(80, &[["a\u{1b}[2J", "", ""]]).contains('\u{1b}'));
    }
}
