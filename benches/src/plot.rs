//! Line charts as SVG, with a logarithmic axis below and a spread around each point.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::table::Quartiles;

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// What is counted below.
    pub below: String,
    /// What is counted to the left.
    pub left: String,
    /// One line per runtime.
    pub lines: Vec<Line>,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name in the legend.
    pub name: String,
    /// Where it is below, and what it has there.
    pub points: Vec<(f64, Quartiles)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// The corners of the plotted area.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 360.0;
/// Colours that differ in lightness too, so that they are told apart in grey.
const COLOURS: [&str; 7] = [
    "#c0392b", "#1f5fa8", "#5dade2", "#1e8449", "#7dcea0", "#7d3c98", "#555555",
];
/// About so many marks on the left.
const MARKS: f64 = 5.0;

impl Chart {
    /// The chart as an SVG file.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            escaped(&self.title)
        );
        let middle = (LEFT + RIGHT) / 2.0;
        text(&mut svg, middle, TOP - 20.0, "middle", &self.title);
        text(&mut svg, middle, BOTTOM + 40.0, "middle", &self.below);
        self.left_axis(&mut svg);
        self.lower_axis(&mut svg);
        for (index, line) in self.lines.iter().enumerate() {
            self.draw(&mut svg, line, index);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn left_axis(&self, svg: &mut String) {
        let step = step_of(self.most());
        let mut value = 0.0;
        while value <= self.most() + step / 2.0 {
            let y = self.y(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT:.1} {y:.1}H{RIGHT:.1}\" stroke=\"#ddd\"/>"
            );
            text(svg, LEFT - 6.0, y + 4.0, "end", &short(value));
            value += step;
        }
        let y = (TOP + BOTTOM) / 2.0;
        let _ = writeln!(
            svg,
            "<text transform=\"translate(16 {y:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.left)
        );
    }

    fn lower_axis(&self, svg: &mut String) {
        let mut values: Vec<_> = self.places().collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        // Two labels that would touch become one.
        let mut last = f64::NEG_INFINITY;
        for value in values {
            let x = self.x(value);
            let _ = writeln!(svg, "<path d=\"M{x:.1} {BOTTOM:.1}v5\" stroke=\"#000\"/>");
            if x - last > 24.0 {
                text(svg, x, BOTTOM + 20.0, "middle", &short(value));
                last = x;
            }
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT:.1} {TOP:.1}V{BOTTOM:.1}H{RIGHT:.1}\" fill=\"none\" stroke=\"#000\"/>"
        );
    }

    fn draw(&self, svg: &mut String, line: &Line, index: usize) {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        for (number, (place, value)) in line.points.iter().enumerate() {
            let (x, y) = (self.x(*place), self.y(value.median));
            let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { 'M' } else { 'L' });
            let (low, high) = (self.y(value.low), self.y(value.high));
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.5\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>"
        );
        let y = TOP + 8.0 + 20.0 * index as f64;
        let (from, to) = (RIGHT + 16.0, RIGHT + 36.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{from:.1} {y:.1}H{to:.1}\" stroke=\"{colour}\" stroke-width=\"3\"/>"
        );
        text(svg, to + 6.0, y + 4.0, "start", &line.name);
    }

    fn places(&self) -> impl Iterator<Item = f64> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        points.map(|(place, _)| *place)
    }

    /// The most on the left, rounded up to a mark.
    fn most(&self) -> f64 {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let most = points.map(|(_, value)| value.high).fold(0.0, f64::max);
        let step = step_of(most);
        (most / step).ceil().max(1.0) * step
    }

    fn x(&self, place: f64) -> f64 {
        let low = self.places().fold(f64::INFINITY, f64::min).log10();
        let high = self.places().fold(f64::NEG_INFINITY, f64::max).log10();
        let share = if high > low {
            (place.log10() - low) / (high - low)
        } else {
            0.5
        };
        // A little room on both sides.
        LEFT + 16.0 + share * (RIGHT - LEFT - 32.0)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - value / self.most() * (BOTTOM - TOP)
    }
}

/// A round step that gives about [`MARKS`] marks up to `most`.
fn step_of(most: f64) -> f64 {
    let rough = (most / MARKS).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|&step| step >= rough)
        .unwrap_or(10.0 * power)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A number as it stands on an axis.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    if value.fract() < 0.05 || value >= 100.0 {
        format!("{value:.0}{unit}")
    } else {
        format!("{value:.1}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let line = |name: &str, factor: f64| Line {
            name: name.into(),
            points: [1.0, 10.0, 1000.0]
                .map(|place| {
                    (
                        place,
                        Quartiles::of(vec![factor * place, 2.0 * factor * place]),
                    )
                })
                .to_vec(),
        };
        Chart {
            title: "a < b & c".into(),
            below: "connections".into(),
            left: "requests/s".into(),
            lines: vec![line("one", 1.0), line("two", 40.0)],
        }
    }

    #[test]
    fn every_point_lies_within_the_axes() {
        let chart = chart();
        for line in &chart.lines {
            for (place, value) in &line.points {
                let x = chart.x(*place);
                assert!((LEFT..=RIGHT).contains(&x), "{place} is at {x}");
                for value in [value.low, value.median, value.high] {
                    let y = chart.y(value);
                    assert!((TOP..=BOTTOM).contains(&y), "{value} is at {y}");
                }
            }
        }
    }

    #[test]
    fn the_file_has_every_point_and_balanced_tags() {
        let svg = chart().to_svg();
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.contains("a &lt; b &amp; c") && !svg.contains("NaN"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([7.0, 100.0, 123_456.0].map(step_of), [2.0, 20.0, 50_000.0]);
        assert_eq!(
            [0.0, 4096.0, 50_000.0, 1.5e6].map(short),
            ["0", "4096", "50k", "1.5M"]
        );
    }
}
