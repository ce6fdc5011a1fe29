//! Bars of phases, and throughput as a line of blocks.

use ratatui::style::Style;
use ratatui::text::Span;

use super::theme::{self, GAP, Theme};
use crate::live::view::Shown;
use crate::migration::PhaseName;

/// A piece of a bar: a phase, or time in none; and how long.
pub(super) type Piece = (Option<PhaseName>, i64);

/// The phases one after the other; what is in two at once counts to the first.
pub(super) fn pieces(shown: &Shown, now_ns: i64) -> Vec<Piece> {
    let mut spans = shown.spans(now_ns);
    spans.sort_by_key(|(_, start, end)| (*start, *end));
    let mut out = Vec::new();
    let mut until: Option<i64> = None;
    for (phase, start, end) in spans {
        let from = until.map_or(start, |u| u.max(start));
        if let Some(u) = until
            && from > u
        {
            out.push((None, from - u));
        }
        out.push((Some(phase), (end - from).max(0)));
        until = Some(until.map_or(end, |u| u.max(end)));
    }
    out
}

/// Columns for each piece: in proportion, but at least one for a phase where there is room.
fn columns(pieces: &[Piece], width: usize) -> Vec<usize> {
    let total: i64 = pieces.iter().map(|(_, d)| d).sum();
    if total <= 0 {
        return vec![0; pieces.len()];
    }
    let phases = pieces.iter().filter(|(p, d)| p.is_some() && *d > 0).count();
    let least = usize::from(phases * 2 <= width);
    let mut columns: Vec<usize> = pieces
        .iter()
        .map(|(p, d)| {
            let exact = (*d as f64 / total as f64 * width as f64).round() as usize;
            let floor = if p.is_some() && *d > 0 { least } else { 0 };
            exact.max(floor)
        })
        .collect();
    // Rounding: the widest gives, or takes.
    loop {
        let sum: usize = columns.iter().sum();
        let Some(widest) = columns.iter_mut().max() else {
            return columns;
        };
        match sum.cmp(&width) {
            std::cmp::Ordering::Equal => return columns,
            std::cmp::Ordering::Less => *widest += width - sum,
            std::cmp::Ordering::Greater if *widest == 0 => return columns,
            std::cmp::Ordering::Greater => *widest -= 1,
        }
    }
}

/// The pieces as a bar of this width.
pub(super) fn stacked(pieces: &[Piece], width: usize, theme: &Theme) -> Vec<Span<'static>> {
    pieces
        .iter()
        .zip(columns(pieces, width))
        .filter(|(_, n)| *n > 0)
        .map(|((phase, _), n)| match phase {
            None => Span::styled(GAP.to_string().repeat(n), theme.faint),
            Some(p) => Span::styled(segment(*p, n, theme), theme.phase(*p)),
        })
        .collect()
}

/// A phase's name where there is room, its letter elsewhere.
fn segment(phase: PhaseName, width: usize, theme: &Theme) -> String {
    let look = theme::of(phase);
    let fill = if theme.has_color() { ' ' } else { look.letter };
    let name = if width >= look.short.len() + 2 {
        format!(" {} ", look.short)
    } else {
        look.letter.to_string()
    };
    let mut out: String = name.chars().take(width).collect();
    out.extend(std::iter::repeat_n(fill, width - out.chars().count()));
    out
}

/// What the colours, or letters, mean.
pub(super) fn legend(phases: &[PhaseName], theme: &Theme) -> Vec<Span<'static>> {
    let mut out = Vec::new();
    for p in phases {
        let look = theme::of(*p);
        out.push(Span::styled(format!(" {} ", look.letter), theme.phase(*p)));
        out.push(Span::raw(format!("{}  ", look.short)));
    }
    out
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The latest samples, one a column.
pub(super) fn latest(series: &[u64], width: usize) -> String {
    let from = series.len().saturating_sub(width);
    let blocks = blocks(series.get(from..).unwrap_or_default());
    format!("{blocks:>width$}")
}

/// All samples from the first to the last that are not 0, on this width.
pub(super) fn whole(series: &[u64], width: usize) -> String {
    let used = |n: &u64| *n > 0;
    let (Some(from), Some(to)) = (series.iter().position(used), series.iter().rposition(used))
    else {
        return String::new();
    };
    let series = series.get(from..=to).unwrap_or_default();
    if series.len() <= width {
        return blocks(series);
    }
    let columns: Vec<u64> = (0..width)
        .map(|i| {
            let (a, b) = (i * series.len() / width, (i + 1) * series.len() / width);
            let part = series.get(a..b).unwrap_or_default();
            part.iter().sum::<u64>() / part.len().max(1) as u64
        })
        .collect();
    blocks(&columns)
}

fn blocks(series: &[u64]) -> String {
    let max = series.iter().max().copied().unwrap_or(0).max(1);
    series
        .iter()
        .map(|n| match n {
            0 => ' ',
            n => BLOCKS[((n * 8).div_ceil(max).clamp(1, 8) - 1) as usize],
        })
        .collect()
}

/// Cut to a width, with a mark where something is missing.
pub(super) fn fit(s: &str, width: usize) -> String {
    if s.chars().count() <= width {
        return s.to_owned();
    }
    let mut out: String = s.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// A span of a style.
pub(super) fn styled(s: impl Into<String>, style: Style) -> Span<'static> {
    Span::styled(s.into(), style)
}
