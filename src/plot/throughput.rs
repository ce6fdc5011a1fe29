//! Bytes a second over time: of the stream as the capture shows it, or, from a report alone, the
//! mean of every round.

use super::PlotError;
use super::axis::{self, Axis};
use super::palette::{Color, INK, STREAM};
use super::scene::{Align, Scene, size};
use crate::migration::Migration;
use crate::series::{self, Throughput};
use crate::stats::cost;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 360;

/// A step of the curve: from, to (ns from the first packet), megabytes a second, colour.
type Step = (i64, i64, f64, Color);

/// What the curve shows.
fn steps(m: &Migration, series: Option<&Throughput>) -> (Vec<Step>, &'static str) {
    if let Some(t) = series.filter(|t| t.bytes.iter().any(|b| *b > 0)) {
        let rate = |b: u64| b as f64 / t.bin_ns as f64 * 1e3;
        let steps = (0_i64..).zip(&t.bytes).map(|(i, b)| {
            let from = t.start_ns + i * t.bin_ns;
            (from, from + t.bin_ns, rate(*b), STREAM)
        });
        return (steps.collect(), "MB/s on the wire");
    }
    let rounds = m
        .transfer
        .iter()
        .flat_map(|t| t.rounds.iter().map(move |r| (t, r)));
    let steps = rounds.filter_map(|(t, r)| {
        let rate = r.bytes_per_second? as f64 / 1e6;
        let color = Color::of_pass(cost::pass(t, r));
        Some((r.start_offset_ns, r.end_offset_ns, rate, color))
    });
    (steps.collect(), "MB/s, by round")
}

/// Draws the curve into a part of a scene; says nothing where nothing is known.
pub(super) fn panel(
    scene: &mut Scene,
    m: &Migration,
    series: Option<&Throughput>,
    x: &Axis,
    (top, bottom): (f64, f64),
) {
    let (steps, name) = steps(m, series);
    let highest = steps.iter().map(|s| s.2).fold(0.0, f64::max);
    let y = Axis::up(highest, bottom, top);
    axis::vertical(scene, &y, x.from, x.to, name);
    for (from, to, rate, color) in &steps {
        let a = x.at(*from as f64 / 1e9).max(x.from);
        let b = x.at(*to as f64 / 1e9).min(x.to);
        if *rate > 0.0 && b > a {
            let py = y.at(*rate);
            let (a, b) = (a.round(), b.round().max(a.round() + 1.0));
            scene.rect(a, py, b - a, (bottom - py).max(1.0), *color);
        }
    }
    scene.line(vec![(x.from, bottom), (x.to, bottom)], INK, 1);
}

/// A picture of the throughput alone.
///
/// # Errors
/// Neither the series nor the report holds any bytes over time.
pub fn scene(m: &Migration, series: Option<&Throughput>, title: &str) -> Result<Scene, PlotError> {
    let (from, to) = series::span(m)
        .filter(|_| !steps(m, series).0.is_empty())
        .ok_or_else(|| PlotError::Empty("no bytes over time are known".to_owned()))?;
    let mut scene = Scene::new(WIDTH, HEIGHT);
    scene.title(title);
    let x = Axis::time((from, to), 92.0, f64::from(WIDTH) - 24.0);
    let (top, bottom) = (52.0, f64::from(HEIGHT) - 54.0);
    axis::horizontal(&mut scene, &x, top, bottom, axis::SECONDS);
    panel(&mut scene, m, series, &x, (top, bottom));
    if let Some(t) = series.filter(|t| t.bin_ns > 0) {
        let words = format!("bins of {} ms", t.bin_ns as f64 / 1e6);
        let y = f64::from(HEIGHT) - 20.0;
        scene.text(x.to, y, &words, size::SMALL, Align::End);
    }
    Ok(scene)
}
