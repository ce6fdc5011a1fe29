//! Scenes drawn by plotters' backends.

use ab_glyph::{Font, ScaleFont};
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle};
use plotters_backend::{BackendColor, DrawingErrorKind};

use super::PlotError;
use super::font::{self, X_HEIGHT};
use super::palette::Color;
use super::scene::{Align, Scene, Shape, Text};

/// Pixels of a PNG for each pixel of the scene: 192 dots per inch.
pub const PNG_SCALE: u32 = 2;

/// Furthest place that backends are told, pixels.
const FAR: f64 = 1e5;

/// What plotters' SVG backend divides font sizes by.
const PLOTTERS_EM: f64 = 1.24;

/// A format of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Scalable.
    Svg,
    /// Pixels.
    Png,
}

/// The picture in a format.
///
/// # Errors
/// A backend fails.
pub fn draw(scene: &Scene, format: Format) -> Result<Vec<u8>, PlotError> {
    match format {
        Format::Svg => svg(scene).map(String::into_bytes),
        Format::Png => png(scene),
    }
}

fn failed<E: std::error::Error + Send + Sync>(e: DrawingErrorKind<E>) -> PlotError {
    PlotError::Backend(e.to_string())
}

fn style(c: Color, width: u32, filled: bool) -> ShapeStyle {
    ShapeStyle {
        color: RGBColor(c.0, c.1, c.2).into(),
        filled,
        stroke_width: width,
    }
}

/// As SVG, with text as text.
///
/// # Errors
/// The backend fails.
pub fn svg(scene: &Scene) -> Result<String, PlotError> {
    let mut out = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut out, (scene.width, scene.height));
        for s in &scene.shapes {
            shape(&mut backend, s, 1.0, svg_text)?;
        }
        backend.present().map_err(failed)?;
    }
    // plotters names one family; a reader's machine should prefer the one that was measured.
    Ok(out.replace(
        "font-family=\"sans-serif\"",
        "font-family=\"DejaVu Sans, Verdana, sans-serif\"",
    ))
}

/// As PNG, [`PNG_SCALE`] times as large.
///
/// # Errors
/// The backend or the encoder fails.
pub fn png(scene: &Scene) -> Result<Vec<u8>, PlotError> {
    let (w, h) = (scene.width * PNG_SCALE, scene.height * PNG_SCALE);
    let mut pixels = vec![255; w as usize * h as usize * 3];
    {
        let mut backend = BitMapBackend::with_buffer(&mut pixels, (w, h));
        for s in &scene.shapes {
            shape(&mut backend, s, f64::from(PNG_SCALE), bitmap_text)?;
        }
        backend.present().map_err(failed)?;
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, w, h);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // 96 dots per inch times the scale, in dots per metre.
    let ppu = (96.0 * f64::from(PNG_SCALE) / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: ppu,
        yppu: ppu,
        unit: png::Unit::Meter,
    }));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(out)
}

type Draw<B> = fn(&mut B, &Text, f64) -> Result<(), PlotError>;

fn shape<B: DrawingBackend>(
    backend: &mut B,
    s: &Shape,
    k: f64,
    text: Draw<B>,
) -> Result<(), PlotError> {
    // Backends subtract places; nothing so far out is seen anyway.
    let pixel = |v: f64| (v * k).round().clamp(-FAR, FAR) as i32;
    let at = |x: f64, y: f64| (pixel(x), pixel(y));
    let done = match s {
        Shape::Rect { x, y, w, h, fill } => {
            backend.draw_rect(at(*x, *y), at(x + w, y + h), &style(*fill, 0, true), true)
        }
        Shape::Line {
            points,
            color,
            width,
        } => {
            let path: Vec<(i32, i32)> = points.iter().map(|(x, y)| at(*x, *y)).collect();
            let width = (f64::from(*width) * k).round() as u32;
            backend.draw_path(path, &style(*color, width, false))
        }
        Shape::Dot { x, y, r, fill } => {
            let r = (r * k).round() as u32;
            backend.draw_circle(at(*x, *y), r, &style(*fill, 0, true), true)
        }
        Shape::Text(t) => return text(backend, t, k),
    };
    done.map_err(failed)
}

fn svg_text(backend: &mut SVGBackend<'_>, t: &Text, _: f64) -> Result<(), PlotError> {
    let h = match t.align {
        Align::Start => HPos::Left,
        Align::Middle => HPos::Center,
        Align::End => HPos::Right,
    };
    let mut style = TextStyle::from((
        FontFamily::SansSerif,
        t.size * PLOTTERS_EM,
        FontStyle::Normal,
    ))
    .pos(Pos::new(h, VPos::Center));
    style.color = BackendColor {
        alpha: 1.0,
        rgb: (t.color.0, t.color.1, t.color.2),
    };
    if t.upright {
        style = style.transform(FontTransform::Rotate270);
    }
    backend
        .draw_text(&t.text, &style, (t.x.round() as i32, t.y.round() as i32))
        .map_err(failed)
}

/// plotters' own text on bitmaps needs a font of the system, or drops the side bearings of the
/// letters; so the glyphs are set here.
fn bitmap_text(backend: &mut BitMapBackend<'_>, t: &Text, k: f64) -> Result<(), PlotError> {
    let Some(font) = font::font() else {
        return Err(PlotError::Backend("the built-in font is broken".to_owned()));
    };
    let em = t.size * k;
    let scale = font::scale(font, em);
    let scaled = font.as_scaled(scale);
    let w = font::width(&t.text, em);
    let mut pen = match t.align {
        Align::Start => 0.0,
        Align::Middle => -w / 2.0,
        Align::End => -w,
    } as f32;
    let base = (em * X_HEIGHT / 2.0) as f32;
    let origin = (t.x * k, t.y * k);
    let mut last = None;
    for c in t.text.chars() {
        let id = font.glyph_id(c);
        if let Some(l) = last {
            pen += scaled.kern(l, id);
        }
        last = Some(id);
        let glyph = id.with_scale_and_position(scale, ab_glyph::point(pen, base));
        pen += scaled.h_advance(id);
        let Some(outline) = font.outline_glyph(glyph) else {
            continue;
        };
        let bounds = outline.px_bounds();
        let mut spots = Vec::new();
        outline.draw(|gx, gy, cover| {
            spots.push((
                f64::from(bounds.min.x) + f64::from(gx),
                f64::from(bounds.min.y) + f64::from(gy),
                cover,
            ));
        });
        for (dx, dy, cover) in spots {
            let (px, py) = if t.upright {
                (origin.0 + dy, origin.1 - dx)
            } else {
                (origin.0 + dx, origin.1 + dy)
            };
            let color = BackendColor {
                alpha: f64::from(cover.clamp(0.0, 1.0)),
                rgb: (t.color.0, t.color.1, t.color.2),
            };
            let spot = (px.round() as i32, py.round() as i32);
            backend.draw_pixel(spot, color).map_err(failed)?;
        }
    }
    Ok(())
}
