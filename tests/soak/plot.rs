//! Line charts over time, as SVG.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

/// What is to the left: from zero, or by powers of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    Powers,
}

/// A chart. Below is time, in seconds.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) left: &'a str,
    pub(crate) scale: Scale,
    /// Where the warm-up ends.
    pub(crate) warm: f64,
    /// Names, and points in order of time.
    pub(crate) lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// The corners of the plotted area.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 570.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 250.0;
/// Colours that differ in lightness too, so that they are told apart in grey.
const COLOURS: [&str; 5] = ["#1f5fa8", "#c0392b", "#7dcea0", "#5dade2", "#555555"];
/// About so many marks on an axis.
const MARKS: f64 = 5.0;

impl Chart<'_> {
    /// The chart as an SVG file.
    pub(crate) fn to_svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>{0}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            self.title
        );
        let middle = (LEFT + RIGHT) / 2.0;
        text(&mut svg, middle, TOP - 16.0, "middle", self.title);
        text(&mut svg, middle, BOTTOM + 38.0, "middle", "seconds");
        let warm = self.x(self.warm.min(self.end()));
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT:.1}\" y=\"{TOP:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f0f0f0\"/>",
            warm - LEFT,
            BOTTOM - TOP
        );
        self.axes(&mut svg);
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let mut path = String::new();
            for (number, (at, value)) in points.iter().enumerate() {
                let letter = if number == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", self.x(*at), self.y(*value));
            }
            let y = TOP + 8.0 + 20.0 * index as f64;
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>\
                 <path d=\"M{:.1} {y:.1}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>",
                RIGHT + 12.0
            );
            text(&mut svg, RIGHT + 34.0, y + 4.0, "start", name);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String) {
        for value in self.marks() {
            let y = self.y(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT:.1} {y:.1}H{RIGHT:.1}\" stroke=\"#ccc\"/>"
            );
            text(svg, LEFT - 6.0, y + 4.0, "end", &short(value));
        }
        let step = step_of(self.end());
        let mut at = 0.0;
        while at <= self.end() + step / 1e6 {
            let x = self.x(at);
            let _ = writeln!(svg, "<path d=\"M{x:.1} {BOTTOM:.1}v5\" stroke=\"#000\"/>");
            text(svg, x, BOTTOM + 19.0, "middle", &short(at));
            at += step;
        }
        let middle = (TOP + BOTTOM) / 2.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT:.1} {TOP:.1}V{BOTTOM:.1}H{RIGHT:.1}\" fill=\"none\" stroke=\"#000\"/>\n\
             <text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            self.left
        );
    }

    fn marks(&self) -> Vec<f64> {
        let (low, high) = self.span();
        let step = step_of(high);
        let next = |value: f64| match self.scale {
            Scale::Linear => value + step,
            Scale::Powers => value * 10.0,
        };
        let marks = std::iter::successors(Some(low), |value| Some(next(*value)));
        marks
            .take_while(|value| *value <= high * 1.000_001)
            .collect()
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let points = self.lines.iter().flat_map(|(_, points)| points);
        points.map(|(_, value)| *value)
    }

    /// When the last point is.
    fn end(&self) -> f64 {
        let points = self.lines.iter().flat_map(|(_, points)| points);
        points.map(|(at, _)| *at).fold(1.0, f64::max)
    }

    /// The least and the most to the left, both on a mark.
    fn span(&self) -> (f64, f64) {
        let most = self.values().fold(1.0, f64::max);
        match self.scale {
            Scale::Linear => (0.0, (most / step_of(most)).ceil() * step_of(most)),
            Scale::Powers => {
                let least = self.values().fold(most, f64::min).max(1.0);
                let power = |value: f64| 10_f64.powf(value);
                let (low, high) = (least.log10().floor(), most.log10().ceil());
                (power(low), power(high.max(low + 1.0)))
            }
        }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + at / self.end() * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.span();
        let share = match self.scale {
            Scale::Linear => value / high,
            Scale::Powers => (value.max(low) / low).log10() / (high / low).log10(),
        };
        BOTTOM - share * (BOTTOM - TOP)
    }
}

/// A round step that gives about [`MARKS`] marks up to `most`.
fn step_of(most: f64) -> f64 {
    let rough = most / MARKS;
    let power = 10_f64.powf(rough.log10().floor());
    let mut steps = [1.0, 2.0, 5.0].map(|step| step * power).into_iter();
    steps.find(|step| *step >= rough).unwrap_or(10.0 * power)
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

/// A number as it stands on an axis.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e4 => format!("{}k", value / 1e3),
        value => format!("{}", (value * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale) -> Chart<'static> {
        let points = |factor: f64| {
            (0..50)
                .map(|at| (f64::from(at), factor * f64::from(at)))
                .collect()
        };
        Chart {
            title: "times",
            left: "µs",
            scale,
            warm: 5.0,
            lines: vec![("one", points(3.0)), ("two", points(400.0))],
        }
    }

    #[test]
    fn every_point_lies_within_the_axes() {
        for scale in [Scale::Linear, Scale::Powers] {
            let chart = chart(scale);
            for (at, value) in chart.lines.iter().flat_map(|(_, points)| points) {
                let (x, y) = (chart.x(*at), chart.y(*value));
                assert!(
                    (LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y),
                    "{scale:?} {x} {y}"
                );
            }
            let svg = chart.to_svg();
            assert!(!svg.contains("NaN") && svg.ends_with("</svg>\n"));
            assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        }
    }

    #[test]
    fn marks_are_round_and_reach_the_ends() {
        assert_eq!(
            chart(Scale::Linear).marks(),
            [0.0, 5000.0, 10_000.0, 15_000.0, 20_000.0]
        );
        assert_eq!(
            chart(Scale::Powers).marks(),
            [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0]
        );
        assert_eq!(
            [0.0, 0.2, 4096.0, 20_000.0, 1.5e6].map(short),
            ["0", "0.2", "4096", "20k", "1.5M"]
        );
    }
}
