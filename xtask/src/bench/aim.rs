//! What a benchmark is to show.

use super::markdown;

/// An aim of the project, and whether this run met it.
pub struct Aim {
    /// What is to be.
    pub aim: &'static str,
    /// What is.
    pub measured: String,
    /// Whether that is enough.
    pub met: bool,
}

/// The aims as a table of the page.
pub fn table(aims: Vec<Aim>) -> String {
    let lines: Vec<Vec<String>> = aims
        .into_iter()
        .map(|aim| {
            let met = if aim.met { "met" } else { "**missed**" };
            vec![aim.aim.to_owned(), aim.measured, met.to_owned()]
        })
        .collect();
    markdown::table("Aims", &["", "measured", ""], &lines)
}
