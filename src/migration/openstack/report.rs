//! What a report says of the cloud's part.

use phasescope_parsers::oslo::Kind;
use serde::{Deserialize, Serialize};

use super::clients::Authentication;
use super::story::{HttpRecord, RpcRecord, Story, Wish};
use crate::migration::records::Mark;
use crate::migration::{Boundary, Clock, Moment, Outcome, OutcomeKind, Phase, PhaseName};
use crate::report::events::cloud::{call_name, kind_name, service_name};
use crate::time::Timestamp;

/// Taken and not followed by anything for so long: it was refused. Nanoseconds.
const SILENCE_NS: i64 = 10_000_000_000;

/// A step within a phase.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubPhase {
    /// Its name.
    pub name: String,
    /// Where it began.
    pub start: Boundary,
    /// Where it ended.
    pub end: Option<Boundary>,
    /// How long it took.
    pub duration_ns: Option<i64>,
}

/// What the cloud's own messages say of a migration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// Request id of the request to migrate, which all its messages carry.
    pub request_id: Option<String>,
    /// The migration's record.
    pub migration_uuid: Option<String>,
    /// Its number.
    pub migration_id: Option<u64>,
    /// The source by its name in the cloud.
    pub source_host: Option<String>,
    /// The destination by its name in the cloud.
    pub destination_host: Option<String>,
    /// Who asked for the migration.
    pub client: Option<String>,
    /// The version of Nova's interface that it asked for.
    pub api_version: Option<String>,
    /// Where its token came from: `issued` (for this request), `shared` (with an earlier one),
    /// `older`, `unseen`; `None` where the request itself was not seen.
    pub authentication: Option<String>,
    /// With what the login began: `discovery-get` or `token-post`.
    pub auth_start_kind: Option<String>,
    /// Statuses that the migration's record went through, as saved by the hosts.
    pub statuses: Vec<StatusChange>,
    /// RPCs.
    pub rpcs: Vec<RpcCall>,
    /// Requests of HTTP.
    pub requests: Vec<HttpCall>,
    /// Start of the first phase to the reply of the conductor that saved `completed`.
    pub settled_ns: Option<i64>,
}

/// The migration's record was saved with a status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusChange {
    /// For example `running`.
    pub status: String,
    /// When the host asked for it.
    pub at: Option<Moment>,
}

/// An RPC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpcCall {
    /// Method; of a notification its type.
    pub method: String,
    /// `call`, `cast` or `notification`; `request`: cut off before it said which of the first two.
    pub kind: String,
    /// Version that the sender chose.
    pub version: Option<String>,
    /// Routing key.
    pub routing_key: String,
    /// Object and its method, of the conductor's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<String>,
    /// The migration's status in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<String>,
    /// External events in it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub events: Vec<String>,
    /// Joins call and reply.
    pub msg_id: Option<String>,
    /// First byte of the request towards the broker.
    pub published: Option<Moment>,
    /// Last byte of the request from the broker.
    pub delivered: Option<Moment>,
    /// Last byte of the answer towards the broker.
    pub reply_published: Option<Moment>,
    /// Last byte of the answer from the broker.
    pub reply_delivered: Option<Moment>,
    /// From the first of these to the last.
    pub duration_ns: Option<i64>,
    /// Exception in the answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
    /// Seen so many times more: sent again, or to several receivers.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub repeats: u32,
}

/// A request of HTTP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HttpCall {
    /// Method.
    pub method: String,
    /// Service, where only one has such a call.
    pub service: Option<String>,
    /// The path's class.
    pub call: Option<String>,
    /// Status of the response.
    pub status: u16,
    /// First byte of the request.
    pub request: Moment,
    /// Last byte of the response.
    pub response: Moment,
    /// Between these.
    pub duration_ns: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The cloud's account of a migration.
pub(in crate::migration) fn account(story: &Story, phases: &[Phase], clock: Clock) -> Account {
    let asked = story.asked.as_ref();
    let login = asked.and_then(|a| match &a.authentication {
        Authentication::Issued(login) => Some(login),
        _ => None,
    });
    let authentication = asked.map(|a| match a.authentication {
        Authentication::Issued(_) => "issued",
        Authentication::Shared => "shared",
        Authentication::Older => "older",
        Authentication::Unseen => "unseen",
    });
    let kind = login.map(|l| match l.discovery {
        Some(_) => "discovery-get",
        None => "token-post",
    });
    let statuses = story.statuses.iter().map(|(status, i)| StatusChange {
        status: status.clone(),
        at: story
            .rpcs
            .get(*i)
            .and_then(RpcRecord::begin)
            .map(|m| clock.moment(m.stamp)),
    });
    Account {
        request_id: story.request_id.clone(),
        migration_uuid: story.migration_uuid.clone(),
        migration_id: story.migration_id,
        source_host: story.source_host.clone(),
        destination_host: story.destination_host.clone(),
        client: asked.map(|a| a.client.clone()),
        api_version: asked.and_then(|a| a.api_version.clone()),
        authentication: authentication.map(str::to_owned),
        auth_start_kind: kind.map(str::to_owned),
        statuses: statuses.collect(),
        rpcs: story.rpcs.iter().map(|r| rpc(r, clock)).collect(),
        requests: story.requests.iter().map(|h| http(h, clock)).collect(),
        settled_ns: super::settled_of(story, phases, clock),
    }
}

fn rpc(r: &RpcRecord, clock: Clock) -> RpcCall {
    let first = |m: Option<Mark>| m.map(|m| clock.moment(m.begin));
    let last = |m: Option<Mark>| m.map(|m| clock.moment(m.stamp));
    let duration = r
        .begin()
        .zip(r.answer())
        .map(|(a, b)| b.stamp.time.since(a.stamp.time))
        .filter(|d| *d >= 0);
    RpcCall {
        method: r.method.clone(),
        kind: kind_name(r.kind).to_owned(),
        version: r.version.clone(),
        routing_key: r.routing_key.clone(),
        object: r.object.clone(),
        status: r.status.clone(),
        events: r.events.clone(),
        msg_id: r.msg_id.clone(),
        published: first(r.published),
        delivered: last(r.delivered),
        reply_published: last(r.reply_published),
        reply_delivered: last(r.reply_delivered),
        duration_ns: duration,
        failure: r.failure.clone(),
        repeats: r.repeats,
    }
}

fn http(h: &HttpRecord, clock: Clock) -> HttpCall {
    let call = h.request.call.as_ref();
    HttpCall {
        method: h.request.method.name().to_owned(),
        service: call.and_then(|c| service_name(c.service)),
        call: call.map(|c| call_name(c.call)),
        status: h.status,
        request: clock.moment(h.begin),
        response: clock.moment(h.end.stamp),
        duration_ns: h.end.stamp.time.since(h.begin.time),
    }
}

/// How it ended, by the cloud's messages and by libvirt's where there are any.
pub(in crate::migration) fn merge_outcome(
    story: &Story,
    libvirt: Option<Outcome>,
    now: Timestamp,
) -> Outcome {
    let is = |result, reason: String| Outcome {
        result,
        reason: Some(reason),
    };
    if story.wish == Wish::Cold {
        return cold(story);
    }
    let aborted = story.status() == Some("cancelled") || story.abort.is_some();
    let failure = |method: &str| story.rpc(method).and_then(|r| r.failure.clone());
    let post = "post_live_migration_at_destination";
    match libvirt {
        Some(done) if done.result == OutcomeKind::Completed => match failure(post) {
            Some(f) => is(
                OutcomeKind::Completed,
                format!("the guest runs on the destination, but {post} failed there: {f}"),
            ),
            None => done,
        },
        Some(o) if aborted && o.result != OutcomeKind::Unfinished => {
            let why = "aborted through Nova".to_owned();
            is(OutcomeKind::Cancelled, with(why, o.reason))
        }
        Some(o) if matches!(story.status(), Some("failed" | "error")) => {
            let status = story.status().unwrap_or_default();
            let result = match o.result {
                OutcomeKind::Unfinished | OutcomeKind::Unknown => OutcomeKind::Failed,
                r => r,
            };
            let why = format!("Nova saved the migration as {status}");
            is(result, with(why, o.reason))
        }
        Some(o) => o,
        None => without_libvirt(story, aborted, now),
    }
}

fn with(what: String, more: Option<String>) -> String {
    match more {
        Some(m) => format!("{what}; {m}"),
        None => what,
    }
}

fn without_libvirt(story: &Story, aborted: bool, now: Timestamp) -> Outcome {
    let is = |result, reason: String| Outcome {
        result,
        reason: Some(reason),
    };
    let failed = |method: &str| {
        let f = story.rpc(method)?.failure.as_ref()?;
        Some(format!("{method} failed: {f}"))
    };
    let post = story.rpc("post_live_migration_at_destination");
    let answer = story.asked.as_ref().and_then(|a| a.response);
    if let Some((status, _)) = answer.filter(|(s, _)| *s >= 400) {
        return is(OutcomeKind::Refused, format!("Nova answered {status}"));
    }
    if let Some(why) = failed("pre_live_migration") {
        return is(OutcomeKind::Failed, why);
    }
    let completed = Outcome {
        result: OutcomeKind::Completed,
        reason: None,
    };
    let there =
        post.is_some_and(|r| r.failure.is_none() && (r.answer().is_some() || r.kind == Kind::Cast));
    match story.status() {
        // An abort may come too late.
        Some("completed") => return completed,
        _ if aborted && !there => {
            return is(OutcomeKind::Cancelled, "aborted through Nova".to_owned());
        }
        Some(s @ ("failed" | "error")) => {
            let why = format!("Nova saved the migration as {s}");
            return is(OutcomeKind::Failed, why);
        }
        _ => {}
    }
    if there {
        return completed;
    }
    let begun = ["live_migration", "pre_live_migration"]
        .iter()
        .any(|m| story.rpc(m).is_some());
    let silent = now.since(story.last) > SILENCE_NS;
    if !begun {
        let check = story
            .rpcs
            .iter()
            .filter(|r| r.method.starts_with("check_can_live_migrate_"))
            .find_map(|r| Some(format!("{} failed: {}", r.method, r.failure.as_ref()?)))
            .or_else(|| failed("select_destinations"));
        if let Some(why) = check {
            return is(OutcomeKind::Refused, why);
        }
        if silent {
            return is(
                OutcomeKind::Refused,
                "no live_migration followed: the pre-checks refused it, or found no host, or it \
                 concerns hosts whose traffic is not in the capture"
                    .to_owned(),
            );
        }
    }
    if story.truncated > 0 {
        let why = "the messages that would tell were cut off";
        return is(OutcomeKind::Unknown, why.to_owned());
    }
    is(
        OutcomeKind::Unfinished,
        "the capture ends before the migration, or does not hold libvirt's part".to_owned(),
    )
}

fn cold(story: &Story) -> Outcome {
    let why = "not a live migration: a cold migration or a resize, for which Nova shuts the \
               instance down";
    let failure = story.rpcs.iter().find_map(|r| {
        let f = r.failure.as_ref()?;
        Some(format!("{why}; {} failed: {f}", r.method))
    });
    let finished = matches!(
        story.status(),
        Some("finished" | "confirmed" | "confirming")
    ) || story.rpc("finish_resize").is_some();
    let result = match (&failure, finished) {
        (Some(_), _) => OutcomeKind::Failed,
        (None, true) => OutcomeKind::Completed,
        (None, false) => OutcomeKind::Unknown,
    };
    Outcome {
        result,
        reason: Some(failure.unwrap_or_else(|| why.to_owned())),
    }
}

/// What a reader must know of the cloud's part.
pub(in crate::migration) fn notes(story: &Story, phases: &[Phase]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut say = |s: &str| out.push(s.to_owned());
    if story.wish == Wish::Cold {
        say("a cold migration or a resize: not a live migration, no memory crosses the network");
        return out;
    }
    match story.asked.as_ref().map(|a| &a.authentication) {
        None => say(
            "partial: the client's requests are not in the capture; initialization is counted \
             from the first message of it that is",
        ),
        Some(Authentication::Issued(_)) => {}
        Some(Authentication::Shared) => {
            say("authentication is shared: the token was issued for an earlier request to migrate")
        }
        Some(Authentication::Older) => {
            say("no authentication: the client used a token that it had got long before");
        }
        Some(Authentication::Unseen) => {
            say("no authentication: the client used a token that was not issued in the capture");
        }
    }
    let start = |n| {
        let p = phases.iter().find(|p: &&Phase| p.name == n)?;
        p.start.as_ref().map(|b| b.offset_ns)
    };
    let both = start(PhaseName::Authentication).zip(start(PhaseName::Initialization));
    if both.is_some_and(|(a, i)| a > i) {
        say("reauth: the client had to log in again in the middle of initialization");
    }
    let post = story.rpc("post_live_migration_at_destination");
    if post.is_some_and(|r| r.kind == Kind::Cast) {
        say(
            "Nova before 15.0.0: post_live_migration_at_destination has no reply; the end of \
             post-migration is the best of the signs that follow it",
        );
    }
    if story.truncated > 0 {
        out.push(format!(
            "{} messages were cut off: fields of them may lack",
            story.truncated
        ));
    }
    if story.left_out > 0 {
        out.push(format!(
            "{} further messages are not listed",
            story.left_out
        ));
    }
    out
}
