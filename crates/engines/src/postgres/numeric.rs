//! Numbers of a fixed scale as the server sends them: groups of four decimal digits.
//!
//! ```text
//! groups (i16) | weight of the first, in groups (i16) | sign (u16) | scale (u16) | each group (i16)
//! ```

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const GROUP: i128 = 10_000;

/// The number times ten to the power of its scale.
///
/// # Errors
/// It is none of that scale, or not a number.
pub(super) fn decode(bytes: &[u8], scale: u8) -> Result<i128, String> {
    let cut_off = || "a number that is cut off".to_owned();
    let mut words = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut next = || words.next().ok_or_else(cut_off);
    let (groups, weight, sign, own_scale) = (next()?, next()? as i16, next()?, next()?);
    match sign {
        0 | NEGATIVE => {}
        NAN => return Err("NaN, which a decimal number of mendb cannot be".to_owned()),
        _ => return Err("infinity, which a decimal number of mendb cannot be".to_owned()),
    }
    if own_scale != u16::from(scale) {
        return Err(format!(
            "a number of scale {own_scale}, where the scale is {scale}"
        ));
    }
    let mut sum: i128 = 0;
    for at in 0..groups {
        let group = i128::from(next()?);
        // Of the last digit of the group, in digits of the scale.
        let place = 4 * (i32::from(weight) - i32::from(at)) + i32::from(scale);
        let part = if place >= 0 {
            power(place.unsigned_abs()).and_then(|power| group.checked_mul(power))
        } else {
            let divisor = power((-place).unsigned_abs()).filter(|divisor| *divisor <= GROUP);
            match divisor {
                Some(divisor) if group % divisor == 0 => Some(group / divisor),
                None if group == 0 => Some(0),
                _ => None,
            }
        };
        let added = part.and_then(|part| sum.checked_add(part));
        sum = added.ok_or_else(|| {
            "a number that is too large, or has digits beyond its scale".to_owned()
        })?;
    }
    Ok(if sign == NEGATIVE { -sum } else { sum })
}

/// Appends the number that is this one by ten to the power of the scale.
pub(super) fn encode(out: &mut Vec<u8>, number: i128, scale: u8) {
    let absolute = number.unsigned_abs();
    let unit = 10u128.pow(u32::from(scale));
    let (mut whole, fraction) = (absolute / unit, absolute % unit);
    let mut groups = Vec::new();
    while whole > 0 {
        groups.push((whole % 10_000) as u16);
        whole /= 10_000;
    }
    groups.reverse();
    let mut weight = groups.len() as i16 - 1;
    let scale_digits = u32::from(scale);
    for first in (0..scale_digits).step_by(4) {
        // Behind the digits before the group: those of the group, and what follows.
        let rest = fraction % 10u128.pow(scale_digits - first);
        let behind = scale_digits as i32 - first as i32 - 4;
        let group = match behind >= 0 {
            true => rest / 10u128.pow(behind.unsigned_abs()),
            false => rest * 10u128.pow(behind.unsigned_abs()),
        };
        groups.push(group as u16);
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    if groups.is_empty() {
        weight = 0;
    }
    let sign = if number < 0 { NEGATIVE } else { 0 };
    let head = [groups.len() as u16, weight as u16, sign, u16::from(scale)];
    for word in head.into_iter().chain(groups) {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn power(of_ten: u32) -> Option<i128> {
    10i128.checked_pow(of_ten)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(bytes: &[u8]) -> Vec<u16> {
        bytes
            .chunks(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }

    #[test]
    fn numbers_are_those_that_a_server_sends() {
        // What numeric_send gives for 12345.67, -0.0012, 0, 10000 and 1.5.
        for (number, scale, expected) in [
            (1_234_567, 2, vec![3, 1, 0, 2, 1, 2345, 6700]),
            (-12, 4, vec![1, 0xffff, NEGATIVE, 4, 12]),
            (0, 2, vec![0, 0, 0, 2]),
            (1_000_000, 2, vec![1, 1, 0, 2, 1]),
            (15, 1, vec![2, 0, 0, 1, 1, 5000]),
        ] {
            let mut out = Vec::new();
            encode(&mut out, number, scale);
            assert_eq!(words(&out), expected, "{number}");
            assert_eq!(decode(&out, scale), Ok(number));
        }
        let nan: Vec<u8> = [0, 0, NAN, 0]
            .iter()
            .flat_map(|word: &u16| word.to_be_bytes())
            .collect();
        assert!(decode(&nan, 2).unwrap_err().contains("NaN"));
    }

    proptest! {
        #[test]
        fn every_number_of_38_digits_comes_back(
            digits in -10i128.pow(38) + 1..10i128.pow(38),
            shift in 0u32..38,
            scale in 0u8..=38,
        ) {
            let number = digits / 10i128.pow(shift);
            let mut out = Vec::new();
            encode(&mut out, number, scale);
            prop_assert_eq!(decode(&out, scale), Ok(number));
        }

        #[test]
        fn damaged_numbers_are_errors_not_panics(bytes: Vec<u8>, scale in 0u8..=38) {
            let _ = decode(&bytes, scale);
        }
    }
}
