//! Colours and letters: one table.

use ratatui::style::{Color, Modifier, Style};

use crate::migration::{OutcomeKind, PhaseName};

/// How a phase is drawn: its letter where there are no colours, its colour (of the 256 that
/// terminals have; told apart by colour-blind readers, after Okabe and Ito), whether text on it is
/// light, and a short name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) phase: PhaseName,
    pub(super) letter: char,
    color: u8,
    light_text: bool,
    pub(super) short: &'static str,
}

const fn look(
    phase: PhaseName,
    letter: char,
    color: u8,
    light_text: bool,
    short: &'static str,
) -> Look {
    Look {
        phase,
        letter,
        color,
        light_text,
        short,
    }
}

use PhaseName as P;

/// The table.
pub(super) const LOOKS: [Look; 9] = [
    look(P::Authentication, 'a', 175, false, "auth"),
    look(P::Initialization, 'i', 246, false, "init"),
    look(P::RemoteConnect, 'c', 74, false, "connect"),
    look(P::Preparation, 'p', 178, false, "prepare"),
    look(P::Storage, 's', 227, false, "storage"),
    look(P::Transfer, 't', 25, true, "transfer"),
    look(P::Finish, 'f', 166, false, "finish"),
    look(P::Cleanup, 'l', 36, false, "cleanup"),
    look(P::PostMigration, 'm', 54, true, "post"),
];

/// Time in no phase.
pub(super) const GAP: char = '·';

/// The look of a phase; the last one's where the table lacks it.
pub(super) fn of(phase: PhaseName) -> &'static Look {
    let found = LOOKS.iter().find(|l| l.phase == phase);
    found.unwrap_or(&LOOKS[LOOKS.len() - 1])
}

/// Styles by what they mean.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    color: bool,
    pub(super) title: Style,
    pub(super) faint: Style,
    pub(super) alarm: Style,
    pub(super) good: Style,
    pub(super) selected: Style,
    pub(super) spark: Style,
}

impl Theme {
    /// With colours, or with letters and emphasis alone (no-color.org).
    pub fn new(color: bool) -> Self {
        let plain = Style::new();
        let in_color = |c: Color| if color { plain.fg(c) } else { plain };
        Self {
            color,
            title: plain.add_modifier(Modifier::BOLD),
            faint: plain.add_modifier(Modifier::DIM),
            alarm: in_color(Color::Indexed(203)).add_modifier(Modifier::BOLD),
            good: in_color(Color::Indexed(36)),
            selected: plain.add_modifier(Modifier::REVERSED),
            spark: in_color(Color::Indexed(74)),
        }
    }

    /// Are there colours?
    pub(super) fn has_color(&self) -> bool {
        self.color
    }

    pub(super) fn phase(&self, phase: PhaseName) -> Style {
        if !self.color {
            return Style::new();
        }
        let l = of(phase);
        let text = if l.light_text {
            Color::Indexed(231)
        } else {
            Color::Indexed(16)
        };
        Style::new().bg(Color::Indexed(l.color)).fg(text)
    }

    pub(super) fn outcome(&self, kind: OutcomeKind) -> Style {
        match kind {
            OutcomeKind::Completed => self.good,
            OutcomeKind::Failed | OutcomeKind::Refused => self.alarm,
            OutcomeKind::Cancelled | OutcomeKind::Unfinished | OutcomeKind::Unknown => Style::new(),
        }
    }
}
