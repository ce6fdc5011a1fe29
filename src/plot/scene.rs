//! What a picture consists of, before any backend sees it. Lengths and places are pixels, the
//! origin is the upper left corner.

use super::palette::{Color, INK, PAPER};

/// Which side of a text its place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// Something drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A filled rectangle.
    Rect {
        /// Left edge.
        x: f64,
        /// Upper edge.
        y: f64,
        /// Width.
        w: f64,
        /// Height.
        h: f64,
        /// Colour.
        fill: Color,
    },
    /// A line through points.
    Line {
        /// The points.
        points: Vec<(f64, f64)>,
        /// Colour.
        color: Color,
        /// Width.
        width: u32,
    },
    /// A filled circle.
    Dot {
        /// Middle.
        x: f64,
        /// Middle.
        y: f64,
        /// Radius.
        r: f64,
        /// Colour.
        fill: Color,
    },
    /// Words.
    Text(Text),
}

/// A line of text, its height centred on `y`.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// Place.
    pub x: f64,
    /// Middle of the small letters.
    pub y: f64,
    /// The words.
    pub text: String,
    /// Size of the font (em).
    pub size: f64,
    /// Colour.
    pub color: Color,
    /// Which side `x` (or `y` where it is upright) is.
    pub align: Align,
    /// Reads upwards.
    pub upright: bool,
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// In the order of drawing.
    pub shapes: Vec<Shape>,
}

/// Font sizes, pixels of an em.
pub mod size {
    /// Heading of the picture.
    pub(crate) const TITLE: f64 = 17.0;
    /// Names of axes, of bars, legend.
    pub(crate) const LABEL: f64 = 13.0;
    /// Ticks, numbers in bars.
    pub(crate) const SMALL: f64 = 11.5;
}

impl Scene {
    /// A white page.
    pub fn new(width: u32, height: u32) -> Self {
        let mut scene = Self {
            width,
            height,
            shapes: vec![],
        };
        scene.rect(0.0, 0.0, f64::from(width), f64::from(height), PAPER);
        scene
    }

    /// Draws a filled rectangle.
    pub(crate) fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, fill: Color) {
        self.shapes.push(Shape::Rect { x, y, w, h, fill });
    }

    /// Draws the outline of a rectangle, one pixel wide.
    pub(crate) fn outline(&mut self, x: f64, y: f64, w: f64, h: f64, color: Color) {
        let points = vec![(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)];
        self.line(points, color, 1);
    }

    /// Draws a line.
    pub fn line(&mut self, points: Vec<(f64, f64)>, color: Color, width: u32) {
        self.shapes.push(Shape::Line {
            points,
            color,
            width,
        });
    }

    /// Draws a dot.
    pub fn dot(&mut self, x: f64, y: f64, r: f64, fill: Color) {
        self.shapes.push(Shape::Dot { x, y, r, fill });
    }

    /// Writes, in the colour of ink.
    pub fn text(&mut self, x: f64, y: f64, text: &str, size: f64, align: Align) {
        self.text_in(x, y, text, size, align, INK);
    }

    /// Writes in a colour.
    pub(crate) fn text_in(
        &mut self,
        x: f64,
        y: f64,
        text: &str,
        size: f64,
        align: Align,
        color: Color,
    ) {
        self.shapes.push(Shape::Text(Text {
            x,
            y,
            text: text.to_owned(),
            size,
            color,
            align,
            upright: false,
        }));
    }

    /// Writes on a patch of paper, so that no grid line runs through the words.
    pub fn label(&mut self, x: f64, y: f64, text: &str, align: Align, color: Color) {
        let w = super::font::width(text, size::SMALL) + 4.0;
        let left = match align {
            Align::Start => x - 2.0,
            Align::Middle => x - w / 2.0,
            Align::End => x + 2.0 - w,
        };
        self.rect(left, y - 8.0, w, 16.0, PAPER);
        self.text_in(x, y, text, size::SMALL, align, color);
    }

    /// Writes upwards, centred on `y`.
    pub fn upright(&mut self, x: f64, y: f64, text: &str, size: f64) {
        self.shapes.push(Shape::Text(Text {
            x,
            y,
            text: text.to_owned(),
            size,
            color: INK,
            align: Align::Middle,
            upright: true,
        }));
    }

    /// All that is written, in the order of drawing.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.shapes.iter().filter_map(|s| match s {
            Shape::Text(t) => Some(t.text.as_str()),
            _ => None,
        })
    }

    /// The heading, at the upper left; cut to the width.
    pub fn title(&mut self, text: &str) {
        let room = f64::from(self.width) - 32.0;
        let text = super::font::shorten(text, size::TITLE, room);
        self.text(16.0, 24.0, &text, size::TITLE, Align::Start);
    }

    /// A legend: squares and names from `(x, y)`, broken at `right`. Returns the height.
    pub(crate) fn legend(
        &mut self,
        x: f64,
        y: f64,
        right: f64,
        entries: &[(String, Color)],
    ) -> f64 {
        let line = 22.0;
        let (mut at, mut down) = (x, 0.0);
        for (name, color) in entries {
            let w = 18.0 + super::font::width(name, size::LABEL) + 18.0;
            if at > x && at + w - 18.0 > right {
                at = x;
                down += line;
            }
            self.rect(at, y + down, 13.0, 13.0, *color);
            if color.luminance() > 0.7 {
                self.outline(at, y + down, 13.0, 13.0, super::palette::FAINT);
            }
            self.text(at + 18.0, y + down + 7.0, name, size::LABEL, Align::Start);
            at += w;
        }
        down + line
    }
}

/// The height that [`Scene::legend`] will need.
pub(crate) fn legend_height(x: f64, right: f64, entries: &[(String, Color)]) -> f64 {
    Scene {
        width: 0,
        height: 0,
        shapes: vec![],
    }
    .legend(x, 0.0, right, entries)
}
