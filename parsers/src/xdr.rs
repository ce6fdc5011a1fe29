//! XDR items (RFC 4506) as nom parsers: big-endian, every item padded to four bytes.
//!
//! All parsers are *complete*: too few bytes is an error, never "incomplete", for the callers
//! hold whole messages. Nothing is copied; opaque data and strings borrow from the input.

use nom::{
    IResult, Parser,
    bytes::complete::take,
    combinator::{map, verify},
    error::{Error, ErrorKind},
    number::complete::{be_i32, be_u32, be_u64},
};

/// Every XDR item takes a multiple of this many bytes (RFC 4506, section 3).
pub const UNIT: usize = 4;

/// Unsigned integer, and any enumeration without negative values (RFC 4506, section 4.2).
///
/// # Errors
/// Fewer than four bytes left.
pub fn u32(input: &[u8]) -> IResult<&[u8], u32> {
    be_u32(input)
}

/// Signed integer (RFC 4506, section 4.1).
///
/// # Errors
/// Fewer than four bytes left.
pub fn i32(input: &[u8]) -> IResult<&[u8], i32> {
    be_i32(input)
}

/// Unsigned hyper integer (RFC 4506, section 4.5).
///
/// # Errors
/// Fewer than eight bytes left.
pub fn u64(input: &[u8]) -> IResult<&[u8], u64> {
    be_u64(input)
}

/// Boolean: four bytes, 0 or 1 (RFC 4506, section 4.4).
///
/// # Errors
/// Fewer than four bytes left, or another value.
pub fn bool(input: &[u8]) -> IResult<&[u8], bool> {
    map(verify(be_u32, |&value| value <= 1), |value| value == 1).parse(input)
}

/// Opaque data of a length known beforehand, with its padding (RFC 4506, section 4.9). The
/// padding's value is not looked at.
///
/// # Errors
/// Fewer bytes left than `length` and its padding.
pub fn fixed_opaque(length: usize) -> impl Fn(&[u8]) -> IResult<&[u8], &[u8]> {
    move |input| {
        let (rest, data) = take(length)(input)?;
        let (rest, _) = take(padding(length))(rest)?;
        Ok((rest, data))
    }
}

/// Opaque data of variable length: a length in bytes, the bytes, padding (RFC 4506, section 4.10).
///
/// # Errors
/// A length above `max`, or fewer bytes left than it and the padding need.
pub fn opaque(max: u32) -> impl Fn(&[u8]) -> IResult<&[u8], &[u8]> {
    move |input| {
        let (rest, length) = be_u32(input)?;
        let too_long = || nom::Err::Error(Error::new(input, ErrorKind::TooLarge));
        if length > max {
            return Err(too_long());
        }
        let length = usize::try_from(length).map_err(|_| too_long())?;
        fixed_opaque(length)(rest)
    }
}

/// How many bytes of padding follow `length` bytes of data.
const fn padding(length: usize) -> usize {
    // `length % UNIT` is below UNIT, so neither subtraction can wrap.
    (UNIT - length % UNIT) % UNIT
}
