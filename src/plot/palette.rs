//! The colours: one table, the same in every picture.
//!
//! Paul Tol's *muted* scheme (nine colours that differ for people with any of the common kinds of
//! colour blindness, and its pale grey for what is missing), ordered so that phases that follow
//! each other differ in brightness too.

use crate::migration::PhaseName;
use crate::stats::cost::Pass;

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Color(pub u8, pub u8, pub u8);

/// Text, axes.
pub(crate) const INK: Color = Color(0x22, 0x22, 0x22);
/// Second-rank text.
pub(crate) const FAINT: Color = Color(0x66, 0x66, 0x66);
/// Grid lines.
pub(crate) const GRID: Color = Color(0xe2, 0xe2, 0xe2);
/// Page.
pub(crate) const PAPER: Color = Color(0xff, 0xff, 0xff);
/// Time between phases.
pub(crate) const GAP: Color = Color(0xdd, 0xdd, 0xdd);
/// Time whose phase is not known.
pub(crate) const UNKNOWN: Color = Color(0xf6, 0xf6, 0xf6);
/// The guest stands still.
pub(crate) const STOPPED: Color = Color(0x88, 0x22, 0x55);
/// Pages that come behind the switch to post-copy.
pub(crate) const POSTCOPY: Color = Color(0x33, 0x22, 0x88);
/// Bytes of the stream.
pub(crate) const STREAM: Color = Color(0x44, 0xaa, 0x99);
/// A second quantity beside the stream.
pub(crate) const SECOND: Color = Color(0xdd, 0xcc, 0x77);
/// Something was lost.
pub(crate) const LOST: Color = Color(0xcc, 0x66, 0x77);

/// Phases and their colours.
pub const PHASES: [(PhaseName, Color); 9] = [
    (PhaseName::Authentication, Color(0x33, 0x22, 0x88)),
    (PhaseName::Initialization, Color(0x88, 0xcc, 0xee)),
    (PhaseName::RemoteConnect, Color(0x88, 0x22, 0x55)),
    (PhaseName::Preparation, Color(0xdd, 0xcc, 0x77)),
    (PhaseName::Storage, Color(0xaa, 0x44, 0x99)),
    (PhaseName::Transfer, Color(0x44, 0xaa, 0x99)),
    (PhaseName::Finish, Color(0xcc, 0x66, 0x77)),
    (PhaseName::Cleanup, Color(0x11, 0x77, 0x33)),
    (PhaseName::PostMigration, Color(0x99, 0x99, 0x33)),
];

/// Colours for the series of a metric, in their order; more series begin again.
pub(crate) const SERIES: [Color; 8] = [
    Color(0x33, 0x22, 0x88),
    Color(0xcc, 0x66, 0x77),
    Color(0x11, 0x77, 0x33),
    Color(0x88, 0xcc, 0xee),
    Color(0x99, 0x99, 0x33),
    Color(0x88, 0x22, 0x55),
    Color(0x44, 0xaa, 0x99),
    Color(0xaa, 0x44, 0x99),
];

impl Color {
    /// Of a phase.
    pub fn of(phase: PhaseName) -> Self {
        PHASES
            .iter()
            .find(|(p, _)| *p == phase)
            .map_or(UNKNOWN, |(_, c)| *c)
    }

    /// Of a round's pages.
    pub(crate) fn of_pass(pass: Pass) -> Self {
        match pass {
            Pass::First | Pass::Later | Pass::Across => STREAM,
            Pass::Stopped => STOPPED,
            Pass::PostCopy => POSTCOPY,
        }
    }

    /// Relative luminance, 0 to 1 (WCAG 2.1).
    pub fn luminance(self) -> f64 {
        let linear = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.03928 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// The colour of text on this one: whichever of black and white stands out more.
    pub fn text(self) -> Self {
        let l = self.luminance();
        if 1.05 / (l + 0.05) > (l + 0.05) / 0.05 {
            PAPER
        } else {
            Color(0, 0, 0)
        }
    }

    /// Mixed with white; `part` of this colour, 0 to 1.
    pub(crate) fn pale(self, part: f64) -> Self {
        let mix = |c: u8| (f64::from(c) * part + 255.0 * (1.0 - part)).round() as u8;
        Self(mix(self.0), mix(self.1), mix(self.2))
    }
}
