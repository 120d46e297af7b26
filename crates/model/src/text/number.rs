//! Numbers as people write them, kept digit by digit until the type decides what it holds.

use super::Misfit;

/// No number has more digits than a row has bytes; beyond this an exponent is out of every range.
const MAX_EXPONENT: i64 = 1 << 40;

/// A decimal number: `[+-]digits[.digits][e[+-]digits]`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<'a> {
    /// Whether a minus stands before it.
    pub negative: bool,
    /// The digits before the point.
    pub whole: &'a str,
    /// The digits after the point.
    pub fraction: &'a str,
    /// The power of ten behind it; `None` where none is written.
    pub exponent: Option<i64>,
}

impl<'a> Number<'a> {
    /// Takes a number apart; `point` stands before its fraction.
    pub fn read(text: &'a str, point: char) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(read_exponent(exponent)?)),
            None => (unsigned, None),
        };
        let (whole, fraction) = mantissa.split_once(point).unwrap_or((mantissa, ""));
        let no_digits = whole.is_empty() && fraction.is_empty();
        if no_digits || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        Some(Self {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    /// Whether it is zero, of either sign.
    pub fn is_zero(&self) -> bool {
        self.digits().next().is_none()
    }

    /// The number times ten to the power of `scale`, where that is whole; with `round` the nearest
    /// whole number, halves away from zero.
    ///
    /// # Errors
    /// Digits would be lost, or it is more than an `i128` holds.
    pub fn scaled(&self, scale: u8, round: bool) -> Result<i128, Misfit> {
        let digits: Vec<u8> = self.digits().collect();
        if digits.is_empty() {
            return Ok(0);
        }
        let fraction_digits = i64::try_from(self.fraction.len()).map_err(|_| Misfit::Range)?;
        let shift = self.exponent.unwrap_or(0) - fraction_digits + i64::from(scale);
        let mut magnitude: u128 = 0;
        let mut push = |digit: u8| {
            magnitude = magnitude
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u128::from(digit)))
                .ok_or(Misfit::Range)?;
            Ok(())
        };
        let dropped = usize::try_from(-shift).unwrap_or(0);
        let kept = digits.len().saturating_sub(dropped);
        digits[..kept].iter().try_for_each(|digit| push(*digit))?;
        for _ in 0..shift {
            push(0)?;
        }
        let lost = &digits[kept..];
        if lost.iter().any(|digit| *digit != 0) {
            if !round {
                return Err(Misfit::Digits);
            }
            // Where more is dropped than there are digits, the first that is dropped is a zero.
            let half = dropped <= digits.len() && lost.first().is_some_and(|digit| *digit >= 5);
            magnitude += u128::from(half);
        }
        let magnitude = i128::try_from(magnitude).map_err(|_| Misfit::Range)?;
        Ok(if self.negative { -magnitude } else { magnitude })
    }

    /// Whether both are the same number, however they are written.
    pub fn is_same(&self, other: &Number<'_>) -> bool {
        let signs = self.negative == other.negative;
        signs && self.significant() == other.significant()
    }

    /// The digits between the zeros around them, and the power of ten they count.
    fn significant(&self) -> (Vec<u8>, i64) {
        let mut digits: Vec<u8> = self.digits().collect();
        let all = digits.len();
        let kept = digits.iter().rposition(|digit| *digit != 0);
        digits.truncate(kept.map_or(0, |at| at + 1));
        if digits.is_empty() {
            return (digits, 0);
        }
        let zeros = (all - digits.len()) as i64;
        let power = self.exponent.unwrap_or(0) - self.fraction.len() as i64 + zeros;
        (digits, power)
    }

    /// The digits from the first that is not zero, as numbers.
    fn digits(&self) -> impl Iterator<Item = u8> {
        let digits = self.whole.bytes().chain(self.fraction.bytes());
        digits.map(|b| b - b'0').skip_while(|digit| *digit == 0)
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The power of ten, held within [`MAX_EXPONENT`].
fn read_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !all_digits(digits) {
        return None;
    }
    // Only too many digits keep it from being read.
    let magnitude = digits.parse().unwrap_or(MAX_EXPONENT).min(MAX_EXPONENT);
    Some(if negative { -magnitude } else { magnitude })
}

/// A floating point type: what its text reads as, and whether that is infinite or zero.
pub(super) trait Floating: std::str::FromStr + Copy {
    /// Whether it is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// Whether it is zero.
    fn is_zero(self) -> bool;
}

macro_rules! floating {
    ($float:ty) => {
        impl Floating for $float {
            fn is_finite(self) -> bool {
                <$float>::is_finite(self)
            }
            fn is_zero(self) -> bool {
                self == 0.0
            }
        }
    };
}

floating!(f32);
floating!(f64);

/// The nearest finite value, or `NaN`, `inf` and `-inf` where these are written. With `round` what is
/// nearer to zero than to any other value is zero.
///
/// # Errors
/// The text is no number, is beyond the largest value, or would become zero without being it.
pub(super) fn float<T: Floating>(text: &str, point: char, round: bool) -> Result<T, Misfit> {
    let parse = |text: &str| text.parse::<T>().map_err(|_| Misfit::Form);
    let Some(number) = Number::read(text, point) else {
        let word = text.trim_start_matches(['-', '+']);
        let words = ["nan", "inf", "infinity"];
        return if words.iter().any(|known| word.eq_ignore_ascii_case(known)) {
            parse(text)
        } else {
            Err(Misfit::Form)
        };
    };
    let value = if point == '.' {
        parse(text)?
    } else {
        parse(&text.replace(point, "."))?
    };
    if !value.is_finite() {
        Err(Misfit::Range)
    } else if value.is_zero() && !number.is_zero() && !round {
        Err(Misfit::TooSmall)
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scaled(text: &str, scale: u8, round: bool) -> Result<i128, Misfit> {
        Number::read(text, '.')
            .ok_or(Misfit::Form)?
            .scaled(scale, round)
    }

    #[test]
    fn digits_are_kept_or_refused_and_rounded_only_when_asked() {
        assert_eq!(scaled("12.50", 2, false), Ok(1250));
        assert_eq!(scaled("-1.25e1", 1, false), Ok(-125));
        assert_eq!(scaled("1e3", 0, false), Ok(1000));
        assert_eq!(scaled("5.", 0, false), Ok(5));
        assert_eq!(scaled("0.505", 2, false), Err(Misfit::Digits));
        assert_eq!(scaled("0.505", 2, true), Ok(51));
        assert_eq!(scaled("-0.504", 2, true), Ok(-50));
        assert_eq!(scaled("0.009", 0, true), Ok(0));
        assert_eq!(scaled("5e-1", 0, true), Ok(1));
        assert_eq!(scaled("5e-99999999999999999999", 0, true), Ok(0));
        assert_eq!(
            scaled("1e99999999999999999999", 0, true),
            Err(Misfit::Range)
        );
        assert_eq!(scaled("0e99999999999999999999", 0, false), Ok(0));
        for text in ["", ".", "-", "1e", "1,5", "0x10", "1_000", "--1", "1e5.5"] {
            assert_eq!(scaled(text, 0, false), Err(Misfit::Form), "{text}");
        }
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        let number = |text| Number::read(text, '.').unwrap();
        for (one, other, same) in [
            ("1500", "1.5e3", true),
            ("0.10", "1e-1", true),
            ("0", "0.00e5", true),
            ("0", "-0", false),
            ("10", "1", false),
            ("1.01", "1.1", false),
        ] {
            assert_eq!(number(one).is_same(&number(other)), same, "{one} {other}");
        }
    }

    #[test]
    fn a_float_is_the_nearest_finite_value() {
        assert_eq!(float("0.1", '.', false), Ok(0.1f64));
        assert_eq!(float("0,1", ',', false), Ok(0.1f64));
        assert_eq!(float::<f64>("0.1", ',', false), Err(Misfit::Form));
        assert_eq!(float::<f64>("1e400", '.', true), Err(Misfit::Range));
        assert_eq!(float::<f32>("1e39", '.', false), Err(Misfit::Range));
        assert_eq!(float::<f32>("1e-50", '.', false), Err(Misfit::TooSmall));
        assert_eq!(float("1e-50", '.', true), Ok(0.0f32));
        assert_eq!(float("0e-50", '.', false), Ok(0.0f32));
        assert_eq!(float("-Infinity", '.', false), Ok(f64::NEG_INFINITY));
        assert_eq!(float::<f64>("+-inf", '.', false), Err(Misfit::Form));
    }

    proptest! {
        #[test]
        fn a_number_scaled_is_the_number(v in any::<i64>(), scale in 0u8..10, zeros in 0usize..5) {
            let unit = 10i128.pow(u32::from(scale));
            let text = format!("{v}.{}", "0".repeat(zeros));
            prop_assert_eq!(scaled(&text, scale, false), Ok(i128::from(v) * unit));
            let text = format!("{v}e-{scale}");
            prop_assert_eq!(scaled(&text, scale, false), Ok(i128::from(v)));
        }
    }
}
