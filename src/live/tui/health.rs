//! Can the numbers be trusted? What was dropped, what is missing, what is odd.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders};

use super::app::App;
use super::bars::{latest, styled};
use super::detail::scrolled;
use crate::live::source::QUEUE;
use crate::live::view;
use crate::report::units::{bytes, count};

pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let block = Block::new().borders(Borders::TOP).title(" health ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let lines = lines(app, usize::from(inner.width));
    scrolled(frame, app, lines, inner);
}

/// Name and value; the value in the style for what should not be, where it is not 0.
fn row(name: &str, value: String, style: Style) -> Line<'static> {
    Line::from(vec![
        Span::raw(format!(" {name:<24} ")),
        styled(value, style),
    ])
}

fn lines(app: &App, width: usize) -> Vec<Line<'static>> {
    let (v, t) = (app.view(), app.theme());
    let (c, h, d) = (&v.capture, &v.capture.health, &v.load.drops);
    let plain = Style::new();
    let bad = |n: u64| if n > 0 { t.alarm } else { plain };
    let mut out = vec![Line::styled(" Dropped packets", t.title)];
    for (name, n) in [
        ("by the kernel", d.kernel),
        ("by the device", d.interface),
        ("before the analysis", d.queue),
        ("before the recorder", d.recorder),
    ] {
        out.push(row(name, count(n), bad(n)));
    }
    if let Some(s) = &v.load.streams {
        out.push(Line::styled(" DPMI streams", t.title));
        for (name, n, wrong) in [
            ("streams", s.streams, false),
            ("measurement frames", s.frames, false),
            ("packets in them", s.records, false),
            ("frames lost", s.lost, true),
            ("places of loss", s.gaps, true),
            ("late", s.late, true),
            ("restarts of senders", s.restarts, true),
            ("broken", s.broken + s.disagreeing, true),
            ("of unknown version", s.foreign, true),
        ] {
            out.push(row(name, count(n), if wrong { bad(n) } else { plain }));
        }
    }
    out.push(Line::styled(" Traffic", t.title));
    let spark = latest(&v.rate, width.saturating_sub(44).min(60));
    out.push(Line::from(vec![
        Span::raw(format!(
            " {:<24} {:<16} ",
            "rate",
            format!("{}/s", bytes(view::rate(&v.rate)))
        )),
        styled(spark, t.spark),
    ]));
    let total = format!("{} ({})", count(c.packets), bytes(c.bytes));
    out.push(row("packets", total, plain));
    out.push(row("TCP connections", count(c.connections), plain));
    out.push(Line::styled(" What is not there", t.title));
    for (name, n, in_bytes) in [
        ("bytes missing", h.missing_bytes, true),
        ("bytes cut off", h.cut_bytes, true),
        ("packets cut", h.cut_packets, false),
        ("bytes retransmitted", h.retransmitted_bytes, true),
        ("packets out of order", h.reordered_packets, false),
    ] {
        let value = if in_bytes { bytes(n) } else { count(n) };
        out.push(row(name, value, bad(n)));
    }
    for (name, n) in &h.oddities {
        out.push(row(name, count(*n), t.alarm));
    }
    out.push(Line::styled(" This program", t.title));
    if v.load.memory_bytes > 0 {
        out.push(row("memory", bytes(v.load.memory_bytes), plain));
    }
    let queued = format!("{} of {QUEUE} batches", v.load.queued);
    out.push(row("queue", queued, plain));
    if !c.echoes.is_empty() {
        out.push(Line::styled(" Echo series", t.title));
    }
    for e in &c.echoes {
        let value = format!(
            "id {}: {} requests, {} unanswered",
            e.id,
            count(e.requests),
            count(e.unanswered)
        );
        let name = format!("{} → {}", e.pinger, e.target);
        out.push(row(&name, value, bad(e.unanswered)));
    }
    out
}
