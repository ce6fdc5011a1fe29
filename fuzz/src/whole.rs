//! The whole way from bytes to the report, in every format.

use std::io::Cursor;
use std::sync::OnceLock;

use jsonschema::Validator;
use phasescope::analysis::{Analysis, analyze};
use phasescope::capture::{Capture, Frame, LinkType};
use phasescope::dissect::Event;
use phasescope::migration::{Boundary, Certainty, Migration};
use phasescope::report::document::{Format, render_with};
use phasescope::report::trace::{otlp, perfetto};
use phasescope::report::{JSON_SCHEMA, Report, events, html};
use phasescope::time::Timestamp;

fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let schema = serde_json::from_str(JSON_SCHEMA).expect("JSON");
        jsonschema::validator_for(&schema).expect("a schema")
    })
}

fn edges(m: &Migration) -> impl Iterator<Item = &Boundary> {
    let phases = m.phases.iter().flat_map(|p| [&p.start, &p.end]);
    phases.flatten()
}

/// What every report keeps to, whatever was read.
fn check(report: &Report, frames: u64) {
    assert_eq!(report.capture.packets, frames);
    for m in &report.migrations {
        for b in edges(m) {
            // A frame that was read stands behind every boundary.
            assert!((1..=frames).contains(&b.frame), "{b:?} of {frames}");
            assert!(
                b.first_frame.is_none_or(|f| (1..=b.frame).contains(&f)),
                "{b:?}"
            );
            assert!(b.uncertainty_ns >= 0, "{b:?}");
            assert!(!b.marker.is_empty());
            assert!(
                b.certainty != Certainty::Decoded || b.uncertainty_ns == 0,
                "{b:?}"
            );
        }
        for p in &m.phases {
            // Unknown is said with its reason.
            let known = p.start.is_some() && p.end.is_some();
            assert!(known || p.reason.is_some(), "{p:?}");
            assert!(known || p.duration_ns.is_none(), "{p:?}");
            assert!(p.duration_ns.is_none_or(|d| d >= 0), "{p:?}");
            assert!(p.duration_ns.is_some() || p.reason.is_some(), "{p:?}");
        }
        for d in &m.downtime {
            assert!(d.duration_ns.is_none_or(|n| n >= 0), "{d:?}");
            assert!(d.duration_ns.is_some() || d.reason.is_some(), "{d:?}");
        }
        let spans = [
            m.total_time_ns,
            m.migration_time_ns,
            m.gaps_ns,
            m.overlaps_ns,
        ];
        assert!(spans.iter().flatten().all(|d| *d >= 0), "{spans:?}");
        assert!(m.calls.iter().all(|c| c.duration_ns.is_none_or(|d| d >= 0)));
    }
    for detail in [false, true] {
        for format in [Format::Text { color: detail }, Format::Markdown] {
            let text = render_with(report, format, detail);
            assert!(!text.is_empty());
            let plain = |c: char| !c.is_control() || c == '\n' || (detail && c == '\u{1b}');
            assert!(text.chars().all(plain), "no control characters");
        }
    }
    // Pictures take most of the time: every fourth is enough.
    if frames.is_multiple_of(4) {
        html::page(report, &[]).expect("a page");
    }
    perfetto::trace(report);
    otlp::request(report);
    let value = serde_json::to_value(report).expect("serialises");
    let errors: Vec<String> = validator()
        .iter_errors(&value)
        .map(|e| format!("{e} at {}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let again: Report = serde_json::from_value(value).expect("reads");
    assert_eq!(again.to_json().ok(), report.to_json().ok());
}

/// A capture file's report.
pub fn report(data: &[u8]) {
    let Ok(mut capture) = Capture::from_reader("f", Cursor::new(data.to_vec())) else {
        return;
    };
    let report = analyze(&mut capture, |_| true).expect("memory can be read");
    check(&report, capture.files()[0].packets);
}

/// A capture file, scrubbed: as many packets of the same lengths and times, and it scrubs again.
pub fn scrub(data: &[u8]) {
    let mut data = data.to_vec();
    for _ in 0..2 {
        let Ok(mut capture) = Capture::from_reader("f", Cursor::new(data)) else {
            return;
        };
        let mut out = Vec::new();
        for word in [0xa1b2_3c4du32, 0x0004_0002, 0, 0, 262_144] {
            out.extend(word.to_le_bytes());
        }
        let mut link = None;
        let mut packets = 0;
        phasescope::scrub::scrub(
            &mut capture,
            false,
            |_, f| {
                packets += 1;
                if link.is_none() {
                    link = Some(f.link);
                    out.extend(u32::from(f.link.number()).to_le_bytes());
                }
                let ns = f.time.nanos();
                let (s, ns) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
                for word in [s as u32, ns as u32, f.data.len() as u32, f.wire_len] {
                    out.extend(word.to_le_bytes());
                }
                out.extend(f.data);
                Ok(())
            },
            |_| true,
        )
        .expect("memory can be read and written");
        assert_eq!(packets, capture.files()[0].packets);
        data = out;
    }
}

/// Ends of the connections that [`connections`] makes: `libvirtd`, the stream, a broker, an
/// interface of OpenStack, and one more.
const PORTS: [u16; 8] = [16509, 49152, 5672, 8774, 49153, 5000, 10809, 22];

/// Longest payload of a built segment. Bytes.
const MAX_PAYLOAD: usize = 1400;

/// Segments of a few connections in order, whatever they carry: a byte for the connection, one for
/// flags, one for the time that has passed, two for a length, then the payload.
pub fn connections(mut data: &[u8]) {
    let mut sequences = [[1u32, 1]; 16];
    let mut analysis = Analysis::default();
    let (mut number, mut now) = (0u64, 1_700_000_000_000_000_000i64);
    let mut lines = 0u64;
    while let [which, flags, time, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])) % (MAX_PAYLOAD + 1);
        let (payload, more) = rest.split_at(length.min(rest.len()));
        data = more;
        number += 1;
        // Mostly forwards, by up to some minutes.
        now += match time {
            0xff => -1_000_000_000,
            t => 1i64 << (t % 38),
        };
        let slot = usize::from(which & 0x0f);
        let side = usize::from(which >> 4 & 1);
        if flags & 0x40 != 0 {
            // A hole.
            sequences[slot][side] = sequences[slot][side].wrapping_add(u32::from(*time) * 16);
        }
        let frame = frame(slot, side, *flags, sequences[slot], payload);
        let moved = payload.len() as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        sequences[slot][side] = sequences[slot][side].wrapping_add(moved);
        let frame = Frame {
            number,
            time: Timestamp::from_nanos(now),
            interface: 0,
            link: LinkType::Raw,
            wire_len: frame.len() as u32,
            data: &frame,
        };
        let first = Timestamp::from_nanos(0);
        analysis.frame_seen(&frame, &mut |e: &Event| {
            assert!(e.begin.frame <= e.stamp.frame && e.stamp.frame <= number);
            let text = events::line(e, None, first);
            let json = events::json(e, None, first);
            let json = json.map(|j| serde_json::from_str::<serde_json::Value>(&j));
            assert!(json.is_none_or(|j| j.is_ok_and(|v| v.is_object())));
            lines += u64::from(text.is_some());
        });
    }
    analysis.close(&mut |_| {});
    check(&analysis.report(&[]), number);
}

/// IPv4 and TCP, without checksums. Bits of `flags`: SYN, FIN, RST, no ACK.
fn frame(slot: usize, side: usize, flags: u8, sequences: [u32; 2], payload: &[u8]) -> Vec<u8> {
    let total = 40 + payload.len() as u16;
    let mut out = vec![0x45, 0];
    out.extend(total.to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let ends = [
        ([10, 0, 0, 1], 50_000 + slot as u16),
        ([10, 0, 0, 2], PORTS[slot % PORTS.len()]),
    ];
    let (from, to) = (ends[side], ends[1 - side]);
    out.extend(from.0);
    out.extend(to.0);
    out.extend(from.1.to_be_bytes());
    out.extend(to.1.to_be_bytes());
    out.extend(sequences[side].to_be_bytes());
    out.extend(sequences[1 - side].to_be_bytes());
    let syn = flags & 1;
    let bits = syn << 1 | (flags >> 1 & 1) | (flags >> 2 & 1) << 2;
    let ack = u8::from(flags & 8 == 0) << 4;
    out.extend([0x50, bits | ack, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    out
}
