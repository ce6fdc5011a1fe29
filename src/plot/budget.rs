//! Where the time went: stacked bars, one for each run or group.

use super::axis::{self, Axis};
use super::palette::{Color, FAINT, GAP, INK, UNKNOWN};
use super::scene::{Align, Scene, legend_height, size};
use super::{PlotError, font};
use crate::migration::{Migration, PhaseName};

/// What a segment stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A phase.
    Phase(PhaseName),
    /// Time between phases.
    Gap,
    /// Time that belongs to phases whose boundaries are not known.
    Unknown,
}

/// A bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Its name.
    pub label: String,
    /// Segments in their order; seconds.
    pub parts: Vec<(Part, f64)>,
    /// Time that two parts share, seconds: so much longer than the total is their sum.
    pub overlap: f64,
}

/// The length of the bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Every bar is 100 %.
    Percent,
    /// Seconds.
    Seconds,
}

/// How to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Heading.
    pub title: String,
    /// Length of the bars.
    pub scale: Scale,
    /// Draw the gaps; else the phases alone fill the bar.
    pub gaps: bool,
}

impl Part {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Phase(p) => p.name(),
            Part::Gap => "gap",
            Part::Unknown => "unknown",
        }
    }

    /// Its colour.
    pub fn color(self) -> Color {
        match self {
            Part::Phase(p) => Color::of(p),
            Part::Gap => GAP,
            Part::Unknown => UNKNOWN,
        }
    }
}

fn to_seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

impl Bar {
    /// The budget of one migration; `None` where no phase has a length.
    ///
    /// What the total leaves unexplained because a phase is not bounded becomes
    /// [`Part::Unknown`].
    pub fn of(label: &str, m: &Migration) -> Option<Self> {
        let mut parts: Vec<(Part, f64)> = m
            .phases
            .iter()
            .filter_map(|p| Some((Part::Phase(p.name), to_seconds(p.duration_ns?))))
            .collect();
        if parts.is_empty() {
            return None;
        }
        parts.sort_by_key(|(p, _)| *p);
        if let Some(gaps) = m.gaps_ns.filter(|g| *g > 0) {
            parts.push((Part::Gap, to_seconds(gaps)));
        }
        let open = m.gaps_ns.is_none() || m.phases.iter().any(|p| p.duration_ns.is_none());
        if open && let Some(total) = m.total_time_ns {
            let known: f64 = parts.iter().map(|(_, s)| s).sum();
            let rest = to_seconds(total) - known;
            if rest > 0.0 {
                parts.push((Part::Unknown, rest));
            }
        }
        Some(Self {
            label: label.to_owned(),
            parts,
            overlap: to_seconds(m.overlaps_ns.unwrap_or(0).max(0)),
        })
    }

    /// The mean of bars. A part that a bar lacks counts as nought there: it did not happen.
    pub fn mean(label: &str, bars: &[Bar]) -> Option<Self> {
        if bars.is_empty() {
            return None;
        }
        let mut parts: Vec<(Part, f64)> = vec![];
        for (part, s) in bars.iter().flat_map(|b| &b.parts) {
            match parts.iter_mut().find(|(p, _)| p == part) {
                Some((_, sum)) => *sum += s,
                None => parts.push((*part, *s)),
            }
        }
        parts.sort_by_key(|(p, _)| *p);
        for (_, s) in &mut parts {
            *s /= bars.len() as f64;
        }
        Some(Self {
            label: label.to_owned(),
            parts,
            overlap: bars.iter().map(|b| b.overlap).sum::<f64>() / bars.len() as f64,
        })
    }

    /// All parts, what two share counted once; seconds.
    pub fn total(&self) -> f64 {
        self.parts.iter().map(|(_, s)| s).sum::<f64>() - self.overlap
    }

    fn shown(&self, gaps: bool) -> impl Iterator<Item = (Part, f64)> + '_ {
        self.parts
            .iter()
            .copied()
            .filter(move |(p, s)| *s > 0.0 && (gaps || *p != Part::Gap))
    }
}

const WIDTH: u32 = 960;
const MARGIN: f64 = 16.0;
/// Room right of the bars for totals.
const TOTALS: f64 = 78.0;

/// Draws the bars, one below the other.
///
/// # Errors
/// There is no bar.
pub fn scene(bars: &[Bar], options: &Options) -> Result<Scene, PlotError> {
    if bars.is_empty() {
        return Err(PlotError::Empty("no phase has a known length".to_owned()));
    }
    let mut present: Vec<Part> = bars
        .iter()
        .flat_map(|b| b.shown(options.gaps).map(|(p, _)| p))
        .collect();
    present.sort_unstable();
    present.dedup();
    let legend: Vec<(String, Color)> = present
        .iter()
        .map(|p| (p.name().to_owned(), p.color()))
        .collect();
    let (thick, space) = if bars.len() <= 16 {
        (28.0, 12.0)
    } else {
        (20.0, 6.0)
    };
    let names = bars
        .iter()
        .map(|b| font::width(&b.label, size::LABEL))
        .fold(0.0, f64::max)
        .clamp(20.0, 230.0);
    let left = MARGIN + names + 12.0;
    let right = f64::from(WIDTH) - TOTALS - MARGIN;
    let legend_top = 46.0;
    let top = legend_top + legend_height(MARGIN, f64::from(WIDTH) - MARGIN, &legend) + 10.0;
    let bottom = top + bars.len() as f64 * (thick + space) + space;
    let mut scene = Scene::new(WIDTH, (bottom + 50.0).ceil() as u32);
    scene.title(&options.title);
    scene.legend(MARGIN, legend_top, f64::from(WIDTH) - MARGIN, &legend);

    let sum = |b: &Bar| b.shown(options.gaps).map(|(_, s)| s).sum::<f64>();
    // Shares are of the total; where phases overlap, the bar is longer than that.
    let whole = |b: &Bar| (sum(b) - b.overlap).max(1e-9);
    let longest = |of: &dyn Fn(&Bar) -> f64| bars.iter().map(of).fold(0.0, f64::max);
    let (high, name) = match (options.scale, options.gaps) {
        (Scale::Seconds, _) => (axis::ceiling(longest(&sum), 8), "seconds"),
        (Scale::Percent, gaps) => {
            let most = longest(&|b| sum(b) / whole(b) * 100.0);
            let high = if most < 100.01 {
                100.0
            } else {
                axis::ceiling(most, 8)
            };
            let name = if gaps {
                "share of the total time (%)"
            } else {
                "share of the time in phases (%)"
            };
            (high, name)
        }
    };
    let overlaps = bars.iter().any(|b| b.overlap > 0.0);
    let name = if overlaps {
        format!("{name}; phases overlap, so a bar is longer than its total")
    } else {
        name.to_owned()
    };
    let x = Axis {
        low: 0.0,
        high,
        from: left,
        to: right,
    };
    axis::horizontal(&mut scene, &x, top, bottom, &name);
    for (i, bar) in bars.iter().enumerate() {
        let y = top + space + i as f64 * (thick + space);
        let middle = y + thick / 2.0;
        let label = font::shorten(&bar.label, size::LABEL, names);
        scene.text(left - 10.0, middle, &label, size::LABEL, Align::End);
        let whole = whole(bar);
        let mut from = 0.0;
        for (part, s) in bar.shown(options.gaps) {
            let (value, words) = match options.scale {
                Scale::Percent => (s / whole * 100.0, format!("{:.1}%", s / whole * 100.0)),
                Scale::Seconds => (s, format!("{s:.3}")),
            };
            let (a, b) = (x.at(from).round(), x.at(from + value).round());
            from += value;
            scene.rect(a, y, (b - a).max(2.0), thick, part.color());
            if part == Part::Unknown {
                scene.outline(a, y, (b - a).max(1.0), thick, FAINT);
            }
            if b - a > 6.0 {
                scene.rect(b - 1.0, y, 1.0, thick, super::palette::PAPER);
            }
            if font::width(&words, size::SMALL) + 8.0 <= b - a {
                let middle_x = f64::midpoint(a, b);
                let color = part.color().text();
                scene.text_in(middle_x, middle, &words, size::SMALL, Align::Middle, color);
            }
        }
        let end = match options.scale {
            Scale::Percent => right,
            Scale::Seconds => x.at(from),
        };
        let total = format!("{whole:.3} s");
        scene.label(end + 8.0, middle, &total, Align::Start, INK);
    }
    scene.line(vec![(left - 1.0, top), (left - 1.0, bottom)], INK, 1);
    Ok(scene)
}
