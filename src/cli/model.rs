//! `phasescope model`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use phasescope::stats::cost;
use phasescope::stats::grid::{Grid, number};
use phasescope::stats::lmdt::{self, Estimate, Fit, Point};
use serde_json::json;

use super::output::{complain, write};
use super::runs::Runs;
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Fit a model to many runs
#[derive(Debug, Args)]
pub(crate) struct Model {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    Lmdt(Lmdt),
}

/// Fit LMDT = CMDT + MF·e^(AF·AM) by least squares
///
/// LMDT: all bytes of the migration's connections on the wire, both directions, in MB (10^6
/// bytes). AM: memory that the guest uses beyond its idle state, in MB, a column of the manifest
/// (or --factor, --pattern). CMDT: LMDT of the idle guest; fitted too, unless --cmdt gives it.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
struct Lmdt {
    #[command(flatten)]
    runs: Runs,

    /// The factor that holds AM, MB.
    #[arg(long, value_name = "FACTOR", default_value = "am")]
    am: String,

    /// CMDT, MB.
    #[arg(long, value_name = "MB")]
    cmdt: Option<f64>,

    /// Predict the bytes for this AM, MB; may be given several times.
    #[arg(long, value_name = "MB")]
    predict: Vec<f64>,

    /// How to print the model.
    #[arg(long, value_enum, default_value_t = ModelFormat::Text)]
    format: ModelFormat,

    /// Write into this file, whole or not at all.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModelFormat {
    /// For a terminal
    Text,
    /// Schema phasescope.lmdt/1
    Json,
}

impl Model {
    pub(crate) fn reach(&self) -> Result<Reach, Failure> {
        match &self.kind {
            Kind::Lmdt(l) => l.reach(),
        }
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        match &self.kind {
            Kind::Lmdt(l) => l.run(),
        }
    }
}

impl Lmdt {
    fn reach(&self) -> Result<Reach, Failure> {
        Ok(self.runs.reach()?.writes(self.output.as_deref()))
    }

    fn run(&self) -> Result<u8, Failure> {
        self.runs.check(std::slice::from_ref(&self.am))?;
        let runs = self.runs.load()?;
        let mut points = vec![];
        for r in &runs {
            let level = r.factor(&self.am).unwrap_or_default();
            let am = level.parse::<f64>().ok().filter(|v| v.is_finite());
            match (am, cost::total(&r.migration)) {
                (Some(am), Some(bytes)) => points.push(Point {
                    label: r.label(),
                    am,
                    lmdt: bytes as f64 / 1e6,
                }),
                (None, _) => complain(&format!(
                    "warning: {}: `{}` is `{level}`, not a number; left out",
                    r.label(),
                    self.am
                )),
                (_, None) => complain(&format!(
                    "warning: {}: its bytes are not known; left out",
                    r.label()
                )),
            }
        }
        let fit =
            lmdt::fit(&points, self.cmdt).map_err(|e| Failure::Other(format!("no fit: {e}")))?;
        let text = match self.format {
            ModelFormat::Text => self.text(&points, &fit),
            ModelFormat::Json => self.json(&points, &fit)?,
        };
        write(self.output.as_deref(), text.as_bytes())?;
        Ok(exit::FOUND)
    }

    fn text(&self, points: &[Point], fit: &Fit) -> String {
        let error = |e: Option<f64>| e.map_or("-".to_owned(), number);
        let mut parameters = Grid::new(&["parameter", ">value", ">standard error", "unit"]);
        let given = if fit.cmdt_given { "MB, given" } else { "MB" };
        for (name, (value, e), unit) in [
            ("CMDT", fit.cmdt, given),
            ("MF", fit.mf, "MB"),
            ("AF", fit.af, "1/MB"),
        ] {
            let value = if name == "AF" {
                format!("{value:.7}")
            } else {
                number(value)
            };
            let e = if name == "AF" {
                e.map_or("-".to_owned(), |e| format!("{e:.7}"))
            } else {
                error(e)
            };
            parameters.row(vec![name.to_owned(), value, e, unit.to_owned()]);
        }
        let mut residuals = Grid::new(&["run", ">AM (MB)", ">LMDT (MB)", ">model", ">residual"]);
        for (p, r) in points.iter().zip(&fit.residuals) {
            residuals.row(vec![
                p.label.clone(),
                number(p.am),
                number(p.lmdt),
                number(p.lmdt - r),
                number(*r),
            ]);
        }
        let mut out = format!(
            "LMDT = CMDT + MF·e^(AF·AM), {} runs, AM from {} to {} MB, MB = 10^6 bytes\n\n{}\n{}",
            points.len(),
            number(fit.range.0),
            number(fit.range.1),
            parameters.text(),
            residuals.text()
        );
        match fit.deviation {
            Some(s) => out.push_str(&format!(
                "\nresidual standard deviation: {} MB\n",
                number(s)
            )),
            None => out.push_str("\nas many parameters as runs: no errors can be given\n"),
        }
        for am in &self.predict {
            let line = match fit.predict(*am) {
                Ok((v, Some(e))) => format!(
                    "AM {} MB: {} MB, standard error of the curve {}",
                    number(*am),
                    number(v),
                    number(e)
                ),
                Ok((v, None)) => format!("AM {} MB: {} MB", number(*am), number(v)),
                Err(why) => why,
            };
            out.push_str(&format!("{line}\n"));
        }
        out
    }

    fn json(&self, points: &[Point], fit: &Fit) -> Result<String, Failure> {
        let estimate = |(v, e): Estimate| json!({ "value": v, "standard_error": e });
        let rows: Vec<_> = points
            .iter()
            .zip(&fit.residuals)
            .map(|(p, r)| {
                json!({
                    "run": p.label, "am_mb": p.am, "lmdt_mb": p.lmdt,
                    "model_mb": p.lmdt - r, "residual_mb": r,
                })
            })
            .collect();
        let predictions: Vec<_> = self
            .predict
            .iter()
            .map(|am| match fit.predict(*am) {
                Ok((v, e)) => json!({ "am_mb": am, "lmdt_mb": v, "standard_error_mb": e }),
                Err(why) => json!({ "am_mb": am, "lmdt_mb": null, "reason": why }),
            })
            .collect();
        super::output::json(&json!({
            "schema": "phasescope.lmdt/1",
            "cmdt_mb": estimate(fit.cmdt),
            "cmdt_given": fit.cmdt_given,
            "mf_mb": estimate(fit.mf),
            "af_per_mb": estimate(fit.af),
            "residual_standard_deviation_mb": fit.deviation,
            "am_range_mb": [fit.range.0, fit.range.1],
            "runs": rows,
            "predictions": predictions,
        }))
    }
}
