//! The budget of a migration under other circumstances, by simple models that are stated beside
//! the result. Times are nanoseconds.

use serde::Serialize;

use crate::migration::{Call, Migration, PhaseName, Role, Technique};

/// What is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Change {
    /// Rate of the link that carries the guest, bits a second, headers included.
    pub bandwidth: Option<f64>,
    /// Round-trip time to add between the client of the identity service and that service, ns.
    pub keystone_rtt_ns: Option<i64>,
    /// Round trips of an authentication.
    pub keystone_trips: u32,
    /// Round-trip time to add between the two libvirt daemons, ns.
    pub libvirt_rtt_ns: Option<i64>,
}

/// A phase before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Which.
    pub name: PhaseName,
    /// As measured.
    pub before_ns: Option<i64>,
    /// As reckoned.
    pub after_ns: Option<i64>,
}

/// The budget recomputed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// Phases.
    pub phases: Vec<Phase>,
    /// Time between phases: unchanged.
    pub gaps_ns: Option<i64>,
    /// Total before.
    pub total_before_ns: Option<i64>,
    /// Total after.
    pub total_after_ns: Option<i64>,
    /// The last pass, with the guest stopped, before and after.
    pub stopped_round_ns: Option<(i64, i64)>,
    /// Passes over memory, measured and reckoned.
    pub rounds: Option<(usize, usize)>,
    /// What was supposed.
    pub assumptions: Vec<String>,
    /// What the reader must know of the result.
    pub warnings: Vec<String>,
}

/// Payload and frame bytes of the connections that carry the guest.
fn stream_bytes(m: &Migration) -> (u64, u64) {
    m.transfer
        .iter()
        .flat_map(|t| &t.connections)
        .filter(|c| !matches!(c.role, Role::Control | Role::Nbd))
        .fold((0, 0), |(p, w), c| {
            (
                p.saturating_add(c.payload_bytes),
                w.saturating_add(c.wire_bytes),
            )
        })
}

/// What a new bandwidth does to the transfer.
struct Faster {
    /// `None` where it would not end.
    transfer_ns: Option<i64>,
    stopped: Option<(i64, i64)>,
}

fn transfer(m: &Migration, before: i64, bits: f64, f: &mut Forecast) -> Option<Faster> {
    let (payload, wire) = stream_bytes(m);
    if payload == 0 {
        f.warnings
            .push("the bytes of the transfer are not known: it is left as it is".to_owned());
        return None;
    }
    let overhead = (wire as f64 / payload as f64).max(1.0);
    // Payload bytes a second.
    let rate = bits / 8.0 / overhead;
    f.assumptions.push(format!(
        "the link was the limit while pages were sent, and still is at {} Gbit/s; frames add {:.2}% to the payload, as measured",
        bits / 1e9,
        (overhead - 1.0) * 100.0
    ));
    let rounds = m.transfer.as_ref().map_or(&[][..], |t| &t.rounds);
    let usable = m.technique == Technique::PreCopy
        && rounds.last().is_some_and(|r| r.stopped)
        && rounds.iter().filter(|r| r.stopped).count() == 1;
    if !usable {
        f.assumptions.push(
            "the rounds of pre-copy, up to one with the guest stopped, are not known: the whole payload goes at the new rate, nothing else in the transfer changes"
                .to_owned(),
        );
        let old = before as f64 / 1e9;
        let after = payload as f64 / rate;
        let measured = payload as f64 / old;
        if rate < measured {
            f.warnings
                .push("the new link is slower than the measured mean".to_owned());
        }
        return Some(Faster {
            transfer_ns: Some(nanos(after)),
            stopped: None,
        });
    }
    f.assumptions.push(
        "the guest dirties memory after each round at the rate that was measured there, never more than the first round holds"
            .to_owned(),
    );
    f.assumptions.push(
        "the hypervisor stops the guest as soon as the next round would take no longer than the last one did"
            .to_owned(),
    );
    f.assumptions.push(
        "the rest of the transfer (set-up, device state, waiting) takes as long as before"
            .to_owned(),
    );
    let old: Vec<(f64, f64)> = rounds
        .iter()
        .map(|r| {
            (
                r.bytes as f64,
                (r.end_offset_ns.saturating_sub(r.start_offset_ns)).max(1) as f64 / 1e9,
            )
        })
        .collect();
    let old_sum: f64 = old.iter().map(|(_, d)| d).sum();
    let bytes: f64 = old.iter().map(|(b, _)| b).sum();
    f.assumptions.push(format!(
        "measured while pages were sent: {:.3} Gbit/s on the wire",
        bytes * overhead * 8.0 / old_sum / 1e9
    ));
    let rest = (before as f64 / 1e9 - old_sum).max(0.0);
    let Some(new) = rounds_at(&old, rate) else {
        f.warnings.push(format!(
            "after {MAX_ROUNDS} rounds what is left is still too much: on such a link the migration does not converge"
        ));
        return Some(Faster {
            transfer_ns: None,
            stopped: None,
        });
    };
    f.rounds = Some((rounds.len(), new.len()));
    let last = |r: &[f64]| r.last().copied().unwrap_or(0.0);
    let measured = old.last().map_or(0.0, |(_, d)| *d);
    Some(Faster {
        transfer_ns: Some(nanos(rest + new.iter().sum::<f64>())),
        stopped: Some((nanos(measured), nanos(last(&new)))),
    })
}

/// Rounds after which a migration is said not to converge.
const MAX_ROUNDS: usize = 100;

/// The lengths of the rounds at a new rate (bytes a second), from the measured bytes and seconds
/// of each, the last with the guest stopped; `None` where they do not shrink.
fn rounds_at(old: &[(f64, f64)], rate: f64) -> Option<Vec<f64>> {
    let (first, target) = (old.first()?.0, old.last()?.1);
    // Bytes dirtied a second while round i went on.
    let dirty: Vec<f64> = old.windows(2).map(|w| w[1].0 / w[0].1).collect();
    let mut out = vec![first / rate];
    while out.len() < MAX_ROUNDS {
        let last = *out.last()?;
        let Some(speed) = dirty.get(out.len() - 1).or(dirty.last()) else {
            // One round, the guest stopped in it.
            return Some(out);
        };
        let next = (speed * last).min(first) / rate;
        out.push(next);
        if next <= target {
            return Some(out);
        }
    }
    None
}

fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// libvirt's calls that were made inside a phase.
fn calls_in<'a>(m: &'a Migration, p: &crate::migration::Phase) -> Vec<&'a Call> {
    let (Some(a), Some(b)) = (&p.start, &p.end) else {
        return vec![];
    };
    m.calls
        .iter()
        .filter(|c| {
            c.call.as_ref().is_some_and(|c| {
                (a.offset_ns..b.offset_ns.max(a.offset_ns.saturating_add(1))).contains(&c.offset_ns)
            })
        })
        .collect()
}

/// Reckons a migration's budget under a change.
pub fn forecast(m: &Migration, change: &Change) -> Forecast {
    let mut f = Forecast {
        phases: vec![],
        gaps_ns: m.gaps_ns,
        total_before_ns: m.total_time_ns,
        total_after_ns: None,
        stopped_round_ns: None,
        rounds: None,
        assumptions: vec![
            "phases that are not named here, and the gaps, take as long as before".to_owned(),
        ],
        warnings: vec![],
    };
    let has = |n: PhaseName| {
        m.phases
            .iter()
            .any(|p| p.name == n && p.duration_ns.is_some())
    };
    if change.bandwidth.is_some() && !has(PhaseName::Transfer) {
        f.warnings.push(
            "the transfer is not bounded in this report: the bandwidth changes nothing".to_owned(),
        );
    }
    if let Some(rtt) = change.keystone_rtt_ns {
        if has(PhaseName::Authentication) {
            f.assumptions.push(format!(
                "authentication is {} round trips in sequence, each {} ms longer than measured",
                change.keystone_trips,
                rtt as f64 / 1e6
            ));
        } else {
            f.warnings.push(
                "there is no authentication phase in this report: Keystone's round-trip time changes nothing"
                    .to_owned(),
            );
        }
    }
    if let Some(rtt) = change.libvirt_rtt_ns {
        f.assumptions.push(format!(
            "every libvirt call waits for its reply and takes {} ms longer than measured; opening the connection is one more round trip",
            rtt as f64 / 1e6
        ));
    }
    for p in &m.phases {
        let mut after = p.duration_ns;
        if let Some(before) = p.duration_ns {
            if p.name == PhaseName::Transfer
                && let Some(bits) = change.bandwidth
                && let Some(t) = transfer(m, before, bits, &mut f)
            {
                after = t.transfer_ns;
                f.stopped_round_ns = t.stopped;
            }
            if p.name == PhaseName::Authentication
                && let Some(rtt) = change.keystone_rtt_ns
            {
                after = after.map(|a| {
                    a.saturating_add(rtt.saturating_mul(i64::from(change.keystone_trips)))
                });
            }
            if let Some(rtt) = change.libvirt_rtt_ns {
                let opening = i64::from(p.name == PhaseName::RemoteConnect);
                let trips = calls_in(m, p).len() as i64 + opening;
                after = after.map(|a| a.saturating_add(rtt.saturating_mul(trips)));
            }
        }
        f.phases.push(Phase {
            name: p.name,
            before_ns: p.duration_ns,
            after_ns: after,
        });
    }
    let endless = f
        .phases
        .iter()
        .any(|p| p.before_ns.is_some() && p.after_ns.is_none());
    let difference = f
        .phases
        .iter()
        .filter_map(|p| Some(p.after_ns?.saturating_sub(p.before_ns?)))
        .fold(0_i64, i64::saturating_add);
    f.total_after_ns = f
        .total_before_ns
        .filter(|_| !endless)
        .map(|t| t.saturating_add(difference));
    if m.overlaps_ns.is_some_and(|o| o > 0) {
        f.warnings
            .push("phases overlap: the total is changed by the sum of their changes".to_owned());
    }
    f
}
