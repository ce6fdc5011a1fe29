//! Bytes and pages of every pass over memory.

use super::axis::{self, Axis};
use super::palette::{Color, INK, POSTCOPY, SECOND, STOPPED, STREAM};
use super::scene::{Align, Scene, size};
use super::{PlotError, font};
use crate::migration::{Migration, Round};
use crate::report::units::count;
use crate::stats::cost::{self, Pass};

const WIDTH: u32 = 760;
const PANEL: f64 = 170.0;

/// Two rows of bars: megabytes above, pages below.
///
/// # Errors
/// No round is known.
pub fn scene(m: &Migration, title: &str) -> Result<Scene, PlotError> {
    let transfer = m
        .transfer
        .as_ref()
        .filter(|t| !t.rounds.is_empty())
        .ok_or_else(|| PlotError::Empty("no round of the transfer is known".to_owned()))?;
    let exact = if transfer.rounds_exact {
        "round"
    } else {
        "round (inferred from pages sent again: at least so many)"
    };
    let mut scene = Scene::new(WIDTH, (2.0 * PANEL + 198.0) as u32);
    scene.title(title);
    let rounds = &transfer.rounds;
    let has = |p: Pass| rounds.iter().any(|r| cost::pass(transfer, r) == p);
    let mut legend = vec![("pages with content, guest running".to_owned(), STREAM)];
    if has(Pass::Stopped) {
        legend.push(("guest stopped".to_owned(), STOPPED));
    }
    if has(Pass::PostCopy) {
        legend.push(("behind the switch to post-copy".to_owned(), POSTCOPY));
    }
    legend.push(("zero pages".to_owned(), SECOND));
    scene.legend(16.0, 46.0, f64::from(WIDTH) - 16.0, &legend);
    let main_color = |r: &Round| Color::of_pass(cost::pass(transfer, r));
    let mega = |r: &Round| vec![(r.bytes as f64 / 1e6, main_color(r))];
    let pages = |r: &Round| {
        let zero = r.zero_pages.min(r.pages);
        vec![
            ((r.pages - zero) as f64, main_color(r)),
            (zero as f64, SECOND),
        ]
    };
    let top = 94.0;
    let words = |r: &Round| format!("{:.1}", r.bytes as f64 / 1e6);
    panel(&mut scene, rounds, top, "megabytes", &mega, &words);
    let words = |r: &Round| count(r.pages);
    let below = top + PANEL + 46.0;
    panel(&mut scene, rounds, below, "pages", &pages, &words);
    let bottom = below + PANEL + 36.0;
    let centre = f64::from(WIDTH) / 2.0;
    scene.text(centre, bottom, exact, size::LABEL, Align::Middle);
    Ok(scene)
}

fn panel(
    scene: &mut Scene,
    rounds: &[Round],
    top: f64,
    name: &str,
    parts: &dyn Fn(&Round) -> Vec<(f64, Color)>,
    words: &dyn Fn(&Round) -> String,
) {
    let (left, right) = (92.0, f64::from(WIDTH) - 20.0);
    let bottom = top + PANEL;
    let sum = |r: &Round| parts(r).iter().map(|(v, _)| v).sum::<f64>();
    let highest = rounds.iter().map(sum).fold(0.0, f64::max);
    // Room for the numbers above the bars.
    let y = Axis::up(highest * PANEL / (PANEL - 14.0), bottom, top);
    axis::vertical(scene, &y, left, right, name);
    scene.line(vec![(left, bottom), (right, bottom)], INK, 1);
    let slot = (right - left) / rounds.len() as f64;
    let thick = (slot * 0.7).min(90.0);
    let mut busy = f64::MIN;
    for (i, r) in rounds.iter().enumerate() {
        let middle = left + slot * (i as f64 + 0.5);
        let mut up = 0.0;
        for (value, color) in parts(r) {
            let (a, b) = (y.at(up), y.at(up + value));
            up += value;
            if value > 0.0 {
                scene.rect(middle - thick / 2.0, b, thick, (a - b).max(1.0), color);
            }
        }
        let number = words(r);
        if font::width(&number, size::SMALL) <= slot - 2.0 {
            let above = y.at(up) - 9.0;
            scene.label(middle, above, &number, Align::Middle, INK);
        }
        let index = r.index.to_string();
        let half = font::width(&index, size::SMALL) / 2.0;
        if middle - half > busy {
            scene.text(middle, bottom + 13.0, &index, size::SMALL, Align::Middle);
            busy = middle + half + 6.0;
        }
    }
}
