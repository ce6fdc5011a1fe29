//! What the screen remembers: which migration is selected, what is filtered, where it is scrolled.

use std::path::PathBuf;
use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::keys::{self, Action};
use super::overview::COLUMNS;
use super::theme::Theme;
use crate::live::engine::Engine;
use crate::live::source::Drops;
use crate::live::view::{Load, Shown, View, outcome};

/// What fills the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    /// Running and finished migrations.
    Overview,
    /// One migration.
    Detail,
    /// Finished ones side by side.
    Budget,
    /// The capture.
    Health,
}

const SCREENS: [Screen; 4] = [
    Screen::Overview,
    Screen::Detail,
    Screen::Budget,
    Screen::Health,
];

/// Lines of a page.
const PAGE: i32 = 10;

/// See the module.
pub struct App {
    theme: Theme,
    view: Arc<View>,
    screen: Screen,
    help: bool,
    paused: bool,
    typing: bool,
    done: bool,
    filter: String,
    message: Option<String>,
    selected: Option<u64>,
    sort: Option<usize>,
    reverse: bool,
    times: bool,
    export: Option<(u64, PathBuf)>,
    /// Lines and columns that lie above and to the left; bounded by whoever draws.
    pub(super) scroll: (u16, u16),
}

impl App {
    /// With nothing to show yet.
    pub fn new(theme: Theme) -> Self {
        let load = Load {
            drops: Drops::default(),
            ..Load::default()
        };
        Self {
            theme,
            view: Arc::new(Engine::default().view(load)),
            screen: Screen::Overview,
            help: false,
            paused: false,
            typing: false,
            done: false,
            filter: String::new(),
            message: None,
            selected: None,
            sort: None,
            reverse: false,
            times: false,
            export: None,
            scroll: (0, 0),
        }
    }

    /// A newer view; not shown while paused.
    pub fn update(&mut self, view: &Arc<View>) {
        if self.paused {
            return;
        }
        // The one that was selected has been told: it goes on under its number.
        if let Some(old) = self.selected_shown().cloned()
            && !contains(view, old.key)
        {
            let same = view
                .finished
                .iter()
                .rev()
                .find(|s| s.name() == old.name() && s.begin_ns() == old.begin_ns());
            self.selected = same.map(|s| s.key);
        }
        self.view = view.clone();
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) {
        self.message = None;
        if self.typing && !key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char(c) => self.filter.push(c),
                KeyCode::Backspace => {
                    self.filter.pop();
                }
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => {
                    self.typing = false;
                    self.filter.clear();
                }
                _ => {}
            }
            return;
        }
        if let Some(action) = keys::action(key) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Quit => self.done = true,
            Action::Help => self.help = !self.help,
            Action::Back if self.help => self.help = false,
            Action::Back if self.screen != Screen::Overview => self.go(Screen::Overview),
            Action::Back => self.filter.clear(),
            Action::Go(screen) => self.go(screen),
            Action::Next => {
                let at = SCREENS.iter().position(|s| *s == self.screen).unwrap_or(0);
                self.go(SCREENS[(at + 1) % SCREENS.len()]);
            }
            Action::Up => self.step(-1),
            Action::Down => self.step(1),
            Action::PageUp => self.step(-PAGE),
            Action::PageDown => self.step(PAGE),
            Action::First => self.step(i32::MIN),
            Action::Last => self.step(i32::MAX),
            Action::Left => self.scroll.1 = self.scroll.1.saturating_sub(8),
            Action::Right => self.scroll.1 = self.scroll.1.saturating_add(8),
            Action::Filter => self.typing = true,
            Action::Sort => {
                self.sort = match self.sort {
                    None => Some(0),
                    Some(n) if n + 1 < COLUMNS.len() => Some(n + 1),
                    Some(_) => None,
                };
                self.message = Some(match self.sort.and_then(|n| COLUMNS.get(n)) {
                    Some(c) => format!("sorted by {}", c.head),
                    None => "in the order in which they ended".to_owned(),
                });
            }
            Action::Reverse => self.reverse = !self.reverse,
            Action::Pause => self.paused = !self.paused,
            Action::Scale => self.times = !self.times,
            Action::Export => match self.selected_shown() {
                Some(s) => self.export = Some((s.key, PathBuf::from("."))),
                None => self.message = Some("nothing to export".to_owned()),
            },
        }
    }

    fn go(&mut self, screen: Screen) {
        self.screen = screen;
        self.scroll = (0, 0);
        self.help = false;
    }

    fn step(&mut self, by: i32) {
        if self.screen != Screen::Overview {
            let lines = u16::try_from(by.unsigned_abs()).unwrap_or(u16::MAX);
            self.scroll.0 = match by {
                ..0 => self.scroll.0.saturating_sub(lines),
                _ => self.scroll.0.saturating_add(lines),
            };
            return;
        }
        let keys: Vec<u64> = self.rows().iter().map(|s| s.key).collect();
        let last = keys.len().saturating_sub(1);
        let at = keys.iter().position(|k| Some(*k) == self.selected);
        let to = match (at, by) {
            (_, i32::MIN) => 0,
            (_, i32::MAX) => last,
            // Nothing is selected but the first is shown as if it were.
            (at, by) => {
                let at = i64::try_from(at.unwrap_or(0)).unwrap_or(0) + i64::from(by);
                usize::try_from(at.max(0)).unwrap_or(0).min(last)
            }
        };
        self.selected = keys.get(to).copied();
    }

    fn matches(&self, s: &Shown) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let m = &s.migration;
        let wanted = self.filter.to_lowercase();
        [
            m.guest.name.as_deref(),
            m.guest.uuid.as_deref(),
            m.source.address.as_deref(),
            m.source.hostname.as_deref(),
            m.destination.address.as_deref(),
            m.destination.hostname.as_deref(),
            Some(outcome(m.outcome.result)),
        ]
        .into_iter()
        .flatten()
        .any(|t| t.to_lowercase().contains(&wanted))
    }

    /// Running migrations that the filter lets through.
    pub(super) fn running(&self) -> Vec<&Shown> {
        self.view
            .running
            .iter()
            .filter(|s| self.matches(s))
            .collect()
    }

    /// Finished ones, sorted; the latest first where not told otherwise.
    pub(super) fn finished(&self) -> Vec<&Shown> {
        let all = self.view.finished.iter();
        let mut list: Vec<&Shown> = all.filter(|s| self.matches(s)).collect();
        match self.sort.and_then(|n| COLUMNS.get(n)) {
            Some(column) => list.sort_by(|a, b| (column.order)(a, b)),
            None => list.reverse(),
        }
        if self.reverse {
            list.reverse();
        }
        list
    }

    fn rows(&self) -> Vec<&Shown> {
        let mut all = self.running();
        all.extend(self.finished());
        all
    }

    /// The selected migration, or the first.
    pub(super) fn selected_shown(&self) -> Option<&Shown> {
        let rows = self.rows();
        let found = rows.iter().find(|s| Some(s.key) == self.selected);
        found.or(rows.first()).copied()
    }

    /// The migration of this key.
    pub(super) fn find(&self, key: u64) -> Option<&Shown> {
        let mut all = self.view.running.iter().chain(self.view.finished.iter());
        all.find(|s| s.key == key)
    }

    /// What is to be exported, and into which folder; once.
    pub fn take_export(&mut self) -> Option<(u64, PathBuf)> {
        self.export.take()
    }

    /// Shows this in the last line until the next key.
    pub fn say(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Does it hold still?
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Shall it end?
    pub fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn theme(&self) -> Theme {
        self.theme
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn screen(&self) -> Screen {
        self.screen
    }

    pub(super) fn helps(&self) -> bool {
        self.help
    }

    pub(super) fn is_typing(&self) -> bool {
        self.typing
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    pub(super) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Budget: times, not shares.
    pub(super) fn in_times(&self) -> bool {
        self.times
    }

    /// The column sorted by, and whether the other way around.
    pub(super) fn order(&self) -> (Option<usize>, bool) {
        (self.sort, self.reverse)
    }
}

fn contains(view: &View, key: u64) -> bool {
    let mut all = view.running.iter().chain(view.finished.iter());
    all.any(|s| s.key == key)
}
