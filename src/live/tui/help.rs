//! The keys, over whatever is there.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::app::App;
use super::bars::{legend, styled};
use super::keys::KEYS;
use super::theme::{GAP, LOOKS};

/// Columns of the text, and lines around it.
const WIDTH: u16 = 76;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let t = app.theme();
    let mut lines: Vec<Line<'_>> = KEYS
        .iter()
        .filter(|k| !k.help.is_empty())
        .map(|k| {
            let others = KEYS.iter().filter(|o| o.action == k.action);
            let labels: Vec<&str> = others.map(|o| o.label).take(2).collect();
            Line::from(vec![
                styled(format!(" {:<9} ", labels.join(" ")), t.title),
                Span::raw(k.help),
            ])
        })
        .collect();
    lines.push(Line::raw(""));
    let phases: Vec<_> = LOOKS.iter().map(|l| l.phase).collect();
    for some in phases.chunks(5) {
        lines.push(Line::from(legend(some, &t)));
    }
    lines.push(Line::styled(format!(" {GAP}  time in no phase"), t.faint));
    let high = u16::try_from(lines.len()).unwrap_or(u16::MAX) + 2;
    let (w, h) = (WIDTH.min(area.width), high.min(area.height));
    let place = Rect::new((area.width - w) / 2, (area.height - h) / 2, w, h);
    let block = Block::bordered().title(" keys; ? or Esc closes ");
    frame.render_widget(Clear, place);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(block), place);
}
