//! How long was the guest away? By every method that the capture allows, each with its reason
//! where it has no answer.

use super::assemble::Parts;
use super::guests::{EchoLog, Run};
use super::markers::Signal;
use super::{Certainty, Clock, Downtime, DowntimeMethod, Moment, OutcomeKind, Pause};
use crate::dissect::event::Sign;
use crate::net::{Mac, Stamp};
use crate::time::Timestamp;

/// QEMU announces the guest's new place for so long after the stream's end. Nanoseconds.
pub(super) const ANNOUNCED_NS: i64 = 3_000_000_000;

/// QEMU may announce so long before libvirt's FINISH starts the guest. Nanoseconds.
pub(super) const ANNOUNCED_EARLY_NS: i64 = 100_000_000;

/// A last sign of life this many intervals before the stop still belongs to the switch-over.
const LAST_SIGN_INTERVALS: i64 = 5;

/// The same as a time, where the interval is not known or shorter. Nanoseconds.
const LAST_SIGN_NS: i64 = 50_000_000;

/// Whose signs of life count.
pub(super) struct Subject {
    pub(super) macs: Vec<Mac>,
}

/// When the guest stood still, as intervals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    stop: (Option<Stamp>, Stamp),
    /// libvirt's own figure of the stop.
    told: Option<Stamp>,
    resume: (Option<Stamp>, Option<Stamp>),
}

impl Window {
    fn from(&self) -> Timestamp {
        self.stop.0.unwrap_or(self.stop.1).time
    }

    /// Does a time without a sign of life reach from before the stop to after it?
    fn spanned(&self, from: Stamp, to: Stamp) -> bool {
        let back = self.resume.0.unwrap_or(self.stop.1);
        // An announcement may come a little before the guest is started.
        from.time <= self.stop.1.time
            && to.time > self.stop.1.time
            && to.time >= back.time.offset(-ANNOUNCED_EARLY_NS)
    }

    fn to(&self) -> Timestamp {
        let last = self.resume.1.or(self.resume.0).unwrap_or(self.stop.1);
        last.time.max(self.stop.1.time)
    }

    /// For the report.
    pub(super) fn report(&self, clock: Clock) -> Pause {
        let moment = |s: Option<Stamp>| s.map(|s| clock.moment(s));
        let between = |from: Option<Stamp>, to: Option<Stamp>| {
            from.zip(to).map(|(f, t)| t.time.since(f.time).max(0))
        };
        Pause {
            stop_earliest: moment(self.stop.0),
            stop_latest: moment(Some(self.stop.1)),
            stop_reported: moment(self.told),
            resume_earliest: moment(self.resume.0),
            resume_latest: moment(self.resume.1),
            min_ns: between(Some(self.stop.1), self.resume.0),
            max_ns: between(self.stop.0, self.resume.1),
        }
    }
}

/// When the guest stood still: between the bytes that were sent before and after it stopped, and
/// between the call and the reply that started it again.
pub(super) fn pause(parts: &Parts<'_>, subject: &Subject, outcome: OutcomeKind) -> Option<Window> {
    let main = parts.main();
    if main.is_some_and(|m| m.resumes) {
        return None;
    }
    let call = parts.attempt.and_then(|a| a.mark(Signal::FinishCall));
    let seen = main.and_then(|m| m.stopped);
    // A stream that cannot be read and ends before FINISH is a pre-copy's: the guest stood still
    // when it ended, and ran when it began.
    let closed = parts
        .memory_over()
        .filter(|c| outcome == OutcomeKind::Completed && call.is_some_and(|call| *c <= call.stamp));
    let opened = parts.memory_opened();
    let (earliest, latest) = seen.or(closed.map(|c| (opened, c)))?;
    let told = parts.attempt.and_then(|a| a.told_stop);
    // What libvirt says is no earlier than the stop.
    let latest = told
        .filter(|t| t.time < latest.time && earliest.is_none_or(|e| e.time < t.time))
        .unwrap_or(latest);
    let mut window = Window {
        stop: (earliest, latest),
        told,
        resume: (None, None),
    };
    if outcome != OutcomeKind::Completed {
        return Some(window);
    }
    let mark = |s| parts.attempt.and_then(|a| a.mark(s)).map(|m| m.stamp);
    window.resume = match parts.attempt {
        // libvirt's destination starts the guest inside FINISH; of a client's connection to the
        // source are seen what comes before it and what comes after.
        Some(_) => (
            mark(Signal::FinishCall).or(mark(Signal::PerformReply)),
            mark(Signal::FinishReply).or(mark(Signal::ConfirmCall)),
        ),
        // A hypervisor on its own starts it when all that it needs is loaded.
        None => {
            let loaded = main.and_then(|m| m.postcopy_run.or(m.end.map(|e| e.stamp)));
            (loaded, None)
        }
    };
    // The guest's own frame says that it runs; an announcement does not.
    let own = parts
        .guests
        .silences(&subject.macs)
        .filter(|(_, s)| s.by == Sign::Frame && s.from.time <= window.to())
        .map(|(_, s)| s.to)
        .filter(|to| window.resume.0.is_some_and(|from| to.time > from.time))
        .min();
    if let Some(own) = own
        && window.resume.1.is_none_or(|latest| own < latest)
    {
        window.resume.1 = Some(own);
    }
    Some(window)
}

/// All methods, in the order of their list.
pub(super) fn all(
    parts: &Parts<'_>,
    subject: &Subject,
    window: Option<&Window>,
    outcome: OutcomeKind,
) -> Vec<Downtime> {
    if !matches!(outcome, OutcomeKind::Completed | OutcomeKind::Unknown) {
        return Vec::new();
    }
    let mut out = Vec::new();
    match window {
        Some(window) => {
            let echoes = parts.guests.echoes_to(&subject.macs);
            out.push(lost_echoes(&echoes, window, parts.clock));
            out.push(echo_gap(&echoes, window, parts.clock));
            out.push(path_switch(&echoes, window, parts.clock));
            out.push(guest_silence(parts, subject, window));
            out.push(stop_and_copy(parts));
        }
        None => {
            let why = if parts.offline() {
                "the guest was not running"
            } else if parts.main().is_some_and(|m| m.resumes) {
                "a post-copy goes on that broke off: the guest ran at the destination already"
            } else {
                "the end of the migration stream was not seen: when the guest stopped is unknown"
            };
            for method in [
                DowntimeMethod::LostEchoes,
                DowntimeMethod::EchoGap,
                DowntimeMethod::PathSwitch,
                DowntimeMethod::GuestSilence,
                DowntimeMethod::StopAndCopy,
            ] {
                out.push(unknown(method, why));
            }
        }
    }
    out.push(reported(parts));
    out
}

fn unknown(method: DowntimeMethod, reason: &str) -> Downtime {
    Downtime {
        method,
        duration_ns: None,
        certainty: None,
        lost: None,
        interval_ns: None,
        subject: None,
        start: None,
        end: None,
        reason: Some(reason.to_owned()),
    }
}

fn measured(method: DowntimeMethod, start: Moment, end: Moment) -> Downtime {
    let duration_ns = end.offset_ns.saturating_sub(start.offset_ns);
    let backwards = duration_ns < 0;
    Downtime {
        duration_ns: (!backwards).then_some(duration_ns),
        certainty: Some(Certainty::Decoded),
        start: Some(start),
        end: Some(end),
        reason: backwards.then(|| "the capture's times run backwards".to_owned()),
        ..unknown(method, "")
    }
}

fn describe(e: &EchoLog) -> String {
    format!("{} to {} id {}", e.pinger, e.target, e.id)
}

const NO_ECHOES: &str = "no echo requests to the guest in the capture";

/// Where the stop is only known roughly, requests may have been lost long before it. Those of the
/// time in which the guest surely stood still count, and what was lost right before and after them.
fn certain_runs<'a>(mut runs: Vec<&'a Run>, window: &Window) -> Option<(u64, Vec<&'a Run>)> {
    let (from, to) = (window.stop.1, window.resume.0.unwrap_or(window.stop.1));
    runs.sort_by_key(|r| r.first);
    let sure = |r: &&Run| r.first <= from.max(to) && r.last >= from.min(to);
    if let Some(at) = runs.iter().position(sure) {
        let near = |a: &Run, b: &Run| {
            let allowed = a
                .interval_ns()
                .unwrap_or(0)
                .saturating_mul(LAST_SIGN_INTERVALS);
            b.first.time.since(a.last.time) <= allowed.max(LAST_SIGN_NS)
        };
        let mut first = at;
        while first > 0 && near(runs[first - 1], runs[first]) {
            first -= 1;
        }
        runs.drain(..first);
    }
    let lost = runs.iter().map(|r| r.count).sum();
    (!runs.is_empty()).then_some((lost, runs))
}

fn lost_echoes(echoes: &[&EchoLog], window: &Window, clock: Clock) -> Downtime {
    let method = DowntimeMethod::LostEchoes;
    if echoes.is_empty() {
        return unknown(method, NO_ECHOES);
    }
    let touches = |r: &Run| r.first.time <= window.to() && r.last.time >= window.from();
    // Of several series the one that lost most, for it asked most often.
    let best = echoes
        .iter()
        .map(|e| {
            let runs: Vec<&Run> = e.lost_runs().filter(|r| touches(r)).collect();
            (runs.iter().map(|r| r.count).sum::<u64>(), runs, *e)
        })
        .max_by_key(|(lost, ..)| *lost);
    let Some((lost, runs, echo)) = best else {
        return unknown(method, NO_ECHOES);
    };
    let (lost, runs) = certain_runs(runs, window).unwrap_or((lost, Vec::new()));
    let longest = runs.iter().max_by_key(|r| r.count);
    let lacks = echo.may_lack_losses(window.from(), window.to());
    let Some(run) = longest else {
        return match echo.asked(window.from(), window.to()) {
            true if lacks => unknown(
                method,
                "requests lost around the switch-over may have been forgotten: of a series the 64 longest runs of the last minute are kept",
            ),
            true => Downtime {
                lost: Some(0),
                subject: Some(describe(echo)),
                reason: Some(
                    "every echo request around the switch-over that the capture shows was answered"
                        .to_owned(),
                ),
                ..unknown(method, "")
            },
            false => unknown(
                method,
                "no echo requests around the switch-over in the capture",
            ),
        };
    };
    let interval = run.interval_ns();
    let moment = |s: Option<Stamp>| s.map(|s| clock.moment(s));
    Downtime {
        duration_ns: interval.map(|i| i.saturating_mul(lost as i64)),
        certainty: Some(Certainty::Decoded),
        lost: Some(lost),
        interval_ns: interval,
        subject: Some(describe(echo)),
        start: moment(runs.iter().map(|r| r.first).min()),
        end: moment(runs.iter().map(|r| r.last).max()),
        reason: slow_before(runs.iter().map(|r| r.first).min(), interval, window)
            .or_else(|| lacks.then(|| {
                "at least so many: of a series the 64 longest runs of the last minute are kept, and others were forgotten".to_owned()
            })),
        ..unknown(method, "")
    }
}

/// A guest that is throttled answers late: then requests from before the stop are among the lost.
fn slow_before(first: Option<Stamp>, interval: Option<i64>, window: &Window) -> Option<String> {
    let early = window.told?.time.since(first?.time);
    let allowed = interval.unwrap_or(0).saturating_mul(LAST_SIGN_INTERVALS);
    (early > allowed.max(LAST_SIGN_NS)).then(|| {
        format!(
            "begins {} ms before libvirt's figure of the stop: the guest was slow to answer already, or its answers took another way",
            early / 1_000_000
        )
    })
}

/// Did the guest show itself shortly before it stopped?
fn close_to_stop(last: Stamp, interval: Option<i64>, window: &Window) -> bool {
    let allowed = interval
        .unwrap_or(0)
        .saturating_mul(LAST_SIGN_INTERVALS)
        .max(LAST_SIGN_NS);
    window.from().since(last.time) <= allowed
}

fn echo_gap(echoes: &[&EchoLog], window: &Window, clock: Clock) -> Downtime {
    let method = DowntimeMethod::EchoGap;
    if echoes.is_empty() {
        return unknown(method, NO_ECHOES);
    }
    let to = window.to();
    let found = echoes
        .iter()
        .flat_map(|e| e.gaps.iter().map(move |g| (*e, g)))
        .filter(|(_, g)| window.spanned(g.from, g.to))
        .max_by_key(|(_, g)| g.to.time.since(g.from.time));
    match found {
        Some((_, gap)) if !gap.watched => unknown(
            method,
            "requests between the last reply before and the first one after are not in the capture: the pings went another way",
        ),
        Some((echo, gap)) if close_to_stop(gap.from, None, window) => Downtime {
            subject: Some(describe(echo)),
            ..measured(method, clock.moment(gap.from), clock.moment(gap.to))
        },
        Some(_) => unknown(
            method,
            "the last reply before the gap came long before the guest stopped: the way of the replies was not watched",
        ),
        None if echoes
            .iter()
            .all(|e| e.last_reply().is_none_or(|r| r.time < to)) =>
        {
            unknown(
                method,
                "no reply after the switch-over in this capture; add the capture of a port where it can be seen",
            )
        }
        None if echoes.iter().any(|e| e.gaps.may_lack(window.from(), to)) => unknown(
            method,
            "the gap between replies around the switch-over may have been forgotten: of a series the 64 longest of the last minute are kept",
        ),
        None => unknown(method, "no gap between replies around the switch-over"),
    }
}

fn path_switch(echoes: &[&EchoLog], window: &Window, clock: Clock) -> Downtime {
    let method = DowntimeMethod::PathSwitch;
    if echoes.is_empty() {
        return unknown(method, NO_ECHOES);
    }
    for e in echoes {
        // Ways that carried replies only before, or only after, the switch-over.
        let before = e
            .paths
            .iter()
            .filter(|(_, _, last)| last.time <= window.to())
            .max_by_key(|(_, _, last)| *last);
        let after = e
            .paths
            .iter()
            .filter(|(_, first, _)| first.time >= window.from())
            .min_by_key(|(_, first, _)| *first);
        if let (Some((a, _, last)), Some((b, first, _))) = (before, after)
            && a != b
            && last < first
            && close_to_stop(*last, None, window)
        {
            return Downtime {
                subject: Some(describe(e)),
                ..measured(method, clock.moment(*last), clock.moment(*first))
            };
        }
    }
    unknown(
        method,
        "the replies do not show different ways (interfaces, tunnels) before and after the switch-over",
    )
}

fn guest_silence(parts: &Parts<'_>, subject: &Subject, window: &Window) -> Downtime {
    let method = DowntimeMethod::GuestSilence;
    if subject.macs.is_empty() {
        return unknown(
            method,
            "the guest's MAC address is not known: no definition and no announcement was seen",
        );
    }
    let found = parts
        .guests
        .silences(&subject.macs)
        .filter(|(_, s)| window.spanned(s.from, s.to))
        .max_by_key(|(_, s)| s.to.time.since(s.from.time));
    match found {
        Some((mac, s)) if close_to_stop(s.from, None, window) => Downtime {
            subject: Some(mac.to_string()),
            reason: (s.by == Sign::Rarp).then(|| {
                "ended by QEMU's announcement (RARP), which may come before the guest runs"
                    .to_owned()
            }),
            ..measured(method, parts.clock.moment(s.from), parts.clock.moment(s.to))
        },
        Some(_) => unknown(
            method,
            "the guest's last frame came long before it stopped: it was quiet by itself, or is not seen here",
        ),
        None if parts
            .guests
            .may_lack_silence(&subject.macs, window.from(), window.to()) =>
        {
            unknown(
                method,
                "the silence around the switch-over may have been forgotten: of an address the 64 longest of the last minute are kept",
            )
        }
        None => unknown(
            method,
            "no silence that spans the switch-over: the guest is not seen before or not after it",
        ),
    }
}

fn stop_and_copy(parts: &Parts<'_>) -> Downtime {
    let method = DowntimeMethod::StopAndCopy;
    let Some(main) = parts.main() else {
        let why = match parts.encrypted() {
            true => "the migration stream is encrypted",
            false => "no migration stream in the capture",
        };
        return unknown(method, why);
    };
    let end = main
        .postcopy_run
        .or(main.end.map(|m| m.stamp).max(main.loaded.map(|(s, _)| s)));
    match (main.stopped, end) {
        (Some((_, start)), Some(end)) => {
            measured(method, parts.clock.moment(start), parts.clock.moment(end))
        }
        _ => unknown(method, "the end of the stream was not seen"),
    }
}

fn reported(parts: &Parts<'_>) -> Downtime {
    let method = DowntimeMethod::Reported;
    let figure = parts
        .attempt
        .and_then(|a| a.statistics.as_ref())
        .and_then(|s| s.downtime);
    match figure {
        Some(ms) => Downtime {
            duration_ns: i64::try_from(ms)
                .ok()
                .and_then(|ms| ms.checked_mul(1_000_000)),
            certainty: Some(Certainty::Decoded),
            reason: None,
            ..unknown(method, "")
        },
        None => unknown(method, "no cookie with statistics in the capture"),
    }
}
