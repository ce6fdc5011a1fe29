//! Intervals for means: quantiles of Student's t and of the normal distribution.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Probability that the interval holds the mean.
pub const LEVEL: f64 = 0.95;

/// Which distribution gives the width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interval {
    /// Student's t with n−1 degrees of freedom: right for small samples.
    #[default]
    T,
    /// The normal distribution, 1.959964: as if the deviation were known.
    Normal,
}

impl Interval {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::T => "t",
            Self::Normal => "normal",
        }
    }

    /// How many standard errors the half width is; `None` below one degree of freedom.
    pub fn factor(self, degrees: f64) -> Option<f64> {
        if !degrees.is_finite() || degrees <= 0.0 {
            return None;
        }
        let p = f64::midpoint(1.0, LEVEL);
        let factor = match self {
            Self::T => StudentsT::new(0.0, 1.0, degrees).ok()?.inverse_cdf(p),
            Self::Normal => Normal::new(0.0, 1.0).ok()?.inverse_cdf(p),
        };
        factor.is_finite().then_some(factor)
    }

    /// Half the width of the interval of a mean.
    pub fn half_width(self, deviation: f64, n: usize) -> Option<f64> {
        if n < 2 {
            return None;
        }
        Some(self.factor(n as f64 - 1.0)? * deviation / (n as f64).sqrt())
    }
}
