//! What plots are drawn with: SVG that follows the reader's light or dark colours.

use std::fmt::Write;

/// Width of every plot; its height is its own.
pub const WIDTH: f64 = 860.0;
/// What stays free at its sides.
pub const MARGIN: f64 = 24.0;
const HEADING_BASE: f64 = 34.0;

/// Those of a background that is not the page's own, so that the plot can be read on any.
const LIGHT: &str = "\
    .ground { fill: #ffffff; stroke: #d7dbe0; }\n\
    text { font: 13px system-ui, sans-serif; fill: #22272e; }\n\
    .title { font-size: 17px; font-weight: 600; }\n\
    .step { font-weight: 600; }\n\
    .faint { fill: #656d76; }\n\
    .rule { stroke: #e6e9ed; }\n";
const DARK: &str = "\
    .ground { fill: #15191f; stroke: #363c45; }\n\
    text { fill: #e6eaef; }\n\
    .faint { fill: #9aa4b0; }\n\
    .rule { stroke: #262c34; }\n";

/// The colour of a class of marks.
pub struct Colour {
    /// The class.
    pub class: &'static str,
    /// Its colour for readers of light pages.
    pub light: &'static str,
    /// Its colour for readers of dark ones.
    pub dark: &'static str,
}

/// The program under measure, in every plot.
pub const MENDB: Colour = Colour {
    class: "mendb",
    light: "#0f7b6c",
    dark: "#34c3ab",
};

/// A plot that is being drawn.
pub struct Drawing(String);

impl Drawing {
    /// An empty one. `title` is what it shows, for those who cannot see it.
    pub fn new(height: f64, title: &str, heading: &str, colours: &[Colour]) -> Self {
        let rules = |of: fn(&Colour) -> &str| {
            let rules = colours.iter();
            rules
                .map(|colour| format!(".{} {{ color: {}; }}\n", colour.class, of(colour)))
                .collect::<String>()
        };
        let mut drawing = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
             <title>{title}</title>\n\
             <style>\n{LIGHT}{}@media (prefers-color-scheme: dark) {{\n{DARK}{}}}\n</style>\n\
             <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
            rules(|colour| colour.light),
            rules(|colour| colour.dark),
            WIDTH - 1.0,
            height - 1.0,
        ));
        drawing.text("title", MARGIN, HEADING_BASE, heading);
        drawing
    }

    /// Words that begin at a place.
    pub fn text(&mut self, class: &str, left: f64, base: f64, said: &str) {
        self.words(class, left, base, "start", said);
    }

    /// Words around a place.
    pub fn text_around(&mut self, class: &str, middle: f64, base: f64, said: &str) {
        self.words(class, middle, base, "middle", said);
    }

    /// Words that end at a place.
    pub fn text_before(&mut self, class: &str, right: f64, base: f64, said: &str) {
        self.words(class, right, base, "end", said);
    }

    /// A filled box.
    pub fn bar(&mut self, class: &str, left: f64, top: f64, width: f64, height: f64) {
        self.mark(&format!(
            "rect class=\"{class}\" fill=\"currentColor\" \
             x=\"{left}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\""
        ));
    }

    /// A thin line across.
    pub fn rule(&mut self, left: f64, right: f64, level: f64) {
        self.mark(&format!(
            "line class=\"rule\" x1=\"{left:.1}\" y1=\"{level:.1}\" x2=\"{right:.1}\" y2=\"{level:.1}\""
        ));
    }

    /// A line through points, with a dot on each. `dashes` is how it is interrupted; empty where not.
    pub fn line(&mut self, class: &str, points: &[(f64, f64)], dashes: &str) {
        let through: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.mark(&format!(
            "polyline class=\"{class}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.5\" \
             stroke-linejoin=\"round\" stroke-dasharray=\"{dashes}\" points=\"{}\"",
            through.join(" ")
        ));
        for (x, y) in points {
            self.mark(&format!(
                "circle class=\"{class}\" fill=\"currentColor\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\""
            ));
        }
    }

    /// The text of the file.
    pub fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn words(&mut self, class: &str, x: f64, base: f64, anchor: &str, said: &str) {
        if !said.is_empty() {
            let _ = writeln!(
                self.0,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{base:.1}\" text-anchor=\"{anchor}\">{said}</text>"
            );
        }
    }

    fn mark(&mut self, mark: &str) {
        let _ = writeln!(self.0, "<{mark}/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_title_for_those_who_cannot_see_it_and_colours_for_both_pages() {
        let mut drawing = Drawing::new(100.0, "Seconds of a backup", "Backup", &[MENDB]);
        drawing.bar("mendb", 1.0, 2.0, 3.0, 4.0);
        let text = drawing.finish();
        assert!(
            text.contains("<title>Seconds of a backup</title>"),
            "{text}"
        );
        for colour in [MENDB.light, MENDB.dark] {
            assert!(
                text.contains(&format!(".mendb {{ color: {colour}; }}")),
                "{text}"
            );
        }
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
