//! Rebuilds what the study printed: `cargo run --example study -- FOLDER [png]`
//!
//! From mean, standard deviation and number of runs of every row of its appendix A the interval
//! and the coefficient of variation follow; rows that do not agree are listed. Then its four
//! figures of phase ratios and two of its metric plots are drawn into the folder (default:
//! `docs/study`), as SVG or PNG.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use phasescope::plot::budget::{self, Options, Scale};
use phasescope::plot::metric::{self, Point};
use phasescope::plot::render;
use phasescope::plot::scene::Scene;
use phasescope::stats::interval::Interval;
use phasescope::stats::published::{self, Cell};

const TABLES: &[u8] = include_bytes!("../fixtures/study/study-appendix-a.csv");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let album = Album {
        folder: arguments
            .next()
            .map_or_else(|| PathBuf::from("docs/study"), PathBuf::from),
        png: arguments.next().is_some_and(|a| a == "png"),
    };
    std::fs::create_dir_all(&album.folder)?;
    let cells = published::read(TABLES)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} rows", cells.len())?;
    disagreements(&cells, &mut out)?;
    narrow(&cells, &mut out)?;
    let mut flavors: Vec<&str> = cells.iter().map(|c| c.flavor.as_str()).collect();
    flavors.dedup();
    for (i, flavor) in flavors.iter().enumerate() {
        let options = Options {
            title: format!("Figure 6.{}: phase ratios, {flavor}", i + 1),
            scale: Scale::Percent,
            // As the study drew them: the phases fill the bar.
            gaps: false,
        };
        let scene = budget::scene(&published::bars(&cells, flavor), &options)?;
        album.save(&scene, &format!("ratios-{flavor}"), &mut out)?;
    }
    let load = |c: &Cell| format!("{} %", c.load);
    let flavor = |c: &Cell| c.flavor.clone();
    let plot = points(&cells, "Transfer", flavor, load);
    let options = metric::Options {
        title: "Transfer by flavor and load".to_owned(),
        x: "flavor".to_owned(),
        y: "transfer (s)".to_owned(),
    };
    let scene = metric::scene(&plot, &options)?;
    album.save(&scene, "transfer-by-flavor", &mut out)?;
    let plot = points(&cells, "Downtime (ms)", load, flavor);
    let options = metric::Options {
        title: "Downtime by load and flavor".to_owned(),
        x: "CPU load of the guest".to_owned(),
        y: "downtime (ms)".to_owned(),
    };
    let scene = metric::scene(&plot, &options)?;
    album.save(&scene, "downtime-by-load", &mut out)?;
    Ok(())
}

/// Rows whose printed interval or variation does not follow from the rest of the row.
fn disagreements(cells: &[Cell], out: &mut impl Write) -> std::io::Result<()> {
    for c in cells {
        let r = c.rebuild(Interval::Normal);
        let row = format!("{} {}", c.table, c.metric);
        if !r.half_width_agrees {
            writeln!(
                out,
                "{row}: interval printed ±{}, 1.959964·s/√n is ±{:.4}",
                c.half_width.value, r.half_width
            )?;
        }
        if !r.variation_agrees {
            writeln!(
                out,
                "{row}: variation printed {} %, s/mean is {:.2} %",
                c.variation.value, r.variation
            )?;
        }
    }
    Ok(())
}

/// How much wider Student's t makes the intervals.
fn narrow(cells: &[Cell], out: &mut impl Write) -> std::io::Result<()> {
    if let Some(c) = cells.first() {
        let (z, t) = (c.rebuild(Interval::Normal), c.rebuild(Interval::T));
        writeln!(
            out,
            "with Student's t for {} runs the intervals are {:.1} % wider",
            c.runs,
            (t.half_width / z.half_width - 1.0) * 100.0
        )?;
    }
    Ok(())
}

fn points(
    cells: &[Cell],
    metric: &str,
    x: impl Fn(&Cell) -> String,
    series: impl Fn(&Cell) -> String,
) -> Vec<Point> {
    cells
        .iter()
        .filter(|c| c.metric == metric)
        .map(|c| Point {
            x: x(c),
            series: series(c),
            mean: c.mean.value,
            half: Some(c.rebuild(Interval::Normal).half_width),
        })
        .collect()
}

/// Where the pictures go, and as what.
struct Album {
    folder: PathBuf,
    png: bool,
}

impl Album {
    fn save(&self, scene: &Scene, name: &str, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
        let (format, ending) = if self.png {
            (render::Format::Png, "png")
        } else {
            (render::Format::Svg, "svg")
        };
        let path = self.folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, render::draw(scene, format)?)?;
        writeln!(out, "{}", path.display())?;
        Ok(())
    }
}
