//! Running migrations as cards, finished ones as a table.

use std::cmp::Ordering;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::app::App;
use super::bars::{self, fit, styled};
use super::theme::{self, Theme};
use super::{is_empty, title};
use crate::live::view::{Shown, Trend, outcome};
use crate::migration::{Host, PhaseName};
use crate::report::units::{bytes, count, duration};

/// Lines of a running migration, with room and without.
const TALL: u16 = 4;
const LOW: u16 = 2;
/// From so many lines on there is room.
const ROOM: u16 = 16;
/// Lines that the finished ones have at least: head and three of them.
const TABLE: u16 = 6;
/// Columns of a throughput.
const SPARK: usize = 20;

/// A column of the finished ones.
pub(super) struct Column {
    pub(super) head: &'static str,
    width: usize,
    right: bool,
    cell: fn(&Shown) -> String,
    pub(super) order: fn(&Shown, &Shown) -> Ordering,
}

fn host(h: &Host) -> &str {
    let name = h.hostname.as_deref().or(h.address.as_deref());
    name.unwrap_or("?")
}

fn phase_ns(s: &Shown, name: PhaseName) -> Option<i64> {
    let phases = &s.migration.phases;
    phases.iter().find(|p| p.name == name)?.duration_ns
}

fn downtime_ns(s: &Shown) -> Option<i64> {
    s.migration.downtime.iter().find_map(|d| d.duration_ns)
}

fn time(ns: Option<i64>) -> String {
    ns.map_or("?".to_owned(), duration)
}

/// The columns, the most important first: those that do not fit are left out. Longest first where
/// sorted by a number.
pub(super) const COLUMNS: &[Column] = &[
    Column {
        head: "guest",
        width: 14,
        right: false,
        cell: |s| s.name().to_owned(),
        order: |a, b| a.name().cmp(b.name()),
    },
    Column {
        head: "outcome",
        width: 10,
        right: false,
        cell: |s| outcome(s.migration.outcome.result).to_owned(),
        order: |a, b| a.state().cmp(b.state()),
    },
    Column {
        head: "total",
        width: 9,
        right: true,
        cell: |s| time(s.migration.total_time_ns),
        order: |a, b| b.migration.total_time_ns.cmp(&a.migration.total_time_ns),
    },
    Column {
        head: "downtime",
        width: 9,
        right: true,
        cell: |s| time(downtime_ns(s)),
        order: |a, b| downtime_ns(b).cmp(&downtime_ns(a)),
    },
    Column {
        head: "transfer",
        width: 9,
        right: true,
        cell: |s| time(phase_ns(s, PhaseName::Transfer)),
        order: |a, b| phase_ns(b, PhaseName::Transfer).cmp(&phase_ns(a, PhaseName::Transfer)),
    },
    Column {
        head: "bytes",
        width: 10,
        right: true,
        cell: |s| bytes(s.page_bytes),
        order: |a, b| b.page_bytes.cmp(&a.page_bytes),
    },
    Column {
        head: "rounds",
        width: 6,
        right: true,
        cell: |s| s.rounds().to_string(),
        order: |a, b| b.rounds().cmp(&a.rounds()),
    },
    Column {
        head: "from",
        width: 14,
        right: false,
        cell: |s| host(&s.migration.source).to_owned(),
        order: |a, b| host(&a.migration.source).cmp(host(&b.migration.source)),
    },
    Column {
        head: "to",
        width: 14,
        right: false,
        cell: |s| host(&s.migration.destination).to_owned(),
        order: |a, b| host(&a.migration.destination).cmp(host(&b.migration.destination)),
    },
    Column {
        head: "pages",
        width: 10,
        right: true,
        cell: |s| count(s.pages()),
        order: |a, b| b.pages().cmp(&a.pages()),
    },
];

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let running = app.running();
    let n = u16::try_from(running.len()).unwrap_or(u16::MAX).max(1);
    let lines = |each: u16| n.saturating_mul(each).saturating_add(1);
    let room = match app.view().finished.is_empty() {
        true => area.height.saturating_sub(3),
        false => area.height - TABLE.min(area.height / 2),
    };
    let tall = lines(TALL) <= room || area.height >= ROOM;
    let each = if tall { TALL } else { LOW };
    let high = match app.view().finished.is_empty() {
        true => room,
        false => lines(if running.is_empty() { 1 } else { each }).min(room),
    };
    let [top, bottom] =
        Layout::vertical([Constraint::Length(high), Constraint::Min(0)]).areas(area);
    draw_running(frame, app, &running, top, tall);
    draw_finished(frame, app, bottom);
}

fn draw_running(frame: &mut Frame<'_>, app: &App, running: &[&Shown], area: Rect, tall: bool) {
    let theme = app.theme();
    let block = Block::new().borders(Borders::TOP).title(title(
        "running",
        running.len(),
        app.view().running.len(),
    ));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if running.is_empty() {
        let words = match (is_empty(app.view()), app.filter().is_empty()) {
            (_, false) => "none that the filter lets through",
            (true, _) => "no migration so far; waiting for a PREPARE or a stream",
            (false, _) => "none",
        };
        frame.render_widget(
            Paragraph::new(styled(format!(" {words}"), theme.faint)),
            inner,
        );
        return;
    }
    let each = usize::from(if tall { TALL } else { LOW });
    let fit_in = (usize::from(inner.height) / each).max(1);
    let selected = app.selected_shown().map(|s| s.key);
    let at = running.iter().position(|s| Some(s.key) == selected);
    let first = at.unwrap_or(0).saturating_sub(fit_in - 1);
    let mut lines = Vec::new();
    for s in running.iter().skip(first).take(fit_in) {
        let chosen = Some(s.key) == selected;
        let width = usize::from(inner.width);
        lines.extend(card(s, app.view().now_ns(), width, &theme, chosen, tall));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

/// Who, where it stands, and how it does.
fn card(
    s: &Shown,
    now_ns: i64,
    width: usize,
    theme: &Theme,
    chosen: bool,
    tall: bool,
) -> Vec<Line<'static>> {
    let style = if chosen { theme.selected } else { theme.title };
    let elapsed = s.elapsed_ns(now_ns).map_or(String::new(), duration);
    let m = &s.migration;
    let hosts = format!("{} → {}", host(&m.source), host(&m.destination));
    let down = s.pause(now_ns).filter(|(_, stopped)| *stopped);
    let (state, state_style) = match down {
        // Nothing else matters as much, and where there is no room, nothing else is shown.
        Some((down, _)) if !tall => (format!("down {down}"), theme.alarm),
        _ => (
            format!("{}  {elapsed}", s.state()),
            theme.outcome(m.outcome.result),
        ),
    };
    let name = format!(" {} ", s.name());
    let room = width.saturating_sub(name.chars().count() + state.chars().count() + 3);
    let hosts = if room >= 12 {
        fit(&hosts, room)
    } else {
        String::new()
    };
    let head = vec![
        styled(name, style),
        Span::raw(format!(" {hosts:<room$} ")),
        styled(state, state_style),
    ];
    let mut bar = vec![Span::raw(" ")];
    bar.extend(bars::stacked(
        &bars::pieces(s, now_ns),
        width.saturating_sub(2),
        theme,
    ));
    if !tall {
        return vec![Line::from(head), Line::from(bar)];
    }
    vec![
        Line::from(head),
        Line::from(bar),
        phases(s, now_ns, width),
        progress(s, now_ns, width, theme),
    ]
}

/// How long each phase took, or takes.
fn phases(s: &Shown, now_ns: i64, width: usize) -> Line<'static> {
    let parts: Vec<String> = s
        .spans(now_ns)
        .into_iter()
        .map(|(p, from, to)| {
            let more = if s.phase == Some(p) { "…" } else { "" };
            format!("{} {}{more}", theme::of(p).short, duration(to - from))
        })
        .collect();
    Line::raw(fit(&format!(" {}", parts.join("  ")), width))
}

/// Throughput, what was sent, and whether it gets anywhere; what matters less is left out where
/// there is no room.
fn progress(s: &Shown, now_ns: i64, width: usize, theme: &Theme) -> Line<'static> {
    let mut parts = Vec::new();
    let mut sent = Vec::new();
    if s.page_bytes > 0 {
        parts.push(Span::raw(format!("{}/s", bytes(s.rate()))));
        parts.push(Span::raw(format!("round {}", s.rounds())));
        match s.trend() {
            Trend::Unknown => {}
            Trend::Converging(part) => {
                parts.push(styled(format!("converging ×{part:.2}"), theme.good));
            }
            Trend::Stuck(part) => {
                parts.push(styled(format!("not converging ×{part:.2}"), theme.alarm));
            }
        }
        sent = vec![bytes(s.page_bytes), format!("{} pages", count(s.pages()))];
    }
    if let Some((down, stopped)) = s.pause(now_ns) {
        let style = if stopped { theme.alarm } else { theme.title };
        let down = styled(format!("down {down}"), style);
        parts.insert(if stopped { 0 } else { parts.len() }, down);
    }
    let mut used: usize = parts.iter().map(|p| p.width() + 2).sum();
    for more in sent {
        if used + more.len() + 2 + SPARK + 2 <= width {
            used += more.len() + 2;
            parts.push(Span::raw(more));
        }
    }
    let spark = width.saturating_sub(used + 2).min(SPARK);
    let mut line = vec![Span::raw(" ")];
    if s.page_bytes > 0 && spark >= 4 {
        line.push(styled(bars::latest(&s.series, spark), theme.spark));
        line.push(Span::raw(" "));
    }
    for part in parts {
        line.extend([part, Span::raw("  ")]);
    }
    Line::from(line)
}

fn draw_finished(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let (theme, list) = (app.theme(), app.finished());
    let mut head = title("finished", list.len(), app.view().finished.len());
    let (sort, reverse) = app.order();
    if let Some(c) = sort.and_then(|n| COLUMNS.get(n)) {
        head.push_str(&format!(
            "by {}{} ",
            c.head,
            if reverse { ", reversed" } else { "" }
        ));
    }
    if app.view().forgotten > 0 {
        head.push_str(&format!(
            "{} older ones are not kept ",
            app.view().forgotten
        ));
    }
    let block = Block::new().borders(Borders::TOP).title(head);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if list.is_empty() || inner.height < 2 {
        return;
    }
    let width = usize::from(inner.width);
    let mut used = 1;
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .take_while(|c| {
            used += c.width + 2;
            used <= width + 2
        })
        .collect();
    let row = |cells: &mut dyn Iterator<Item = String>| -> String {
        let parts: Vec<String> = columns
            .iter()
            .zip(cells)
            .map(|(c, cell)| {
                let (cell, w) = (fit(&cell, c.width), c.width);
                if c.right {
                    format!("{cell:>w$}")
                } else {
                    format!("{cell:<w$}")
                }
            })
            .collect();
        format!(" {}", parts.join("  "))
    };
    let mut lines = vec![Line::styled(
        row(&mut columns.iter().map(|c| c.head.to_owned())),
        theme.faint,
    )];
    let selected = app.selected_shown().map(|s| s.key);
    let fit_in = usize::from(inner.height) - 1;
    let at = list.iter().position(|s| Some(s.key) == selected);
    let first = at.unwrap_or(0).saturating_sub(fit_in - 1);
    for s in list.iter().skip(first).take(fit_in) {
        let text = row(&mut columns.iter().map(|c| (c.cell)(s)));
        let style = if Some(s.key) == selected {
            theme.selected
        } else {
            theme.outcome(s.migration.outcome.result)
        };
        let mut line = vec![styled(text, style)];
        let left = width.saturating_sub(used_by(&columns) + 2);
        if columns.len() == COLUMNS.len() && left >= 16 {
            line.push(Span::raw("  "));
            line.extend(bars::stacked(&bars::pieces(s, 0), left.min(60), &theme));
        }
        lines.push(Line::from(line));
    }
    frame.render_widget(Paragraph::new(lines), inner);
}

fn used_by(columns: &[&Column]) -> usize {
    columns.iter().map(|c| c.width + 2).sum::<usize>()
}
