//! Keys: one table, from which they work, and from which the help is drawn.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::Screen;

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ends the program.
    Quit,
    /// Closes what is open: help, filter, a screen.
    Back,
    /// Shows or hides the keys.
    Help,
    /// Selects, or scrolls.
    Up,
    /// See [`Action::Up`].
    Down,
    /// Scrolls sideways.
    Left,
    /// See [`Action::Left`].
    Right,
    /// Ten lines.
    PageUp,
    /// See [`Action::PageUp`].
    PageDown,
    /// To the first.
    First,
    /// To the last.
    Last,
    /// To another screen.
    Go(Screen),
    /// To the next screen.
    Next,
    /// Begins to type a filter.
    Filter,
    /// Sorts by the next column.
    Sort,
    /// The other way around.
    Reverse,
    /// Holds the screen still, and a replay; goes on.
    Pause,
    /// Writes the selected migration into files.
    Export,
    /// Shares, or times.
    Scale,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    code: KeyCode,
    /// As people call it.
    pub label: &'static str,
    /// What it does.
    pub action: Action,
    /// In one word, for the last line.
    pub word: &'static str,
    /// In a sentence, for the help.
    pub help: &'static str,
    /// Is it in the last line?
    pub hint: bool,
}

const fn key(
    code: KeyCode,
    label: &'static str,
    action: Action,
    word: &'static str,
    help: &'static str,
    hint: bool,
) -> Key {
    Key {
        code,
        label,
        action,
        word,
        help,
        hint,
    }
}

use Action as A;
use KeyCode::{Char, Down, End, Enter, Esc, Home, Left, PageDown, PageUp, Right, Tab, Up};

/// The table. Rows without help are other names of the rows above them.
#[rustfmt::skip]
pub(crate) const KEYS: &[Key] = &[
    key(Char('q'), "q", A::Quit, "quit", "quit; everything analysed so far is told", true),
    key(Char('?'), "?", A::Help, "help", "these keys", true),
    key(Enter, "Enter", A::Go(Screen::Detail), "detail", "timeline, rounds, downtime, evidence of the selected one", true),
    key(Esc, "Esc", A::Back, "back", "close the help, drop the filter, back to the overview", true),
    key(Char('1'), "1", A::Go(Screen::Overview), "overview", "running and finished migrations", false),
    key(Char('2'), "2", A::Go(Screen::Detail), "detail", "", false),
    key(Char('b'), "b", A::Go(Screen::Budget), "budget", "where the time went, finished migrations side by side", true),
    key(Char('3'), "3", A::Go(Screen::Budget), "budget", "", false),
    key(Char('h'), "h", A::Go(Screen::Health), "health", "drops, gaps, connections, memory, oddities", true),
    key(Char('4'), "4", A::Go(Screen::Health), "health", "", false),
    key(Tab, "Tab", A::Next, "next", "the next screen", false),
    key(Char('/'), "/", A::Filter, "filter", "only migrations with this in guest, host or outcome", true),
    key(Char('s'), "s", A::Sort, "sort", "sort finished migrations by the next column", true),
    key(Char('r'), "r", A::Reverse, "reverse", "sort the other way around", false),
    key(Char('p'), "p", A::Pause, "pause", "hold the screen still (and a replay); the capture goes on", true),
    key(Char(' '), "Space", A::Pause, "pause", "", false),
    key(Char('e'), "e", A::Export, "export", "write the selected migration into this folder: JSON, SVG, PNG", true),
    key(Char('%'), "%", A::Scale, "scale", "budget: shares of the whole, or times on one scale", false),
    key(Up, "Up", A::Up, "up", "select, or scroll: also k, j, PgUp, PgDn, g, G", false),
    key(Char('k'), "k", A::Up, "up", "", false),
    key(Down, "Down", A::Down, "down", "", false),
    key(Char('j'), "j", A::Down, "down", "", false),
    key(Left, "Left", A::Left, "left", "scroll sideways where a table is too wide", false),
    key(Right, "Right", A::Right, "right", "", false),
    key(PageUp, "PgUp", A::PageUp, "up", "", false),
    key(PageDown, "PgDn", A::PageDown, "down", "", false),
    key(Home, "Home", A::First, "first", "", false),
    key(Char('g'), "g", A::First, "first", "", false),
    key(End, "End", A::Last, "last", "", false),
    key(Char('G'), "G", A::Last, "last", "", false),
];

impl Key {
    /// Is it of use there? Only for the last line.
    pub(super) fn fits(&self, screen: Screen) -> bool {
        match self.action {
            Action::Go(to) => to != screen,
            Action::Back => screen != Screen::Overview,
            Action::Sort | Action::Filter => screen != Screen::Detail && screen != Screen::Health,
            Action::Export => screen != Screen::Health,
            _ => true,
        }
    }
}

/// What the key does.
pub(super) fn action(event: KeyEvent) -> Option<Action> {
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return (event.code == Char('c')).then_some(Action::Quit);
    }
    let found = KEYS.iter().find(|k| k.code == event.code);
    found.map(|k| k.action)
}
