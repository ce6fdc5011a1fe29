//! Field tables (AMQP 0-9-1, section 4.2.5.5, in the reading of RabbitMQ's
//! `rabbit_binary_parser.erl`).

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::take;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u32};

/// Most fields read from one table.
const MAX_FIELDS: usize = 256;

/// Sizes of the values of fixed length, by type octet.
const FIXED: &[(u8, u8)] = &[
    (b't', 1),
    (b'b', 1),
    (b'B', 1),
    (b's', 2),
    (b'u', 2),
    (b'I', 4),
    (b'i', 4),
    (b'l', 8),
    (b'L', 8),
    (b'f', 4),
    (b'd', 8),
    (b'D', 5),
    (b'T', 8),
    (b'V', 0),
];

/// Types with a 32-bit length before the value.
const LONG: &[u8] = b"SxAF";

/// One field: its name, its type octet and the bytes of its value, without
/// the length.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u8,
    pub(crate) value: &'a [u8],
}

/// A value after its type octet.
fn value(kind: u8, input: &[u8]) -> IResult<&[u8], &[u8]> {
    if LONG.contains(&kind) {
        return length_data(be_u32).parse(input);
    }
    match FIXED.iter().find(|&&(known, _)| known == kind) {
        Some(&(_, size)) => take(size)(input),
        None => Err(nom::Err::Error(nom::error::Error::new(
            input,
            nom::error::ErrorKind::Switch,
        ))),
    }
}

/// One element of an array: type octet and value.
pub(crate) fn element(input: &[u8]) -> IResult<&[u8], (u8, &[u8])> {
    let (input, kind) = be_u8(input)?;
    let (input, value) = value(kind, input)?;
    Ok((input, (kind, value)))
}

fn field(input: &[u8]) -> IResult<&[u8], Field<'_>> {
    let (input, name) = length_data(be_u8).parse(input)?;
    let (input, (kind, value)) = element(input)?;
    Ok((input, Field { name, kind, value }))
}

/// The fields of a table (without its length word). An unknown type ends the
/// walk.
pub(crate) fn fields(mut table: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        let (rest, found) = field(table).ok()?;
        table = rest;
        Some(found)
    })
    .take(MAX_FIELDS)
}

/// The value of a long-string field.
pub(crate) fn string<'a>(table: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(table)
        .find(|field| field.kind == b'S' && field.name == name.as_bytes())
        .map(|field| field.value)
}
