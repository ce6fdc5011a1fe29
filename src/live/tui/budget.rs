//! Where the time went: finished migrations side by side.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders};

use super::app::App;
use super::bars::{self, Piece, fit, styled};
use super::detail::scrolled;
use super::theme::GAP;
use super::title;
use crate::live::view::Shown;
use crate::migration::PhaseName;
use crate::report::units::{duration, percent};

/// Columns of a guest's name, and of a duration.
const NAME: usize = 14;
const TIME: usize = 9;

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let theme = app.theme();
    let list = app.finished();
    let scale = if app.in_times() { "times" } else { "shares" };
    let head = format!(
        "{}{scale}; % changes ",
        title("budget", list.len(), app.view().finished.len())
    );
    let block = Block::new().borders(Borders::TOP).title(head);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let room = usize::from(inner.width).saturating_sub(NAME + TIME + 4);
    let all: Vec<(&Shown, Vec<Piece>)> = list.iter().map(|s| (*s, bars::pieces(s, 0))).collect();
    let longest = all.iter().map(|(_, p)| sum(p)).max().unwrap_or(0);
    let (mean, durations) = mean(&all);
    let mut lines = Vec::new();
    let mut bar = |name: &str, pieces: &[Piece]| {
        let total = sum(pieces);
        let wide = match app.in_times() && longest > 0 {
            true => ((total as f64 / longest as f64 * room as f64).round() as usize).max(1),
            false => room,
        };
        let mut line = vec![Span::raw(format!(" {:<NAME$} ", fit(name, NAME)))];
        line.extend(bars::stacked(pieces, wide, &theme));
        line.push(Span::raw(" ".repeat(room.saturating_sub(wide))));
        line.push(Span::raw(format!(" {:>TIME$}", duration(total))));
        lines.push(Line::from(line));
    };
    if all.len() > 1 {
        bar("mean", &mean);
    }
    for (s, pieces) in &all {
        bar(s.name(), pieces);
    }
    if all.is_empty() {
        lines.push(Line::styled(" no finished migration yet", theme.faint));
    } else {
        lines.push(Line::raw(""));
        let phases: Vec<PhaseName> = durations.iter().map(|(p, _)| *p).collect();
        let mut legend = bars::legend(&phases, &theme);
        legend.push(styled(format!(" {GAP} no phase"), theme.faint));
        lines.push(Line::from(legend));
        lines.push(Line::raw(""));
        lines.extend(table(&durations, &theme));
    }
    scrolled(frame, app, lines, inner);
}

fn sum(pieces: &[Piece]) -> i64 {
    pieces.iter().map(|(_, d)| d).sum()
}

/// The mean bar, and every duration of each phase.
fn mean(all: &[(&Shown, Vec<Piece>)]) -> (Vec<Piece>, Vec<(PhaseName, Vec<i64>)>) {
    let mut sums: Vec<Piece> = Vec::new();
    let mut durations: Vec<(PhaseName, Vec<i64>)> = Vec::new();
    for (_, pieces) in all {
        for (phase, d) in pieces {
            match sums.iter_mut().find(|(p, _)| p == phase) {
                Some((_, total)) => *total += d,
                None => sums.push((*phase, *d)),
            }
        }
    }
    for (s, _) in all {
        for p in &s.migration.phases {
            let Some(d) = p.duration_ns else { continue };
            match durations.iter_mut().find(|(name, _)| *name == p.name) {
                Some((_, list)) => list.push(d),
                None => durations.push((p.name, vec![d])),
            }
        }
    }
    let n = i64::try_from(all.len().max(1)).unwrap_or(i64::MAX);
    for (_, d) in &mut sums {
        *d /= n;
    }
    // Phases in their order, what belongs to none last.
    sums.sort_by_key(|(p, _)| (p.is_none(), *p));
    durations.sort_by_key(|(p, _)| *p);
    (sums, durations)
}

fn table(durations: &[(PhaseName, Vec<i64>)], theme: &super::Theme) -> Vec<Line<'static>> {
    let means: Vec<f64> = durations
        .iter()
        .map(|(_, list)| list.iter().map(|d| *d as f64).sum::<f64>() / list.len().max(1) as f64)
        .collect();
    let total: f64 = means.iter().sum();
    let rows: Vec<Vec<String>> = durations
        .iter()
        .zip(&means)
        .map(|((phase, list), mean)| {
            let edge = |d: Option<&i64>| d.map_or(String::new(), |d| duration(*d));
            vec![
                phase.name().to_owned(),
                list.len().to_string(),
                duration(*mean as i64),
                edge(list.iter().min()),
                edge(list.iter().max()),
                percent(if total > 0.0 { mean / total } else { 0.0 }),
            ]
        })
        .collect();
    let heads = [
        ("phase", false),
        ("n", true),
        ("mean", true),
        ("shortest", true),
        ("longest", true),
        ("share", true),
    ];
    let mut out = Vec::new();
    super::detail::table(&heads, &rows, theme, &mut out);
    if rows.is_empty() {
        out.push(Line::from(styled(" no phase is bounded", theme.faint)));
    }
    out
}
