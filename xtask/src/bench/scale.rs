//! The scale of seconds in plots.

/// A scale on which each step is as many times the one before: mends differ by factors.
pub struct Seconds {
    least: f64,
    most: f64,
    top: f64,
    bottom: f64,
}

impl Seconds {
    /// From the power of ten below the shortest, at the bottom, to the one above the longest.
    pub fn of(times: impl Iterator<Item = f64>, top: f64, bottom: f64) -> Self {
        let (least, most) = times.fold((f64::MAX, 0.0), |(least, most), time| {
            (time.min(least), time.max(most))
        });
        let power = |time: f64| time.max(1e-3).log10();
        let least = power(least).floor();
        Self {
            least,
            most: power(most).ceil().max(least + 1.0),
            top,
            bottom,
        }
    }

    /// Where a time is.
    pub fn y(&self, seconds: f64) -> f64 {
        let share = (seconds.max(1e-3).log10() - self.least) / (self.most - self.least);
        self.top + (self.bottom - self.top) * (1.0 - share)
    }

    /// The powers of ten that it has.
    pub fn marks(&self) -> impl Iterator<Item = f64> {
        (self.least as i32..=self.most as i32).map(|power| 10f64.powi(power))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_holds_every_time_between_powers_of_ten() {
        let scale = Seconds::of([0.03, 2.0].into_iter(), 10.0, 300.0);
        assert_eq!(scale.marks().collect::<Vec<_>>(), [0.01, 0.1, 1.0, 10.0]);
        assert!(scale.y(2.0) < scale.y(0.03) && scale.y(0.03) < 300.0);
        assert_eq!(scale.y(10.0), 10.0);
    }
}
