//! One migration: timeline, throughput, the report's tables, and the evidence of each boundary.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::app::App;
use super::bars::{self, styled};
use super::theme::{self, Theme};
use crate::live::view::{Shown, View};
use crate::migration::{Boundary, Certainty};
use crate::report::Report;
use crate::report::document::{self, Piece};
use crate::report::units::{bytes, duration, seconds};

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let theme = app.theme();
    let head = app
        .selected_shown()
        .map_or(" no migration ".to_owned(), |s| {
            format!(" {}: {} ", s.name(), s.state())
        });
    let block = Block::new().borders(Borders::TOP).title(head);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let width = usize::from(inner.width);
    let lines = match app.selected_shown() {
        Some(s) => lines(s, app.view(), width, &theme),
        None => vec![Line::raw(" nothing is selected: there is no migration yet")],
    };
    scrolled(frame, app, lines, inner);
}

/// Draws what of the lines is in sight.
pub(super) fn scrolled(frame: &mut Frame<'_>, app: &mut App, lines: Vec<Line<'_>>, area: Rect) {
    let high = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let wide = lines.iter().map(Line::width).max().unwrap_or(0);
    let wide = u16::try_from(wide).unwrap_or(u16::MAX);
    app.scroll.0 = app.scroll.0.min(high.saturating_sub(area.height));
    app.scroll.1 = app.scroll.1.min(wide.saturating_sub(area.width));
    let below = high.saturating_sub(area.height) > app.scroll.0;
    frame.render_widget(Paragraph::new(lines).scroll(app.scroll), area);
    if below && area.width > 0 && area.height > 0 {
        let mark = Rect::new(area.right() - 1, area.bottom() - 1, 1, 1);
        frame.render_widget(Span::styled("↓", app.theme().title), mark);
    }
}

fn lines(s: &Shown, view: &View, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let now_ns = view.now_ns();
    let mut out = timeline(s, now_ns, width, theme);
    let peak = s.series.iter().max().copied().unwrap_or(0);
    if peak > 0 {
        let label = format!(" peak {}/s ", bytes(peak * 4));
        let room = width.saturating_sub(label.chars().count() + 1);
        out.push(Line::from(vec![
            styled(label, theme.faint),
            styled(bars::whole(&s.series, room), theme.spark),
        ]));
    }
    let report = Report::new(view.capture.clone(), vec![(*s.migration).clone()]);
    let pieces = document::pieces(&report, true);
    // The capture's own part comes before the second heading.
    let begin = pieces
        .iter()
        .enumerate()
        .filter(|(_, p)| matches!(p, Piece::Heading(1, _)))
        .nth(1)
        .map_or(0, |(i, _)| i + 1);
    for piece in pieces.iter().skip(begin) {
        draw_piece(piece, width, theme, &mut out);
    }
    out.push(Line::raw(""));
    out.push(Line::styled(" Evidence", theme.title));
    let mut rows = Vec::new();
    for p in &s.migration.phases {
        for (edge, b) in [("start", &p.start), ("end", &p.end)] {
            rows.push(evidence(p.name.name(), edge, b.as_ref()));
        }
    }
    let heads = [
        ("phase", false),
        ("edge", false),
        ("time (s)", true),
        ("frame", true),
        ("marker", false),
        ("certainty", false),
    ];
    table(&heads, &rows, theme, &mut out);
    out
}

fn evidence(phase: &str, edge: &str, b: Option<&Boundary>) -> Vec<String> {
    let cell = |f: &dyn Fn(&Boundary) -> String| b.map_or(String::new(), f);
    vec![
        phase.to_owned(),
        edge.to_owned(),
        b.map_or("unknown".to_owned(), |b| seconds(b.offset_ns)),
        cell(&|b| b.frame.to_string()),
        cell(&|b| b.marker.clone()),
        cell(&|b| match b.certainty {
            Certainty::Decoded => "decoded".to_owned(),
            Certainty::Transport => "transport".to_owned(),
            Certainty::Inferred => format!("inferred ±{}", duration(b.uncertainty_ns)),
        }),
    ]
}

/// Each phase on a line of its own, where it lies in the whole.
fn timeline(s: &Shown, now_ns: i64, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let spans = s.spans(now_ns);
    let from = spans.iter().map(|(_, a, _)| *a).min().unwrap_or(0);
    let to = spans.iter().map(|(_, _, b)| *b).max().unwrap_or(0);
    // Name before, duration behind.
    let room = width.saturating_sub(10 + 10 + 2);
    let column = |t: i64| match to - from {
        0 => 0,
        all => ((t - from) as f64 / all as f64 * room as f64).round() as usize,
    };
    spans
        .into_iter()
        .map(|(p, a, b)| {
            let look = theme::of(p);
            let (x, y) = (column(a).min(room.saturating_sub(1)), column(b));
            let long = y.saturating_sub(x).max(1);
            let fill = if theme.has_color() { ' ' } else { look.letter };
            Line::from(vec![
                Span::raw(format!(" {:<9}", look.short)),
                styled(" ".repeat(x), theme.faint),
                styled(fill.to_string().repeat(long), theme.phase(p)),
                Span::raw(" ".repeat(room.saturating_sub(x + long))),
                Span::raw(format!(" {:>10}", duration(b - a))),
            ])
        })
        .collect()
}

fn draw_piece(piece: &Piece, width: usize, theme: &Theme, out: &mut Vec<Line<'static>>) {
    match piece {
        Piece::Heading(_, s) => {
            out.push(Line::raw(""));
            out.push(Line::styled(format!(" {s}"), theme.title));
        }
        Piece::Pairs(pairs) => {
            let long = pairs.iter().map(|(n, _)| n.chars().count()).max();
            let long = long.unwrap_or(0);
            for (name, value) in pairs {
                let room = width.saturating_sub(long + 3).max(10);
                for (i, part) in wrap(value, room).into_iter().enumerate() {
                    let name = if i == 0 { name.as_str() } else { "" };
                    out.push(Line::from(vec![
                        styled(format!(" {name:<long$}  "), theme.faint),
                        Span::raw(part),
                    ]));
                }
            }
        }
        Piece::Table(heads, rows) => table(heads, rows, theme, out),
        Piece::Note(s) => {
            for (i, part) in wrap(s, width.saturating_sub(4).max(10))
                .into_iter()
                .enumerate()
            {
                let lead = if i == 0 { " ! " } else { "   " };
                out.push(Line::raw(format!("{lead}{part}")));
            }
        }
    }
}

pub(super) fn table(
    heads: &[(&'static str, bool)],
    rows: &[Vec<String>],
    theme: &Theme,
    out: &mut Vec<Line<'static>>,
) {
    let mut widths: Vec<usize> = heads.iter().map(|(h, _)| h.chars().count()).collect();
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::from(" ");
        for ((cell, w), (_, right)) in cells.zip(&widths).zip(heads) {
            line.push_str(&if *right {
                format!("{cell:>w$}  ")
            } else {
                format!("{cell:<w$}  ")
            });
        }
        line.trim_end().to_owned()
    };
    out.push(Line::styled(
        line(&mut heads.iter().map(|(h, _)| *h)),
        theme.faint,
    ));
    for row in rows {
        out.push(Line::raw(line(&mut row.iter().map(String::as_str))));
    }
}

/// Breaks at spaces, and anywhere in a word that is too long.
fn wrap(s: &str, max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in s.split(' ') {
        let long = word.chars().count();
        if used > 0 && used + 1 + long > max {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += long;
        }
    }
    lines
}
