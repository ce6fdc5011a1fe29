//! Downtime by every method on one time axis, over the echo replies around the switch-over.

use super::axis::{self, Axis};
use super::palette::{Color, FAINT, GRID, INK, LOST, STOPPED, STREAM};
use super::scene::{Align, Scene, size};
use super::{PlotError, font};
use crate::migration::{Downtime, Migration, Moment};
use crate::report::units::duration;
use crate::series::Echo;

const WIDTH: u32 = 960;
const ROW: f64 = 28.0;
const BAR: f64 = 16.0;
const LEFT: f64 = 134.0;
const PANEL: f64 = 130.0;

fn at(m: &Option<Moment>) -> Option<i64> {
    m.as_ref().map(|m| m.offset_ns)
}

fn interval(d: &Downtime) -> Option<(i64, i64)> {
    Some((at(&d.start)?, at(&d.end)?)).filter(|(a, b)| a <= b)
}

/// Draws them; `echoes` come from the capture, and are left out where only the report is there.
///
/// # Errors
/// No method gives a place in time, and the pause is unknown.
pub fn scene(m: &Migration, echoes: &[Echo], title: &str) -> Result<Scene, PlotError> {
    let pause = m.pause.as_ref().and_then(|p| {
        let from = at(&p.stop_earliest).or(at(&p.stop_latest))?;
        let to = at(&p.resume_latest).or(at(&p.resume_earliest))?;
        Some((from, to)).filter(|(a, b)| a <= b)
    });
    let all: Vec<(i64, i64)> = m
        .downtime
        .iter()
        .filter_map(interval)
        .chain(pause)
        .collect();
    let (Some(from), Some(to)) = (
        all.iter().map(|(a, _)| *a).min(),
        all.iter().map(|(_, b)| *b).max(),
    ) else {
        let why = "no method places the downtime in time".to_owned();
        return Err(PlotError::Empty(why));
    };
    let aside = (to.saturating_sub(from) / 4).max(1_000_000);
    let (low, high) = (from.saturating_sub(aside), to.saturating_add(aside));
    let shown: Vec<&Echo> = echoes
        .iter()
        .filter(|e| (low..=high).contains(&e.request_ns))
        .collect();
    let rows = m.downtime.len() + usize::from(pause.is_some());
    let top = 48.0;
    let middle = top + rows as f64 * ROW;
    let bottom = if shown.is_empty() {
        middle + 4.0
    } else {
        middle + 40.0 + PANEL
    };
    let mut scene = Scene::new(WIDTH, (bottom + 52.0) as u32);
    scene.title(title);
    let x = Axis::time((low, high), LEFT, f64::from(WIDTH) - 24.0);
    for (v, _) in x.ticks(8) {
        scene.line(vec![(x.at(v), top), (x.at(v), middle)], GRID, 1);
    }
    let panel_top = if shown.is_empty() {
        middle
    } else {
        middle + 40.0
    };
    axis::horizontal(&mut scene, &x, panel_top, bottom, axis::SECONDS);
    let mut y = top;
    if let (Some((a, b)), Some(p)) = (pause, &m.pause) {
        bar(&mut scene, &x, y, (a, b), STOPPED.pale(0.35));
        if let (Some(a), Some(b)) = (at(&p.stop_latest), at(&p.resume_earliest)) {
            bar(&mut scene, &x, y, (a, b), STOPPED);
        }
        let words = match (p.min_ns, p.max_ns) {
            (Some(a), Some(b)) => format!("{} – {}", duration(a), duration(b)),
            _ => "not bounded".to_owned(),
        };
        words_beside(&mut scene, &x, y, "guest stopped", Some((a, b)), &words);
        y += ROW;
    }
    for d in &m.downtime {
        let place = interval(d);
        if let Some(place) = place {
            bar(&mut scene, &x, y, place, STREAM);
        }
        let words = match (d.duration_ns, place) {
            (Some(n), Some(_)) => duration(n),
            (Some(n), None) => format!("{} (without a place in time)", duration(n)),
            (None, _) => "unknown".to_owned(),
        };
        words_beside(&mut scene, &x, y, d.method.describe().0, place, &words);
        y += ROW;
    }
    if !shown.is_empty() {
        echo_panel(&mut scene, &x, &shown, panel_top, bottom);
    }
    Ok(scene)
}

fn bar(scene: &mut Scene, x: &Axis, y: f64, (from, to): (i64, i64), color: Color) {
    let a = x.at(from as f64 / 1e9).round();
    let b = x.at(to as f64 / 1e9).round().max(a + 2.0);
    scene.rect(a, y + (ROW - BAR) / 2.0, b - a, BAR, color);
}

/// The row's name at the left, its value right of the bar, or left of it at the page's end.
fn words_beside(
    scene: &mut Scene,
    x: &Axis,
    y: f64,
    name: &str,
    place: Option<(i64, i64)>,
    words: &str,
) {
    let y = y + ROW / 2.0;
    scene.text(LEFT - 10.0, y, name, size::LABEL, Align::End);
    let Some((from, to)) = place else {
        scene.label(x.from + 8.0, y, words, Align::Start, FAINT);
        return;
    };
    let (a, b) = (x.at(from as f64 / 1e9), x.at(to as f64 / 1e9));
    if b + 8.0 + font::width(words, size::SMALL) <= f64::from(WIDTH) - 6.0 {
        scene.label(b + 8.0, y, words, Align::Start, INK);
    } else {
        scene.label(a - 8.0, y, words, Align::End, INK);
    }
}

/// Round trips of the echoes; requests without a reply as strokes at the top.
fn echo_panel(scene: &mut Scene, x: &Axis, echoes: &[&Echo], top: f64, bottom: f64) {
    let trip = |e: &Echo| Some(e.reply_ns?.saturating_sub(e.request_ns) as f64 / 1e6);
    let highest = echoes.iter().filter_map(|e| trip(e)).fold(0.0, f64::max);
    let y = Axis::up(highest.max(0.001), bottom, top + 16.0);
    axis::vertical(scene, &y, x.from, x.to, "round trip (ms)");
    for e in echoes {
        let px = x.at(e.request_ns as f64 / 1e9);
        match trip(e) {
            Some(t) => scene.dot(px, y.at(t), 2.0, STREAM),
            None => scene.line(vec![(px, top), (px, top + 11.0)], LOST, 2),
        }
    }
    let words = "echo requests: answered (dots), unanswered (strokes)";
    scene.text_in(
        x.from + 2.0,
        top - 12.0,
        words,
        size::SMALL,
        Align::Start,
        FAINT,
    );
}
