//! Writes one migration into files: its report, and its timeline as a picture.

use std::io;
use std::path::{Path, PathBuf};

use super::App;
use crate::plot::{PlotError, render, subject, timeline};
use crate::report::Report;
use crate::whole;

/// Endings of the files.
const ENDINGS: [&str; 3] = ["json", "svg", "png"];

/// Files of one migration that a folder may hold.
const MAX_FILES: u32 = 10_000;

/// Writes the migration of this key into new files; says what came of it.
pub fn export(app: &App, key: u64, folder: &Path) -> String {
    let Some(shown) = app.find(key) else {
        return "nothing to export".to_owned();
    };
    let mut migration = (*shown.migration).clone();
    if migration.id == 0 {
        migration.id = 1;
    }
    let title = format!("Timeline: {}", subject(&migration));
    let picture = timeline::scene(&migration, None, &title);
    let report = Report::new(app.view().capture.clone(), vec![migration]);
    let safe: String = shown
        .name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let done = (|| {
        let json = report.to_json().map_err(io::Error::other)?;
        let stem = free(folder, &safe)?;
        let file = |ending| stem.with_extension(ending);
        whole::write(&file("json"), json.as_bytes())?;
        let scene = match picture {
            Ok(scene) => scene,
            // So early there is nothing to draw.
            Err(PlotError::Empty(_)) => return Ok(format!("{}.json", stem.display())),
            Err(e) => return Err(io::Error::other(e)),
        };
        let svg = render::svg(&scene).map_err(io::Error::other)?;
        whole::write(&file("svg"), svg.as_bytes())?;
        let png = render::png(&scene).map_err(io::Error::other)?;
        whole::write(&file("png"), &png)?;
        Ok(format!("{}.json, .svg, .png", stem.display()))
    })();
    match done {
        Ok(names) => format!("written: {names}"),
        Err(e) => format!("not written: {e}"),
    }
}

/// A name in the folder that nothing has yet, without an ending.
fn free(folder: &Path, safe: &str) -> io::Result<PathBuf> {
    let names = (1..=MAX_FILES).map(|n| folder.join(format!("phasescope-{safe}-{n}")));
    let is_free = |p: &PathBuf| ENDINGS.iter().all(|e| !p.with_extension(e).exists());
    let free = names.into_iter().find(is_free);
    free.ok_or_else(|| io::ErrorKind::AlreadyExists.into())
}
