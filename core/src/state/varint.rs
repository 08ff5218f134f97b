//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, the high bit set on all but the last.
//!
//! Each number has exactly one encoding that is accepted, so that equal state has equal bytes and equal hashes.

use super::CorruptState;

/// A `u64` never needs more.
const MAX_BYTES: usize = 10;

/// Appends a number.
pub fn write(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_seven_bits(number) | 0x80);
        number >>= 7;
    }
    out.push(low_seven_bits(number));
}

/// Appends a number that may be negative; those near 0 are the shortest.
pub fn write_signed(out: &mut Vec<u8>, number: i64) {
    write(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Takes a number off the front.
pub fn read(bytes: &mut &[u8]) -> Result<u64, CorruptState> {
    let mut number = 0_u64;
    for index in 0..MAX_BYTES {
        let (&byte, rest) = bytes.split_first().ok_or(CorruptState::Truncated)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index;
        if (bits << shift) >> shift != bits {
            return Err(CorruptState::OutOfRange);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            let padded = byte == 0 && index > 0;
            return if padded { Err(CorruptState::OutOfRange) } else { Ok(number) };
        }
    }
    Err(CorruptState::OutOfRange)
}

/// Takes a number that may be negative off the front.
pub fn read_signed(bytes: &mut &[u8]) -> Result<i64, CorruptState> {
    let folded = read(bytes)?;
    Ok((folded >> 1).cast_signed() ^ -(folded & 1).cast_signed())
}

fn low_seven_bits(number: u64) -> u8 {
    (number & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn overlong_and_oversized_numbers_are_refused() {
        for (bytes, why) in [
            (&[][..], CorruptState::Truncated),
            (&[0x80], CorruptState::Truncated),
            (&[0x80, 0x00], CorruptState::OutOfRange),
            (&[0xff; 11], CorruptState::OutOfRange),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], CorruptState::OutOfRange),
        ] {
            assert_eq!(read(&mut &*bytes), Err(why), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(number: u64, signed: i64) {
            let mut bytes = Vec::new();
            write(&mut bytes, number);
            write_signed(&mut bytes, signed);
            let mut rest = &bytes[..];
            prop_assert_eq!(read(&mut rest), Ok(number));
            prop_assert_eq!(read_signed(&mut rest), Ok(signed));
            prop_assert!(rest.is_empty());
        }
    }
}
