//! One page to hand on: everything inside one HTML file, no script, nothing loaded.

use super::Report;
use super::document::{Piece, capture_pieces, migration_pieces};
use super::units::count;
use crate::migration::{Boundary, Migration};
use crate::plot::{PlotError, budget, downtime, render, rounds, throughput, timeline};
use crate::series::Series;
use crate::stats::cost;
use crate::stats::grid::{Grid, escape};

const STYLE: &str = include_str!("html.css");

/// The page. `series` (one for each migration) come from the capture; without them the
/// throughput is drawn from the rounds, and echoes are left out.
///
/// # Errors
/// A picture cannot be drawn, though there is something to draw.
pub fn page(report: &Report, series: &[Series]) -> Result<String, PlotError> {
    let files = report.capture.files.join(", ");
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Live migration: {0}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>Live migrations in {0}</h1>\n",
        escape(&files)
    );
    if report.migrations.len() > 1 {
        overview(report, &mut out)?;
    }
    for (i, m) in report.migrations.iter().enumerate() {
        migration(m, series.get(i), &mut out)?;
    }
    if report.migrations.is_empty() {
        out.push_str("<p>No migration was found in the capture.</p>\n");
    }
    out.push_str("<section>\n<h2 id=\"capture\">Capture</h2>\n");
    for piece in capture_pieces(report) {
        html(&piece, &mut out);
    }
    out.push_str(&format!(
        "</section>\n<footer>phasescope {}, report schema {}. Frame numbers count from 1 over the \
         whole input, as Wireshark shows them; times are UTC.</footer>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(&report.schema)
    ));
    Ok(out)
}

/// A picture that has nothing to show is left out.
fn figure(
    scene: Result<crate::plot::scene::Scene, PlotError>,
    caption: &str,
    out: &mut String,
) -> Result<(), PlotError> {
    let scene = match scene {
        Ok(s) => s,
        Err(PlotError::Empty(_)) => return Ok(()),
        Err(e) => return Err(e),
    };
    let svg = render::svg(&scene)?;
    // The file's own head has no place inside a page.
    let svg = svg.find("<svg").map_or("", |i| &svg[i..]);
    let label = escape(caption);
    out.push_str(&format!(
        "<figure role=\"img\" aria-label=\"{label}\">\n{svg}\n<figcaption>{label}</figcaption>\n</figure>\n"
    ));
    Ok(())
}

fn bars(report: &Report) -> Vec<budget::Bar> {
    report
        .migrations
        .iter()
        .filter_map(|m| {
            let name = m.guest.name.as_deref().unwrap_or("unknown guest");
            budget::Bar::of(&format!("{} {name}", m.id), m)
        })
        .collect()
}

fn overview(report: &Report, out: &mut String) -> Result<(), PlotError> {
    out.push_str("<section>\n<h2>All migrations</h2>\n<ul>\n");
    for m in &report.migrations {
        let name = m.guest.name.as_deref().unwrap_or("unknown guest");
        let name = escape(name);
        out.push_str(&format!(
            "<li><a href=\"#migration-{0}\">Migration {0}: {name}</a></li>\n",
            m.id
        ));
    }
    out.push_str("</ul>\n");
    let options = budget::Options {
        title: "Where the time went".to_owned(),
        scale: budget::Scale::Seconds,
        gaps: true,
    };
    let bars = bars(report);
    figure(budget::scene(&bars, &options), "Budgets, seconds", out)?;
    out.push_str("</section>\n");
    Ok(())
}

fn migration(m: &Migration, series: Option<&Series>, out: &mut String) -> Result<(), PlotError> {
    out.push_str(&format!("<section id=\"migration-{}\">\n", m.id));
    let flow = series.map(|s| &s.throughput);
    for piece in migration_pieces(m) {
        html(&piece, out);
        // Pictures stand under the headings that they belong to.
        let Piece::Heading(_, name) = &piece else {
            continue;
        };
        match name.as_str() {
            "Phases" => {
                let options = budget::Options {
                    title: "Where the time went".to_owned(),
                    scale: budget::Scale::Percent,
                    gaps: true,
                };
                let name = m.guest.name.as_deref().unwrap_or("unknown guest");
                let bars: Vec<_> = budget::Bar::of(name, m).into_iter().collect();
                figure(
                    timeline::scene(m, flow, "Timeline"),
                    "Phases and rounds over the throughput of the stream",
                    out,
                )?;
                let caption = "Budget: share of each phase in the total time";
                figure(budget::scene(&bars, &options), caption, out)?;
            }
            "Transfer" => {
                costs(m, out);
                figure(
                    rounds::scene(m, "Rounds"),
                    "Bytes and pages of every round",
                    out,
                )?;
                if flow.is_some() {
                    let scene = throughput::scene(m, flow, "Throughput");
                    figure(scene, "Bytes a second on the wire", out)?;
                }
            }
            "Downtime" => {
                let echoes = series.map_or(&[][..], |s| &s.echoes);
                let scene = downtime::scene(m, echoes, "Downtime");
                figure(scene, "Downtime by every method", out)?;
            }
            _ => {}
        }
    }
    evidence(m, out);
    out.push_str("</section>\n");
    Ok(())
}

/// Bytes on the network by cause.
fn costs(m: &Migration, out: &mut String) {
    let (Some(split), Some(total)) = (cost::split(m), cost::total(m)) else {
        return;
    };
    let mut grid = Grid::new(&["bytes on the network", ">bytes", ">share", "what"]);
    for (c, (_, what)) in split.iter().zip(cost::CAUSES) {
        if c.bytes > 0 {
            let share = c.bytes as f64 / total.max(1) as f64;
            grid.row(vec![
                c.cause.to_owned(),
                count(c.bytes),
                super::units::percent(share),
                what.to_owned(),
            ]);
        }
    }
    let all = [
        "all".to_owned(),
        count(total),
        "100.0%".to_owned(),
        String::new(),
    ];
    grid.row(all.to_vec());
    out.push_str(&grid.html());
}

/// Every boundary with its frame and the rule that made it one.
fn evidence(m: &Migration, out: &mut String) {
    let heads = [
        "phase",
        "edge",
        "time (UTC)",
        ">frame",
        "marker",
        "certainty",
        ">± ns",
    ];
    let mut grid = Grid::new(&heads);
    for p in &m.phases {
        for (edge, b) in [("start", &p.start), ("end", &p.end)] {
            let row = match b {
                Some(b) => known(b),
                None => vec!["unknown".to_owned(); 1]
                    .into_iter()
                    .chain(vec![String::new(); 4])
                    .collect(),
            };
            let mut cells = vec![p.name.name().to_owned(), edge.to_owned()];
            cells.extend(row);
            grid.row(cells);
        }
    }
    if !grid.rows.is_empty() {
        out.push_str("<h3>Evidence</h3>\n");
        out.push_str(&grid.html());
    }
}

fn known(b: &Boundary) -> Vec<String> {
    let sure = match serde_json::to_value(b.certainty) {
        Ok(serde_json::Value::String(s)) => s,
        _ => String::new(),
    };
    vec![
        b.time.clone(),
        b.frame.to_string(),
        b.marker.clone(),
        sure,
        b.uncertainty_ns.to_string(),
    ]
}

fn html(piece: &Piece, out: &mut String) {
    match piece {
        Piece::Heading(level, s) => {
            let level = level + 1;
            out.push_str(&format!("<h{level}>{}</h{level}>\n", escape(s)));
        }
        Piece::Pairs(pairs) => {
            out.push_str("<dl>\n");
            for (name, value) in pairs {
                let (name, value) = (escape(name), escape(value));
                out.push_str(&format!("<dt>{name}</dt><dd>{value}</dd>\n"));
            }
            out.push_str("</dl>\n");
        }
        Piece::Table(heads, rows) => {
            let grid = Grid {
                heads: heads.iter().map(|(h, r)| ((*h).to_owned(), *r)).collect(),
                rows: rows.clone(),
            };
            out.push_str(&grid.html());
        }
        Piece::Note(s) => out.push_str(&format!("<p class=\"note\">{}</p>\n", escape(s))),
    }
}
