//! Axes: where ticks stand, what they say, and the frame of a plot.

use super::palette::{FAINT, GRID, INK};
use super::scene::{Align, Scene, size};
use crate::report::units::count;

/// One dimension of a plot: values mapped to pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    /// Value at `from`.
    pub low: f64,
    /// Value at `to`.
    pub high: f64,
    /// Pixel of `low`.
    pub from: f64,
    /// Pixel of `high`.
    pub to: f64,
}

/// Ticks on an upright axis of so many pixels.
fn ticks_up(pixels: f64) -> usize {
    (pixels.abs() / 40.0).clamp(2.0, 8.0) as usize
}

/// What [`Axis::time`] shows.
pub(crate) const SECONDS: &str = "seconds from the first packet";

impl Axis {
    /// Nanoseconds of a capture, in seconds, over these pixels.
    pub(crate) fn time((low, high): (i64, i64), from: f64, to: f64) -> Self {
        Self {
            low: low as f64 / 1e9,
            high: high as f64 / 1e9,
            from,
            to,
        }
    }

    /// An upright axis from nought to a tick that is not below `max`.
    pub(crate) fn up(max: f64, bottom: f64, top: f64) -> Self {
        Self {
            low: 0.0,
            high: ceiling(max, ticks_up(bottom - top)),
            from: bottom,
            to: top,
        }
    }

    /// The pixel of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        if span <= 0.0 || !value.is_finite() {
            return self.from;
        }
        self.from + (value - self.low) / span * (self.to - self.from)
    }

    /// The ticks of an upright axis.
    pub(crate) fn ticks_upright(&self) -> Vec<(f64, String)> {
        self.ticks(ticks_up(self.from - self.to))
    }

    /// Round values along it, about `wanted`, with their words.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let step = step(self.high - self.low, wanted);
        if step <= 0.0 || !step.is_finite() {
            return vec![(self.low, number(self.low, 0))];
        }
        let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step - 1e-9).ceil();
        (0..64)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|v| *v <= self.high + step * 1e-9)
            .map(|v| (v, number(v, digits)))
            .collect()
    }
}

/// As the numbers beside it are written.
fn number(v: f64, digits: usize) -> String {
    let v = if v == 0.0 { 0.0 } else { v };
    if digits == 0 && (1e4..1e15).contains(&v) {
        return count(v.round() as u64);
    }
    format!("{v:.digits$}")
}

/// A round step: 1, 2 or 5 times a power of ten.
fn step(span: f64, wanted: usize) -> f64 {
    if span <= 0.0 || !span.is_finite() {
        return 0.0;
    }
    let rough = span / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let part = rough / power;
    let nice = match part {
        p if p <= 1.0 => 1.0,
        p if p <= 2.0 => 2.0,
        p if p <= 5.0 => 5.0,
        _ => 10.0,
    };
    nice * power
}

/// The smallest round value that is not below `max`: where an axis from nought should end.
pub(crate) fn ceiling(max: f64, wanted: usize) -> f64 {
    let s = step(max, wanted);
    if s <= 0.0 {
        return 1.0;
    }
    (max / s - 1e-9).ceil() * s
}

/// Vertical grid lines and their ticks below; `x` over `top..bottom`.
pub(crate) fn horizontal(scene: &mut Scene, x: &Axis, top: f64, bottom: f64, name: &str) {
    for (v, words) in x.ticks(8) {
        let px = x.at(v);
        scene.line(vec![(px, top), (px, bottom)], GRID, 1);
        scene.line(vec![(px, bottom), (px, bottom + 4.0)], FAINT, 1);
        scene.text(px, bottom + 14.0, &words, size::SMALL, Align::Middle);
    }
    scene.line(vec![(x.from, bottom), (x.to, bottom)], INK, 1);
    let middle = (x.from + x.to) / 2.0;
    scene.text(middle, bottom + 34.0, name, size::LABEL, Align::Middle);
}

/// Horizontal grid lines and their ticks to the left; `y` over `left..right`.
pub(crate) fn vertical(scene: &mut Scene, y: &Axis, left: f64, right: f64, name: &str) {
    let mut widest = 0.0_f64;
    for (v, words) in y.ticks_upright() {
        let py = y.at(v);
        scene.line(vec![(left, py), (right, py)], GRID, 1);
        scene.text(left - 7.0, py, &words, size::SMALL, Align::End);
        widest = widest.max(super::font::width(&words, size::SMALL));
    }
    scene.line(vec![(left, y.from), (left, y.to)], INK, 1);
    let middle = f64::midpoint(y.from, y.to);
    scene.upright(left - widest - 22.0, middle, name, size::LABEL);
}
