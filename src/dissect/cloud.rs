//! Recognises the protocols of a cloud's services by their first bytes.

use phasescope_parsers::{amqp, http};

use super::{Protocol, Verdict, Where};

/// Is it AMQP or HTTP? `start`: these are the first bytes of the direction.
pub(super) fn verdict(bytes: &[u8], start: bool) -> Verdict {
    let is = |protocol, place| Verdict::Is(protocol, place);
    let place = if start { Where::Start } else { Where::Middle };
    if http::probe(bytes).is_some() {
        return is(Protocol::Http, place);
    }
    match amqp::probe(bytes) {
        amqp::Probe::Client | amqp::Probe::Server if start => {
            return is(Protocol::Amqp, Where::Start);
        }
        amqp::Probe::Client | amqp::Probe::Server | amqp::Probe::Frames if !start => {
            return is(Protocol::Amqp, Where::Middle);
        }
        amqp::Probe::More => return Verdict::NeedMore,
        _ => {}
    }
    match http::may_begin(bytes) {
        true => Verdict::NeedMore,
        false => Verdict::No,
    }
}
