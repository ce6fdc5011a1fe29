//! Blanks payloads, for captures that are handed on.

use super::{
    header::Header,
    message::{self, Body},
    reader::Reader,
};

/// Blanks, in place, everything in a payload that [`message::decode`] does not read, so that it
/// gives the same [`Body`] before and after:
///
/// - numbers, lengths and names of typed parameters stay in known layouts;
/// - of a domain's XML and of cookies the markup stays, and the values that are read;
/// - URIs lose their password and query, other strings that are not read become `x`;
/// - payloads of other procedures, and what follows a layout's end, become zeros, and so does a
///   payload that does not fit its layout (or ones, where zeros would fit it).
///
/// The text of an error stays, for it is read. Stream data becomes zeros.
pub fn redact(header: &Header, payload: &mut [u8]) {
    let mut reader = Reader::recording(payload);
    let body = message::read(header, payload.len(), &mut reader);
    let image = reader.into_image();
    if body == Body::Damaged {
        payload.fill(0);
        if message::decode(header, payload) != Body::Damaged {
            payload.fill(0xff);
        }
        return;
    }
    let mut remaining = image.into_iter();
    payload.fill_with(|| remaining.next().unwrap_or_default());
}
