//! LMDT = CMDT + MF·e^(AF·AM): how the bytes of a migration grow with the memory that the guest
//! uses beyond its idle state (AM). Megabytes are 10⁶ bytes.
//!
//! For a given AF the formula is a straight line in e^(AF·AM), so the least squares have one
//! dimension to search; errors come from the Jacobian at the minimum.

/// One migration.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its name.
    pub label: String,
    /// Memory used beyond the idle guest's, MB.
    pub am: f64,
    /// Bytes on the network, MB.
    pub lmdt: f64,
}

/// A parameter and its standard error; `None` where there are no more points than parameters,
/// or where it was given.
pub type Estimate = (f64, Option<f64>);

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Bytes of the idle guest, MB.
    pub cmdt: Estimate,
    /// CMDT was given, not fitted.
    pub cmdt_given: bool,
    /// Factor of the growth, MB.
    pub mf: Estimate,
    /// Rate of the growth, 1/MB.
    pub af: Estimate,
    /// Standard deviation of the residuals, MB; `None` where there are no more points than
    /// parameters.
    pub deviation: Option<f64>,
    /// Measured less modelled, MB, in the order of the points.
    pub residuals: Vec<f64>,
    /// Smallest and largest AM, MB.
    pub range: (f64, f64),
    /// Covariance of (CMDT, MF, AF).
    covariance: Option<[[f64; 3]; 3]>,
}

/// AF·AM above which nothing can be measured.
const STEEPEST: f64 = 20.0;
/// AF·AM below which the curve is a straight line.
const FLATTEST: f64 = 1e-3;
/// Least spread of AM, part of its mean.
const SPREAD: f64 = 0.1;
/// How far beyond the largest AM predictions go.
const BEYOND: f64 = 1.5;

/// The linear part for one AF: CMDT, MF, sum of squares.
fn linear(points: &[Point], af: f64, cmdt: Option<f64>) -> Option<(f64, f64, f64)> {
    let n = points.len() as f64;
    let x: Vec<f64> = points.iter().map(|p| (af * p.am).exp()).collect();
    let (c, mf) = match cmdt {
        Some(c) => {
            let xy: f64 = x.iter().zip(points).map(|(x, p)| x * (p.lmdt - c)).sum();
            let xx: f64 = x.iter().map(|x| x * x).sum();
            (c, xy / xx)
        }
        None => {
            let mean_x = x.iter().sum::<f64>() / n;
            let mean_y = points.iter().map(|p| p.lmdt).sum::<f64>() / n;
            let xx: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
            let xy: f64 = x
                .iter()
                .zip(points)
                .map(|(x, p)| (x - mean_x) * (p.lmdt - mean_y))
                .sum();
            let mf = xy / xx;
            (mean_y - mf * mean_x, mf)
        }
    };
    let squares = x
        .iter()
        .zip(points)
        .map(|(x, p)| (p.lmdt - c - mf * x).powi(2))
        .sum::<f64>();
    squares.is_finite().then_some((c, mf, squares))
}

/// Fits the model; `cmdt` where it is known from an idle guest.
///
/// # Errors
/// In words: too few points, too little spread, or no growth to fit.
pub fn fit(points: &[Point], cmdt: Option<f64>) -> Result<Fit, String> {
    if points
        .iter()
        .any(|p| !p.am.is_finite() || !p.lmdt.is_finite())
    {
        return Err("a point is not a number".to_owned());
    }
    let mut levels: Vec<f64> = points.iter().map(|p| p.am).collect();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    let needed = if cmdt.is_some() { 2 } else { 3 };
    if levels.len() < needed {
        return Err(format!(
            "{needed} different values of AM are needed to fit {needed} parameters; there are {}{}",
            levels.len(),
            if cmdt.is_none() {
                " (with --cmdt two would do)"
            } else {
                ""
            }
        ));
    }
    let (low, high) = (levels[0], levels[levels.len() - 1]);
    let mean = points.iter().map(|p| p.am).sum::<f64>() / points.len() as f64;
    if high <= 0.0 || high - low < SPREAD * mean.abs() {
        return Err(format!(
            "AM spreads from {low} to {high} MB: less than a tenth of its mean, or not above nought"
        ));
    }
    if let Some(c) = cmdt
        && let Some(p) = points.iter().find(|p| p.lmdt <= c)
    {
        return Err(format!(
            "{}: {:.3} MB were sent, not more than CMDT ({c} MB)",
            p.label, p.lmdt
        ));
    }
    // A grid over AF·AM, even in its logarithm, then a golden section around the best.
    let steps = 400;
    let at =
        |i: i32| (FLATTEST * (STEEPEST / FLATTEST).powf(f64::from(i) / f64::from(steps))) / high;
    let squares = |af: f64| linear(points, af, cmdt).map_or(f64::INFINITY, |l| l.2);
    let best = (0..=steps)
        .min_by(|a, b| squares(at(*a)).total_cmp(&squares(at(*b))))
        .unwrap_or(0);
    if best == 0 {
        return Err(
            "the points lie on a straight line or flatten: no exponential growth to fit".to_owned(),
        );
    }
    if best == steps {
        return Err("the fit wants AF·AM above 20: the points do not follow the model".to_owned());
    }
    let (mut a, mut b) = (at(best - 1), at(best + 1));
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..200 {
        let (c, d) = (b - golden * (b - a), a + golden * (b - a));
        if squares(c) < squares(d) {
            b = d;
        } else {
            a = c;
        }
    }
    let af = f64::midpoint(a, b);
    let (c, mf, sum) = linear(points, af, cmdt).ok_or("the fit does not converge")?;
    if mf <= 0.0 {
        return Err("the bytes do not grow with AM: MF comes out negative".to_owned());
    }
    let model = |am: f64| c + mf * (af * am).exp();
    let residuals: Vec<f64> = points.iter().map(|p| p.lmdt - model(p.am)).collect();
    let free = points.len().checked_sub(needed).filter(|f| *f > 0);
    let deviation = free.map(|f| (sum / f as f64).sqrt());
    let covariance = deviation.and_then(|s| covariance(points, mf, af, cmdt.is_some(), s));
    let error = |i: usize| covariance.map(|m| m[i][i].max(0.0).sqrt());
    Ok(Fit {
        cmdt: (c, error(0).filter(|_| cmdt.is_none())),
        cmdt_given: cmdt.is_some(),
        mf: (mf, error(1)),
        af: (af, error(2)),
        deviation,
        residuals,
        range: (low, high),
        covariance,
    })
}

/// s²·(JᵀJ)⁻¹ over (CMDT, MF, AF); the row of a given CMDT is nought.
fn covariance(points: &[Point], mf: f64, af: f64, given: bool, s: f64) -> Option<[[f64; 3]; 3]> {
    // Columns are scaled to length one: AF is thousands of times smaller than CMDT.
    let rows: Vec<[f64; 3]> = points
        .iter()
        .map(|p| {
            let x = (af * p.am).exp();
            [if given { 0.0 } else { 1.0 }, x, mf * p.am * x]
        })
        .collect();
    let mut norm = [0.0; 3];
    for (j, n) in norm.iter_mut().enumerate() {
        *n = rows.iter().map(|r| r[j] * r[j]).sum::<f64>().sqrt();
    }
    let first = usize::from(given);
    let mut m = [[0.0; 3]; 3];
    for i in first..3 {
        for j in first..3 {
            m[i][j] = rows.iter().map(|r| r[i] * r[j]).sum::<f64>() / (norm[i] * norm[j]);
        }
    }
    if given {
        m[0][0] = 1.0;
    }
    let inverse = invert(m)?;
    let mut out = [[0.0; 3]; 3];
    for i in first..3 {
        for j in first..3 {
            out[i][j] = inverse[i][j] / (norm[i] * norm[j]) * s * s;
        }
    }
    Some(out)
}

/// By Gauss and Jordan with pivots; `None` for a singular matrix.
fn invert(mut a: [[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let mut b = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for i in 0..3 {
        let pivot = (i..3).max_by(|x, y| a[*x][i].abs().total_cmp(&a[*y][i].abs()))?;
        a.swap(i, pivot);
        b.swap(i, pivot);
        let p = a[i][i];
        if !p.is_finite() || p.abs() < 1e-14 {
            return None;
        }
        for j in 0..3 {
            a[i][j] /= p;
            b[i][j] /= p;
        }
        for k in (0..3).filter(|k| *k != i) {
            let f = a[k][i];
            for j in 0..3 {
                a[k][j] -= f * a[i][j];
                b[k][j] -= f * b[i][j];
            }
        }
    }
    Some(b)
}

impl Fit {
    /// The model's bytes, MB.
    pub fn at(&self, am: f64) -> f64 {
        self.cmdt.0 + self.mf.0 * (self.af.0 * am).exp()
    }

    /// A prediction and the standard error of the curve there, MB.
    ///
    /// # Errors
    /// In words: AM lies further out than the points can support.
    pub fn predict(&self, am: f64) -> Result<Estimate, String> {
        let most = self.range.1 * BEYOND;
        if !am.is_finite() || am < 0.0 || am > most {
            return Err(format!(
                "no prediction for AM = {am} MB: the points reach to {} MB, predictions to {most} MB",
                self.range.1
            ));
        }
        let x = (self.af.0 * am).exp();
        let slope = [1.0, x, self.mf.0 * am * x];
        let error = self.covariance.map(|c| {
            let mut v = 0.0;
            for i in 0..3 {
                for j in 0..3 {
                    v += slope[i] * c[i][j] * slope[j];
                }
            }
            v.max(0.0).sqrt()
        });
        Ok((self.at(am), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(cmdt: f64, mf: f64, af: f64, noise: f64) -> Vec<Point> {
        (0..8)
            .map(|i| {
                let am = 50.0 * f64::from(i);
                let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
                Point {
                    label: i.to_string(),
                    am,
                    lmdt: cmdt + mf * (af * am).exp() + sign * noise,
                }
            })
            .collect()
    }

    #[test]
    fn finds_what_made_the_points() {
        // PostgreSQL's constants in the paper.
        let exact = points(145.0, 9.6, 0.01072, 0.0);
        for given in [None, Some(145.0)] {
            let f = fit(&exact, given).unwrap();
            assert!((f.cmdt.0 - 145.0).abs() < 1e-4, "{f:?}");
            assert!((f.mf.0 - 9.6).abs() < 1e-4);
            assert!((f.af.0 - 0.01072).abs() < 1e-7);
            // A vector of the paper: AM 310 gives 411.390 MB.
            assert!((f.predict(310.0).unwrap().0 - 411.390).abs() < 0.01);
        }
    }

    #[test]
    fn errors_cover_the_truth() {
        let f = fit(&points(145.0, 9.6, 0.01072, 2.0), None).unwrap();
        let near = |(v, e): Estimate, truth: f64| (v - truth).abs() < 3.0 * e.unwrap();
        assert!(
            near(f.cmdt, 145.0) && near(f.mf, 9.6) && near(f.af, 0.01072),
            "{f:?}"
        );
        assert!((f.deviation.unwrap() - 2.0).abs() < 1.0);
    }

    #[test]
    fn refuses() {
        let p = points(145.0, 9.6, 0.01072, 0.0);
        assert!(fit(&p[..2], None).is_err());
        assert!(fit(&p[..2], Some(145.0)).is_ok());
        assert!(fit(&p, Some(200.0)).is_err());
        let line: Vec<Point> = p
            .iter()
            .map(|p| Point {
                lmdt: 100.0 + p.am,
                ..p.clone()
            })
            .collect();
        assert!(fit(&line, None).is_err());
        let f = fit(&p, None).unwrap();
        assert!(f.predict(600.0).is_err());
    }
}
