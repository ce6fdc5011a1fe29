//! Phases and rounds as bars over the throughput of the stream.

use super::axis::{self, Axis};
use super::palette::{Color, FAINT, GRID, STOPPED};
use super::scene::{Align, Scene, size};
use super::{PlotError, font, throughput};
use crate::migration::{Migration, Moment};
use crate::report::units::duration;
use crate::series::{self, Throughput};
use crate::stats::cost;

const WIDTH: u32 = 960;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
const PANEL: f64 = 150.0;
/// Left edge of the plot.
const LEFT: f64 = 134.0;

/// Draws a migration over time; with the throughput from the capture, or from the rounds.
///
/// # Errors
/// No boundary is known.
pub fn scene(m: &Migration, series: Option<&Throughput>, title: &str) -> Result<Scene, PlotError> {
    let span = series::span(m)
        .ok_or_else(|| PlotError::Empty("no phase and no round is bounded".to_owned()))?;
    let rounds = m.transfer.as_ref().map_or(&[][..], |t| &t.rounds);
    let rows = m.phases.len() + usize::from(!rounds.is_empty()) + usize::from(m.pause.is_some());
    let top = 48.0;
    let middle = top + rows as f64 * ROW;
    let bottom = middle + 18.0 + PANEL;
    let mut scene = Scene::new(WIDTH, (bottom + 52.0) as u32);
    scene.title(title);
    let x = Axis::time(span, LEFT, f64::from(WIDTH) - 76.0);
    // The grid goes behind everything.
    for (v, _) in x.ticks(8) {
        scene.line(vec![(x.at(v), top), (x.at(v), middle)], GRID, 1);
    }
    axis::horizontal(&mut scene, &x, middle + 18.0, bottom, axis::SECONDS);
    let mut row = Rows {
        scene: &mut scene,
        x,
        y: top,
    };
    for p in &m.phases {
        let ends = (
            p.start.as_ref().map(|b| b.offset_ns),
            p.end.as_ref().map(|b| b.offset_ns),
        );
        let words = p.duration_ns.map_or("not bounded".to_owned(), duration);
        row.phase(p.name.name(), ends, Color::of(p.name), &words);
    }
    if !rounds.is_empty() {
        row.name("rounds");
        let colors = m.transfer.iter().flat_map(|t| {
            let pass = |r| Color::of_pass(cost::pass(t, r));
            t.rounds.iter().map(pass)
        });
        for ((i, r), color) in rounds.iter().enumerate().zip(colors) {
            // Rounds that follow each other differ.
            let color = match i % 2 {
                1 if color != STOPPED => color.pale(0.55),
                _ => color,
            };
            let index = r.index.to_string();
            row.bar(r.start_offset_ns, r.end_offset_ns, color, &index);
        }
        row.y += ROW;
    }
    if let Some(p) = &m.pause {
        row.name("guest stopped");
        let at = |m: &Option<Moment>| m.as_ref().map(|m| m.offset_ns);
        let widest = (
            at(&p.stop_earliest).or(at(&p.stop_latest)),
            at(&p.resume_latest).or(at(&p.resume_earliest)),
        );
        if let (Some(a), Some(b)) = widest {
            row.bar(a, b, STOPPED.pale(0.35), "");
        }
        if let (Some(a), Some(b)) = (at(&p.stop_latest), at(&p.resume_earliest)) {
            row.bar(a, b, STOPPED, "");
        }
        if let (Some(a), Some(b)) = (p.min_ns, p.max_ns) {
            let words = format!("{} – {}", duration(a), duration(b));
            let edge = |e: Option<i64>, none| e.map_or(none, |e| x.at(e as f64 / 1e9));
            row.words((edge(widest.0, x.from), edge(widest.1, x.to)), &words);
        }
    }
    throughput::panel(&mut scene, m, series, &x, (middle + 18.0, bottom));
    Ok(scene)
}

struct Rows<'a> {
    scene: &'a mut Scene,
    x: Axis,
    y: f64,
}

impl Rows<'_> {
    fn name(&mut self, name: &str) {
        let y = self.y + ROW / 2.0;
        self.scene
            .text(LEFT - 10.0, y, name, size::LABEL, Align::End);
    }

    /// A bar from one offset to another, with words inside where they fit.
    fn bar(&mut self, from: i64, to: i64, color: Color, words: &str) {
        let a = self.x.at(from as f64 / 1e9).round();
        let b = self.x.at(to as f64 / 1e9).round().max(a + 2.0);
        let y = self.y + (ROW - BAR) / 2.0;
        self.scene.rect(a, y, b - a, BAR, color);
        if !words.is_empty() && font::width(words, size::SMALL) + 6.0 <= b - a {
            let middle = f64::midpoint(a, b);
            let color = color.text();
            self.scene.text_in(
                middle,
                y + BAR / 2.0,
                words,
                size::SMALL,
                Align::Middle,
                color,
            );
        }
    }

    /// Words right of a bar between two pixels; left of it where the page ends before them.
    fn words(&mut self, (from, to): (f64, f64), words: &str) {
        let y = self.y + ROW / 2.0;
        let w = font::width(words, size::SMALL);
        let (right, left) = (to + 7.0, from - 7.0);
        let last = f64::from(WIDTH) - w - 6.0;
        if right > last && left - w >= LEFT {
            self.scene.label(left, y, words, Align::End, FAINT);
        } else {
            let at = right.min(last);
            self.scene.label(at, y, words, Align::Start, FAINT);
        }
    }

    /// A phase on a row of its own. Where an edge is unknown there is only a tick at the other.
    fn phase(&mut self, name: &str, ends: (Option<i64>, Option<i64>), color: Color, words: &str) {
        self.name(name);
        match ends {
            (Some(a), Some(b)) => self.bar(a, b, color, ""),
            (Some(a), None) => self.bar(a, a, color, ""),
            (None, Some(b)) => self.bar(b, b, color, ""),
            (None, None) => {}
        }
        let edge = |e: Option<i64>| e.map_or(self.x.from, |e| self.x.at(e as f64 / 1e9));
        let edges = (edge(ends.0.or(ends.1)), edge(ends.1.or(ends.0)));
        self.words(edges, words);
        self.y += ROW;
    }
}
