//! The screen: what a [`View`] holds, drawn; keys in, nothing out but drawings. It reads the latest
//! view and never holds the capture up.

mod app;
mod bars;
mod budget;
mod detail;
mod export;
mod health;
mod help;
mod keys;
mod overview;
mod theme;

use std::io;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

pub use app::{App, Screen};
pub use export::export;
pub use keys::Action;
pub use theme::Theme;

use keys::KEYS;

use super::monitor::Monitor;
use super::view::{self, View};
use crate::report::units::{bytes, count, seconds};

/// Between two drawings where no key is pressed.
const REDRAW: Duration = Duration::from_millis(100);

/// Smallest screen that anything fits on.
const MIN_WIDTH: u16 = 30;
const MIN_HEIGHT: u16 = 8;

/// Shows the monitor until it is told to quit, by key or by `quit`. The terminal is whole again
/// afterwards, also after a panic on any thread.
///
/// # Errors
/// The terminal's.
pub fn run(monitor: &Monitor, theme: Theme, mut quit: impl FnMut() -> bool) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let mut app = App::new(theme);
    let done = loop {
        // Its panic has restored the terminal and told why: nothing is drawn over that.
        if monitor.has_died() {
            break Ok(());
        }
        let latest = monitor.view();
        app.update(&latest);
        monitor.hold(app.is_paused());
        if let Err(e) = terminal.draw(|frame| draw(frame, &mut app)) {
            break Err(e);
        }
        if quit() {
            break Ok(());
        }
        match next_key() {
            Ok(Some(key)) => app.key(key),
            Ok(None) => {}
            Err(e) => break Err(e),
        }
        if let Some((key, folder)) = app.take_export() {
            app.say(export(&app, key, &folder));
        }
        if app.is_done() {
            break Ok(());
        }
    };
    ratatui::try_restore()?;
    done
}

fn next_key() -> io::Result<Option<event::KeyEvent>> {
    if !event::poll(REDRAW)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(k) if k.kind != KeyEventKind::Release => Some(k),
        _ => None,
    })
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let area = frame.area();
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let [top, body, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_top(frame, app, top);
    match app.screen() {
        Screen::Overview => overview::draw(frame, app, body),
        Screen::Detail => detail::draw(frame, app, body),
        Screen::Budget => budget::draw(frame, app, body),
        Screen::Health => health::draw(frame, app, body),
    }
    draw_bottom(frame, app, bottom);
    if app.helps() {
        help::draw(frame, app, area);
    }
}

/// The source, and whether it does well.
fn draw_top(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let (v, t) = (app.view(), app.theme());
    let dropped = v.load.drops.unseen();
    let mut parts = vec![
        Span::styled(format!(" {} ", v.source), t.title),
        Span::raw(format!(" {} s", short_seconds(v.now_ns()))),
    ];
    match &v.ended {
        Some(None) => parts.push(Span::styled("  ended", t.faint)),
        Some(Some(why)) => parts.push(Span::styled(format!("  ended: {why}"), t.alarm)),
        None if app.is_paused() => parts.push(Span::styled("  paused", t.alarm)),
        None => {}
    }
    if dropped > 0 {
        parts.push(Span::styled(
            format!("  {} dropped", count(dropped)),
            t.alarm,
        ));
    }
    parts.push(Span::raw(format!(
        "  {}/s  {} packets",
        bytes(view::rate(&v.rate)),
        count(v.capture.packets)
    )));
    frame.render_widget(Line::from(parts), area);
}

/// `12.3`: as many digits as can be read while it changes.
fn short_seconds(ns: i64) -> String {
    let exact = seconds(ns);
    let end = exact.find('.').map_or(exact.len(), |dot| dot + 2);
    exact.get(..end).unwrap_or(&exact).to_owned()
}

/// What was said last, what is being typed, or the most useful keys.
fn draw_bottom(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let t = app.theme();
    let line = if app.is_typing() {
        Line::from(vec![
            Span::styled(" filter: ", t.title),
            Span::raw(format!("{}_", app.filter())),
        ])
    } else if let Some(message) = app.message() {
        Line::styled(format!(" {message}"), t.title)
    } else {
        let mut parts = vec![];
        let mut left = usize::from(area.width);
        for k in KEYS.iter().filter(|k| k.hint && k.fits(app.screen())) {
            let long = k.label.chars().count() + k.word.chars().count() + 3;
            if long > left {
                break;
            }
            left -= long;
            parts.push(Span::styled(format!(" {}", k.label), t.title));
            parts.push(Span::raw(format!(" {} ", k.word)));
        }
        Line::from(parts)
    };
    frame.render_widget(line, area);
}

/// What the screen is titled with where a filter hides something.
fn title(what: &str, shown: usize, all: usize) -> String {
    if shown == all {
        format!(" {what} ({all}) ")
    } else {
        format!(" {what} ({shown} of {all}) ")
    }
}

/// For [`App`]s that have no view yet.
fn is_empty(view: &View) -> bool {
    view.running.is_empty() && view.finished.is_empty()
}
