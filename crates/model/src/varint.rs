//! Unsigned LEB128 integers.

/// Appends `value`, seven bits a byte, lowest first.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes `value` takes.
#[inline]
pub(crate) fn length(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// Writes `value` to the front of `out`, which has room, and returns how many bytes that took.
#[inline]
pub(crate) fn write(out: &mut [u8], mut value: u64) -> usize {
    let mut at = 0;
    while value >= 0x80 {
        out[at] = (value as u8) | 0x80;
        at += 1;
        value >>= 7;
    }
    out[at] = value as u8;
    at + 1
}

/// Takes one integer off the front of `bytes`; `None` when they end too early or overflow 64 bits.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(value: u64, bits in 0u32..64) {
            let value = value >> bits;
            let mut out = Vec::new();
            super::put(&mut out, value);
            let mut rest = out.as_slice();
            prop_assert_eq!(super::take(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
            let mut written = vec![0; super::length(value)];
            prop_assert_eq!(super::write(&mut written, value), written.len());
            prop_assert_eq!(written, out);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            super::take(&mut bytes.as_slice());
        }
    }
}
