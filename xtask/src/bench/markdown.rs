//! Pages of results: Markdown for `docs/`, and the same tables on the terminal.

use std::fs;

use crate::run::{Outcome, root};

/// From this line on a page is written by hand and stays.
const BY_HAND: &str = "## What the limit is";

/// A page with its plot, in the root of the workspace.
pub struct Page {
    /// Path of the Markdown file.
    pub text: &'static str,
    /// Path of the SVG file.
    pub plot: &'static str,
}

impl Page {
    /// Writes both; what was written by hand stays at the end of the page.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, text: &str, plot: &str) -> Outcome {
        let (page, drawing) = (root().join(self.text), root().join(self.plot));
        let before = fs::read_to_string(&page).unwrap_or_default();
        fs::create_dir_all(root().join("docs"))
            .and_then(|()| fs::write(page, with_what_is_by_hand(text, &before)))
            .and_then(|()| fs::write(drawing, plot))
            .map_err(|error| format!("cannot write {} and {}: {error}", self.text, self.plot))?;
        println!("wrote {} and {}", self.text, self.plot);
        Ok(())
    }
}

fn with_what_is_by_hand(text: &str, before: &str) -> String {
    match before.find(BY_HAND) {
        Some(at) => format!("{text}\n{}", &before[at..]),
        None => text.to_owned(),
    }
}

/// Title, lines, all cells but the first aligned right.
pub fn table(title: &str, heads: &[&str], lines: &[Vec<String>]) -> String {
    let heads: Vec<String> = heads.iter().map(|&head| head.to_owned()).collect();
    let width = |at: usize| {
        let cells = std::iter::once(&heads).chain(lines);
        cells
            .map(|line| line[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let shown = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(at, (cell, &width))| match at {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rules: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(at, &width)| match at {
            0 => "-".repeat(width),
            _ => format!("{}:", "-".repeat(width - 1)),
        })
        .collect();
    let mut out = format!("## {title}\n\n{}{}", shown(&heads), shown(&rules));
    for line in lines {
        out.push_str(&shown(line));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_below_each_other() {
        let lines =
            [["cp", "1.0 s"], ["méndb", "12.0 s"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(
            table("Backup", &["", "time"], &lines),
            "## Backup\n\n\
             |       |   time |\n\
             | ----- | -----: |\n\
             | cp    |  1.0 s |\n\
             | méndb | 12.0 s |\n"
        );
    }

    #[test]
    fn what_was_written_by_hand_stays() {
        let before = format!("# Old\n\n{BY_HAND}\n\nThe disk.\n");
        let after = with_what_is_by_hand("# New\n", &before);
        assert_eq!(after, format!("# New\n\n{BY_HAND}\n\nThe disk.\n"));
        assert_eq!(with_what_is_by_hand("# New\n", "# Old\n"), "# New\n");
    }
}
