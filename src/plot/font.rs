//! The built-in font: DejaVu Sans, reduced to Latin, Greek and Cyrillic letters (see
//! `assets/README.md`).

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, ScaleFont};

/// The font's file.
const FILE: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");

/// Height of a small letter, part of an em.
pub(super) const X_HEIGHT: f64 = 0.547;

/// The font; `None` if the built-in file were broken.
pub(super) fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(FILE).ok())
        .as_ref()
}

/// ab_glyph's scale for an em of this many pixels.
pub(super) fn scale(font: &FontRef<'_>, em: f64) -> f32 {
    let units = f64::from(font.units_per_em().unwrap_or(1000.0));
    (em * f64::from(font.height_unscaled()) / units) as f32
}

/// Width of a text, pixels, at a font size (em) in pixels.
pub fn width(text: &str, size: f64) -> f64 {
    let Some(font) = font() else {
        return text.chars().count() as f64 * size * 0.6;
    };
    let scaled = font.as_scaled(scale(font, size));
    let mut w = 0.0;
    let mut last = None;
    for c in text.chars() {
        let glyph = font.glyph_id(c);
        if let Some(l) = last {
            w += scaled.kern(l, glyph);
        }
        w += scaled.h_advance(glyph);
        last = Some(glyph);
    }
    f64::from(w)
}

/// The text, cut with an ellipsis where it is wider than `room` pixels.
pub(crate) fn shorten(text: &str, size: f64, room: f64) -> String {
    if width(text, size) <= room {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.pop().is_some() {
        let short: String = kept.iter().collect::<String>().trim_end().to_owned() + "…";
        if width(&short, size) <= room {
            return short;
        }
    }
    String::new()
}
