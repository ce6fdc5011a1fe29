//! Reads a payload item by item and, if asked to, writes down what may remain of it.
//!
//! Decoding and blanking are the same walk: every read names the treatment of what it reads, the
//! caller sees the bytes only after it, and the image holds just those bytes. So blanking cannot
//! fall behind decoding.

use std::borrow::Cow;

use crate::xdr;

use super::{cookie, domain, message::DomainRef, uri, xml};

/// Longest string: `REMOTE_STRING_MAX` and, for cookies, `REMOTE_MIGRATE_COOKIE_MAX`.
const MAX_STRING: u32 = 4_194_304;

/// Longest name of a typed parameter, `VIR_TYPED_PARAM_FIELD_LENGTH` with its final zero.
const MAX_PARAMETER_NAME: usize = 80;

/// What remains of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// All of it.
    Keep,
    /// A URI without its password and query.
    Uri,
    /// A domain's XML without what [`domain`] does not read.
    Domain,
    /// A cookie without what [`cookie`] does not read.
    Cookie,
    /// A parameter's name if it is an identifier, else zeros.
    Name,
    /// Its length.
    Blank,
}

/// A payload being read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    image: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    /// Reads only.
    pub(super) const fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            image: None,
        }
    }

    /// Reads, and makes an image of what may remain.
    pub(super) fn recording(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            image: Some(Vec::with_capacity(payload.len())),
        }
    }

    /// What may remain of the bytes read so far.
    pub(super) fn into_image(self) -> Vec<u8> {
        self.image.unwrap_or_default()
    }

    /// Nothing is left.
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (rest, value) = xdr::u32(self.rest).ok()?;
        self.record(rest, |image| image.extend(value.to_be_bytes()))?;
        Some(value)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (rest, value) = xdr::u64(self.rest).ok()?;
        self.record(rest, |image| image.extend(value.to_be_bytes()))?;
        Some(value)
    }

    /// Steps over bytes that must not remain.
    pub(super) fn zero(&mut self, length: usize) -> Option<()> {
        let rest = self.rest.get(length..)?;
        self.record(rest, |_| ())
    }

    /// The flag before optional data.
    fn present(&mut self) -> Option<bool> {
        let (_, present) = xdr::bool(self.rest).ok()?;
        self.u32()?;
        Some(present)
    }

    /// A string or opaque data, as the treatment leaves it.
    pub(super) fn bytes(&mut self, treatment: Treatment) -> Option<Cow<'a, [u8]>> {
        let (rest, data) = xdr::opaque(MAX_STRING)(self.rest).ok()?;
        let length = u32::try_from(data.len()).ok()?;
        let data = treat(data, treatment);
        self.record(rest, |image| {
            image.extend(length.to_be_bytes());
            image.extend_from_slice(&data);
        })?;
        Some(data)
    }

    /// A string, as the treatment leaves it; what is not UTF-8 in it is replaced.
    pub(super) fn text(&mut self, treatment: Treatment) -> Option<String> {
        self.bytes(treatment)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An optional string.
    pub(super) fn optional_text(&mut self, treatment: Treatment) -> Option<Option<String>> {
        if self.present()? {
            self.text(treatment).map(Some)
        } else {
            Some(None)
        }
    }

    /// A string that nobody wants, which saves its treatment unless there is an image to make.
    pub(super) fn skip(&mut self, treatment: Treatment) -> Option<()> {
        if self.image.is_some() {
            self.bytes(treatment)?;
        } else {
            self.rest = xdr::opaque(MAX_STRING)(self.rest).ok()?.0;
        }
        Some(())
    }

    /// As [`Self::skip`], of an optional string.
    pub(super) fn skip_optional(&mut self, treatment: Treatment) -> Option<()> {
        if self.present()? {
            self.skip(treatment)
        } else {
            Some(())
        }
    }

    /// A cookie; nothing within if it is empty or none.
    pub(super) fn cookie(&mut self) -> Option<Option<cookie::Cookie>> {
        let bytes = self.bytes(Treatment::Cookie)?;
        Some(cookie::Cookie::from_scrubbed(&bytes))
    }

    /// A domain's XML; nothing within if it is none.
    pub(super) fn domain_xml(&mut self) -> Option<Option<domain::DomainSummary>> {
        let bytes = self.bytes(Treatment::Domain)?;
        Some(domain::DomainSummary::from_scrubbed(&bytes))
    }

    /// A `remote_nonnull_domain`.
    pub(super) fn domain(&mut self) -> Option<DomainRef> {
        let name = self.text(Treatment::Keep)?;
        let (rest, data) = xdr::fixed_opaque(16)(self.rest).ok()?;
        let uuid = data.try_into().ok()?;
        self.record(rest, |image| image.extend_from_slice(data))?;
        Some(DomainRef {
            name,
            uuid,
            id: self.i32()?,
        })
    }

    /// A `remote_domain` that nobody wants.
    pub(super) fn skip_optional_domain(&mut self) -> Option<()> {
        if self.present()? {
            self.domain()?;
        }
        Some(())
    }

    /// Goes on to `rest`, while `write` appends what remains; padding, and what `write` leaves
    /// out, is zeros.
    fn record(&mut self, rest: &'a [u8], write: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
        let used = self.rest.len().checked_sub(rest.len())?;
        self.rest = rest;
        if let Some(image) = &mut self.image {
            let end = image.len().saturating_add(used);
            write(image);
            image.resize(end, 0);
        }
        Some(())
    }
}

/// Applies a treatment; the length stays. Applied again, it changes nothing.
fn treat(data: &[u8], treatment: Treatment) -> Cow<'_, [u8]> {
    let owned = |scrub: &dyn Fn(&mut [u8])| {
        let mut copy = data.to_vec();
        scrub(&mut copy);
        Cow::Owned(copy)
    };
    match treatment {
        Treatment::Keep => Cow::Borrowed(data),
        Treatment::Uri => owned(&uri::mask),
        Treatment::Domain => owned(&|copy| xml::scrub(copy, &domain::RULES)),
        Treatment::Cookie => owned(&cookie::scrub),
        Treatment::Name if is_name(data) => Cow::Borrowed(data),
        Treatment::Name => owned(&|copy| copy.fill(0)),
        Treatment::Blank => owned(&|copy| copy.fill(b'x')),
    }
}

/// Whether this can be a typed parameter's name.
pub(super) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() < MAX_PARAMETER_NAME
        && name.iter().all(|&byte| xml::identifier(byte))
}
