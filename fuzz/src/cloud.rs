//! What a cloud's services speak: AMQP, oslo.messaging, HTTP, OpenStack's JSON.

use phasescope_parsers::http::{self as web, Item as Web};
use phasescope_parsers::openstack::redact::{
    redact_amqp_body, redact_amqp_header, redact_amqp_method, redact_http_body,
};
use phasescope_parsers::openstack::{Fields, ROUTES, classify, request_fields, response_fields};
use phasescope_parsers::{amqp as broker, json, oslo as envelope};

use super::pieces::{both, cut, seed};

/// A hash that shows nothing of how tokens are compared in the program.
fn hash(bytes: &[u8]) -> u64 {
    let step = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// One direction of AMQP 0-9-1.
pub fn amqp(data: &[u8]) {
    let (seed, data) = seed(data);
    let run = |pieces: &[&[u8]]| {
        let mut items = Vec::new();
        let mut skipped = 0;
        let mut take = |item: broker::Item<'_, ()>| match item {
            broker::Item::Skipped { length, .. } => skipped += length,
            broker::Item::Content(c) => {
                assert!(c.body.bytes().len() <= broker::MAX_BODY);
                items.push(format!("{c:?} {:?}", c.body.bytes()));
            }
            item => items.push(format!("{item:?}")),
        };
        let mut decoder = match seed & 0x100 != 0 {
            true => broker::Decoder::in_the_middle(),
            false => broker::Decoder::new(),
        };
        for piece in pieces {
            decoder.push((), piece, &mut take);
            assert!(decoder.resolved() <= decoder.consumed());
            assert!(decoder.consumed() <= data.len() as u64);
        }
        decoder.finish(&mut take);
        assert!(skipped <= data.len() as u64);
        (items, skipped)
    };
    if run(&[data]).1 == 0 {
        both(seed, data, run);
    } else {
        // Out of step, a candidate may be judged by what lies behind it in the slice.
        run(&cut(seed, data));
    }
    let _ = broker::decode_method(data);
    let _ = broker::decode_header(data);
    let _ = broker::probe(data);
    for redact in [redact_amqp_method, redact_amqp_header] {
        let mut copy = data.to_vec();
        redact(&mut copy, &hash);
        assert_eq!(copy.len(), data.len());
    }
}

/// Envelopes of oslo.messaging; blanked, they say the same.
pub fn oslo(data: &[u8]) {
    let before = envelope::decode(data);
    let mut copy = data.to_vec();
    redact_amqp_body(&mut copy, &hash);
    assert_eq!(copy.len(), data.len());
    if before.is_none() {
        assert!(copy.iter().all(|b| !b.is_ascii_digit()), "all is blank");
    }
}

/// One direction of HTTP/1.
pub fn http(data: &[u8]) {
    let (seed, data) = seed(data);
    let side = match seed & 0x100 != 0 {
        true => web::Side::Responses,
        false => web::Side::Requests,
    };
    both(seed, data, |pieces| {
        let mut items = Vec::new();
        let mut skipped = 0;
        let mut take = |item: Web<'_, ()>| match item {
            Web::Skipped { length, .. } => skipped += length,
            // Out of step, a candidate may be judged by what lies behind it in the slice.
            _ if skipped > 0 => {}
            Web::Request(r) => {
                assert!(r.content.body.bytes().len() <= web::MAX_BODY);
                items.push(format!("{r:?} {:?}", r.content.body.bytes()));
            }
            Web::Response(r) => {
                assert!(r.content.body.bytes().len() <= web::MAX_BODY);
                items.push(format!("{r:?} {:?}", r.content.body.bytes()));
            }
        };
        let mut decoder = match seed & 0x200 != 0 {
            true => web::Decoder::in_the_middle(side),
            false => web::Decoder::new(side),
        };
        for piece in pieces {
            decoder.push((), piece, &hash, &mut take);
            assert!(decoder.resolved() <= data.len() as u64);
        }
        decoder.finish(&mut take);
        assert!(skipped <= data.len() as u64);
        items
    });
    let _ = (web::probe(data), web::may_begin(data));
}

fn bounded(f: &Fields, data: &[u8]) {
    assert!(format!("{f:?}").len() <= 2000 + 20 * data.len());
}

/// Paths, and the bodies of every call.
pub fn openstack(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for route in ROUTES {
        for method in route.methods {
            let _ = classify(*method, &text);
        }
        bounded(&request_fields(route.call, data, &hash), data);
        bounded(&response_fields(route.call, data, &hash), data);
    }
    let mut copy = data.to_vec();
    redact_http_body(&mut copy, &hash);
    assert_eq!(copy.len(), data.len());
}

/// JSON that may be cut off: a cut text names nothing that the whole does not.
pub fn json_prefix(data: &[u8]) {
    let ours = json::parse_prefix(data);
    let half = json::parse_prefix(&data[..data.len() / 2]);
    let Ok(whole) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let Some(object) = whole.as_object() else {
        return;
    };
    assert_eq!(ours.as_ref(), Some(&whole));
    let half = half.as_ref().and_then(|h| h.as_object());
    let mut keys = half.into_iter().flat_map(|h| h.keys());
    assert!(keys.all(|k| object.contains_key(k)));
}
