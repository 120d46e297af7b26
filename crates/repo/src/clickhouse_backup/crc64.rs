//! CRC64 with the polynomial of ECMA-182, bits reversed: how backups of servers without part hashes tell
//! parts of one name apart.

const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;

/// The CRC64 of bytes. Bit by bit: only lists of files go through it.
pub(super) fn crc64(bytes: &[u8]) -> u64 {
    let step = |crc: u64| (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| step(crc))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard_is_met() {
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(crc64(b""), 0);
    }
}
