//! One metric over one factor: group means with their intervals.

use super::axis::{self, Axis};
use super::palette::{Color, FAINT, INK, SERIES};
use super::scene::{Align, Scene, legend_height, size};
use super::{PlotError, font};

/// The mean of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Level of the factor on the horizontal axis.
    pub x: String,
    /// Level of the second factor, by colour.
    pub series: String,
    /// Mean.
    pub mean: f64,
    /// Half the width of the interval; `None` for a single run.
    pub half: Option<f64>,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Heading.
    pub title: String,
    /// Name of the horizontal axis.
    pub x: String,
    /// Name and unit of the metric.
    pub y: String,
}

const WIDTH: u32 = 760;
const HEIGHT: u32 = 460;

/// Levels in the order of their first appearance; by number where all are numbers.
fn levels(points: &[Point], of: impl Fn(&Point) -> &str) -> Vec<String> {
    let mut out: Vec<String> = vec![];
    for p in points {
        if !out.iter().any(|l| l == of(p)) {
            out.push(of(p).to_owned());
        }
    }
    let number = |l: &String| level_number(l).unwrap_or(0.0);
    if out.iter().all(|l| level_number(l).is_some()) {
        out.sort_by(|a, b| number(a).total_cmp(&number(b)));
    }
    out
}

/// A level that is a number, or a percentage.
fn level_number(level: &str) -> Option<f64> {
    let number = level.trim_end_matches('%').trim().parse::<f64>().ok();
    number.filter(|n| n.is_finite())
}

/// Draws the points with bars for the intervals, lines joining a series.
///
/// # Errors
/// There is no point.
pub fn scene(points: &[Point], options: &Options) -> Result<Scene, PlotError> {
    let points: Vec<Point> = points
        .iter()
        .filter(|p| p.mean.is_finite() && p.half.is_none_or(f64::is_finite))
        .cloned()
        .collect();
    if points.is_empty() {
        return Err(PlotError::Empty("the metric is known in no run".to_owned()));
    }
    let xs = levels(&points, |p| &p.x);
    let series = levels(&points, |p| &p.series);
    let colors: Vec<(String, Color)> = series
        .iter()
        .zip(SERIES.iter().cycle())
        .map(|(s, c)| (s.clone(), *c))
        .collect();
    let named = series.len() > 1 || series.iter().any(|s| !s.is_empty());
    let right = f64::from(WIDTH) - 24.0;
    let mut top = 50.0;
    let mut scene = Scene::new(WIDTH, HEIGHT);
    scene.title(&options.title);
    if named {
        scene.legend(16.0, 46.0, right, &colors);
        top += legend_height(16.0, right, &colors);
    }
    let bottom = f64::from(HEIGHT) - 54.0;
    let highest = points
        .iter()
        .map(|p| p.mean + p.half.unwrap_or(0.0))
        .fold(0.0, f64::max);
    let y = Axis::up(highest, bottom, top);
    let widest = y
        .ticks_upright()
        .iter()
        .map(|(_, w)| font::width(w, size::SMALL))
        .fold(0.0, f64::max);
    let left = 48.0 + widest;
    axis::vertical(&mut scene, &y, left, right, &options.y);
    scene.line(vec![(left, bottom), (right, bottom)], INK, 1);
    let slot = (right - left) / xs.len() as f64;
    let shift = (slot * 0.5 / series.len() as f64).min(10.0);
    let middle = |i: usize| left + slot * (i as f64 + 0.5);
    for (i, x) in xs.iter().enumerate() {
        let words = font::shorten(x, size::LABEL, slot - 6.0);
        scene.line(
            vec![(middle(i), bottom), (middle(i), bottom + 4.0)],
            FAINT,
            1,
        );
        scene.text(middle(i), bottom + 15.0, &words, size::LABEL, Align::Middle);
    }
    let centre = f64::midpoint(left, right);
    scene.text(
        centre,
        bottom + 38.0,
        &options.x,
        size::LABEL,
        Align::Middle,
    );
    for (k, (name, color)) in colors.iter().enumerate() {
        let aside = (k as f64 - (series.len() as f64 - 1.0) / 2.0) * shift;
        let mut path = vec![];
        for (i, x) in xs.iter().enumerate() {
            for p in points.iter().filter(|p| p.x == *x && p.series == *name) {
                path.push((middle(i) + aside, p));
            }
        }
        // Between runs or other names nothing lies; the points of a series belong together.
        if named || xs.iter().all(|x| level_number(x).is_some()) {
            let line = path.iter().map(|(px, p)| (*px, y.at(p.mean))).collect();
            scene.line(line, color.pale(0.5), 1);
        }
        for (px, p) in path {
            if let Some(half) = p.half {
                let (a, b) = (y.at(p.mean - half), y.at(p.mean + half));
                scene.line(vec![(px, a), (px, b)], *color, 2);
                for end in [a, b] {
                    scene.line(vec![(px - 4.0, end), (px + 4.0, end)], *color, 2);
                }
            }
            scene.dot(px, y.at(p.mean), 4.0, *color);
        }
    }
    Ok(scene)
}
