//! The little of DER that private keys need: nested elements, numbers; and one division of large numbers.
use zeroize::Zeroizing;

pub const INTEGER: u8 = 0x02;
pub const BITS: u8 = 0x03;
pub const OCTETS: u8 = 0x04;
pub const SEQUENCE: u8 = 0x30;

/// Takes the element with `tag` off the front; its content.
pub fn take<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then(|| {
        *bytes = rest;
        content
    })
}

/// Tag and content of the first element, and what follows it.
pub fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (long, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if long.len() > 4 {
            return None;
        }
        (long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A number without its leading zeros.
pub fn strip(number: &[u8]) -> &[u8] {
    &number[number.iter().position(|byte| *byte != 0).unwrap_or(number.len())..]
}

/// `number mod (modulus - 1)`, big-endian; `modulus` is odd and greater than 1. Bit by bit: a key is read once in a build.
pub fn remainder_below(number: &[u8], modulus: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut less = Zeroizing::new(strip(modulus).to_vec());
    // An odd number: nothing to borrow.
    if let Some(last) = less.last_mut() {
        *last &= !1;
    }
    // One byte more than the divisor, so that a doubling fits.
    let mut rest = Zeroizing::new(vec![0_u8; less.len() + 1]);
    less.insert(0, 0);
    for byte in number {
        for bit in (0..8).rev() {
            let mut carry = byte >> bit & 1;
            for place in rest.iter_mut().rev() {
                (*place, carry) = (*place << 1 | carry, *place >> 7);
            }
            if *rest >= *less {
                let mut borrow = false;
                for (place, taken) in rest.iter_mut().zip(less.iter()).rev() {
                    let (once, first) = place.overflowing_sub(*taken);
                    let (twice, second) = once.overflowing_sub(u8::from(borrow));
                    (*place, borrow) = (twice, first || second);
                }
            }
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders() {
        let check = |number: u64, modulus: u64| {
            let found = remainder_below(&number.to_be_bytes(), &modulus.to_be_bytes());
            let found = strip(&found).iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
            assert_eq!(found, number % (modulus - 1), "{number} {modulus}");
        };
        for number in [0, 1, 2, 254, 255, 65_535, 123_456_789_012, u64::MAX] {
            for modulus in [3, 5, 7, 255, 257, 65_537, 1_000_003, u64::MAX] {
                check(number, modulus);
            }
        }
    }

    #[test]
    fn cut_elements_are_no_elements() {
        let whole = [SEQUENCE, 3, INTEGER, 1, 7];
        let mut bytes = &whole[..];
        let mut inner = take(&mut bytes, SEQUENCE).expect("a sequence");
        assert_eq!(take(&mut inner, INTEGER), Some(&[7][..]));
        for end in 0..whole.len() {
            assert!(take(&mut &whole[..end], SEQUENCE).is_none());
        }
        for long in [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0x30, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0x30, 0x82]]
        {
            assert!(element(long).is_none());
        }
    }
}
