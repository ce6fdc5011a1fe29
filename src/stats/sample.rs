//! What can be said of a few numbers.

use serde::Serialize;

use super::interval::Interval;

/// A sample summed up. What takes two values at least is `None` for one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Values.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation, divisor n−1.
    pub standard_deviation: Option<f64>,
    /// Half the width of the 95 % interval of the mean.
    pub half_width: Option<f64>,
    /// Standard deviation over mean; `None` for a mean of nought.
    pub variation: Option<f64>,
    /// Smallest.
    pub min: f64,
    /// First quartile (linear between the two nearest values).
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// Largest.
    pub max: f64,
}

impl Summary {
    /// Of the finite values; `None` without any.
    pub fn of(values: &[f64], interval: Interval) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let deviation = (n > 1).then(|| {
            let squares: f64 = sorted.iter().map(|v| (v - mean).powi(2)).sum();
            (squares / (n as f64 - 1.0)).sqrt()
        });
        Some(Self {
            n,
            mean,
            standard_deviation: deviation,
            half_width: deviation.and_then(|s| interval.half_width(s, n)),
            variation: deviation.filter(|_| mean != 0.0).map(|s| s / mean),
            min,
            q1: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            q3: quantile(&sorted, 0.75),
            max,
        })
    }
}

/// Of sorted values, linear between the two nearest (type 7 of Hyndman and Fan).
fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = p * last as f64;
    let below = at.floor() as usize;
    let (a, b) = (sorted[below], sorted[(below + 1).min(last)]);
    a + (at - at.floor()) * (b - a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Mean 5, squares 9+1+1+1+0+0+4+16 = 32, 32/7 under the root.
        let s = Summary::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], Interval::T).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        near(s.mean, 5.0);
        near(s.standard_deviation.unwrap(), 2.138_089_935);
        // t(0.975, 7) = 2.364624252.
        near(
            s.half_width.unwrap(),
            2.364_624_252 * 2.138_089_935 / 8f64.sqrt(),
        );
        near(s.variation.unwrap(), 0.427_617_987);
        near(s.median, 4.5);
        near(s.q1, 4.0);
        near(s.q3, 5.5);
        assert_eq!((s.min, s.max, s.n), (2.0, 9.0, 8));
    }

    #[test]
    fn one_value_has_no_spread() {
        let s = Summary::of(&[3.0], Interval::T).unwrap();
        assert_eq!((s.standard_deviation, s.half_width), (None, None));
        assert!(Summary::of(&[f64::NAN], Interval::T).is_none());
    }

    #[test]
    fn factors() {
        let t = |df| Interval::T.factor(df).unwrap();
        for (df, want) in [(1.0, 12.706_205), (4.0, 2.776_445), (29.0, 2.045_230)] {
            assert!((t(df) - want).abs() < 1e-5, "{df}: {}", t(df));
        }
        assert!((Interval::Normal.factor(1.0).unwrap() - 1.959_964).abs() < 1e-6);
    }
}
