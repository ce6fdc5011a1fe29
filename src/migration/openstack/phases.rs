//! From a story to the signals that bound its phases, and to the steps within them.

use phasescope_parsers::openstack::Call;
use phasescope_parsers::oslo::Kind;

use super::clients::Authentication;
use super::first;
use super::report::SubPhase;
use super::story::{HttpRecord, RpcRecord, Story, Wish};
use crate::migration::markers::{PhaseName, Signal};
use crate::migration::records::Mark;
use crate::migration::{Boundary, Certainty, Clock, Phase};
use crate::net::Stamp;

/// The last message of the source's conductor ends a migration of old if so much silence follows.
/// Nanoseconds.
const SILENCE_NS: i64 = 1_000_000_000;

const CHECKS: [&str; 2] = [
    "check_can_live_migrate_destination",
    "check_can_live_migrate_source",
];

impl Story {
    /// Everything in it that can bound a phase. `libvirt_end`: where libvirt's part ended.
    pub(in crate::migration) fn signals(&self, libvirt_end: Option<Mark>) -> Vec<(Signal, Mark)> {
        let mut out = Vec::new();
        if self.wish == Wish::Cold {
            return out;
        }
        let mut add = |signal, mark: Option<Mark>| out.extend(mark.map(|m| (signal, m)));
        if let Some(asked) = &self.asked {
            if let Authentication::Issued(login) = &asked.authentication {
                add(Signal::KeystoneDiscovery, login.discovery);
                add(Signal::TokenRequest, Some(login.request));
                add(Signal::TokenResponse, Some(login.response));
            }
            add(Signal::ServerLookup, asked.lookups.map(|(a, _)| first(a)));
            add(Signal::MigrateRequest, Some(first(asked.begin)));
        }
        let live = self.rpc("live_migration");
        add(Signal::MigrationDelivered, live.and_then(|r| r.delivered));
        add(Signal::MigrationPublished, live.and_then(RpcRecord::begin));
        let pre = self.rpc("pre_live_migration");
        add(Signal::PreCall, pre.and_then(RpcRecord::begin));
        add(
            Signal::PreReplyDelivered,
            pre.and_then(|r| r.reply_delivered),
        );
        add(
            Signal::PreReplyPublished,
            pre.and_then(|r| r.reply_published),
        );
        let running = self.saved("running");
        add(Signal::RunningSaved, running.and_then(RpcRecord::begin));
        let Some(post) = self.rpc("post_live_migration_at_destination") else {
            return out;
        };
        add(Signal::PostCall, post.published.map(|m| first(m.begin)));
        add(
            Signal::PostCallDelivered,
            post.delivered.map(|m| first(m.begin)),
        );
        let ended = match post.kind {
            Kind::Cast => self.end_of_cast(post),
            _ => vec![
                (Signal::PostReplyDelivered, post.reply_delivered),
                (Signal::PostReplyPublished, post.reply_published),
            ],
        };
        let known = ended.iter().any(|(_, m)| m.is_some());
        for (signal, mark) in ended {
            add(signal, mark);
        }
        if known {
            add(Signal::LibvirtOver, libvirt_end);
        }
        out
    }

    /// The ends of a migration whose last RPC has no reply (Nova before 15.0.0).
    fn end_of_cast(&self, post: &RpcRecord) -> Vec<(Signal, Option<Mark>)> {
        let begun = post.begin().map(|m| m.begin.time);
        let behind = |m: &Mark| begun.is_some_and(|b| m.stamp.time >= b);
        let saved = self
            .rpcs
            .iter()
            .filter(|r| r.object.as_deref() == Some("Instance.save"))
            .filter(|r| r.host.is_some() && r.host == self.destination_host)
            .filter_map(RpcRecord::answer)
            .rfind(behind);
        let notice = |names: &[&str]| {
            let mut of = self
                .rpcs
                .iter()
                .filter(|r| r.kind == Kind::Notification)
                .filter(|r| names.iter().any(|n| r.method.ends_with(n)));
            of.find_map(|r| r.published.or(r.delivered))
        };
        let tokens = self
            .rpc("delete_tokens_for_instance")
            .and_then(|r| r.published.or(r.delivered));
        // Without any of these: the conductor's last word before a silence.
        let mut words: Vec<Mark> = self.rpcs.iter().filter_map(RpcRecord::answer).collect();
        words.retain(behind);
        words.sort_by_key(|m| m.stamp);
        let last = words
            .windows(2)
            .find(|w| w[1].stamp.time.since(w[0].stamp.time) >= SILENCE_NS)
            .map(|w| w[0])
            .or(words.last().copied());
        vec![
            (Signal::DestinationSaved, saved),
            (
                Signal::PostDestNotice,
                notice(&["post.dest.end", "live_migration_post_dest.end"]),
            ),
            (
                Signal::PostEndNotice,
                notice(&["._post.end", "live_migration_post.end"]),
            ),
            (Signal::TokensDeleted, tokens),
            (Signal::LastConductorReply, last),
        ]
    }
}

/// Puts the steps of a story under its phases. Those that lie in the gap behind initialization or
/// before post-migration hang on these.
pub(in crate::migration) fn sub_phases(
    story: &Story,
    connect: Option<Stamp>,
    clock: Clock,
    phases: &mut [Phase],
) {
    let steps = Steps { story, clock };
    for p in phases {
        p.sub = match p.name {
            PhaseName::Authentication => steps.authentication(),
            PhaseName::Initialization => steps.initialization(connect),
            PhaseName::PostMigration => steps.post_migration(),
            _ => Vec::new(),
        };
    }
}

struct Steps<'a> {
    story: &'a Story,
    clock: Clock,
}

impl Steps<'_> {
    fn edge(&self, marker: &str, mark: Mark) -> Boundary {
        let m = self.clock.moment(mark.stamp);
        Boundary {
            time: m.time,
            offset_ns: m.offset_ns,
            frame: m.frame,
            first_frame: (mark.begin.frame != mark.stamp.frame).then_some(mark.begin.frame),
            marker: marker.to_owned(),
            certainty: Certainty::Decoded,
            uncertainty_ns: 0,
        }
    }

    /// A step, if its start was seen.
    fn step(
        &self,
        name: &str,
        start: Option<(&str, Mark)>,
        end: Option<(&str, Mark)>,
    ) -> Option<SubPhase> {
        let start = start.map(|(n, m)| self.edge(n, m))?;
        let end = end.map(|(n, m)| self.edge(n, m));
        Some(SubPhase {
            name: name.to_owned(),
            duration_ns: end
                .as_ref()
                .map(|e| e.offset_ns.saturating_sub(start.offset_ns))
                .filter(|d| *d >= 0),
            start,
            end,
        })
    }

    /// From the first request of these calls to the last response.
    fn span_of(&self, name: &str, calls: &[Call], from: Option<Stamp>) -> Option<SubPhase> {
        let of = |h: &&HttpRecord| {
            let call = h.request.call.as_ref().map(|c| c.call);
            call.is_some_and(|c| calls.contains(&c)) && from.is_none_or(|f| h.begin >= f)
        };
        let all = || self.story.requests.iter().filter(of);
        let start = all().map(|h| h.begin).min().map(first);
        let end = all().map(|h| h.end).max_by_key(|m| m.stamp);
        self.step(
            name,
            start.map(|m| ("first-request", m)),
            end.map(|m| ("last-response", m)),
        )
    }

    /// From the first request of these methods to the last answer.
    fn rpcs_of(&self, name: &str, methods: &[&str]) -> Option<SubPhase> {
        let all = || {
            let rpcs = self.story.rpcs.iter();
            rpcs.filter(|r| methods.contains(&r.method.as_str()))
        };
        let start = all().filter_map(RpcRecord::begin).min_by_key(|m| m.stamp);
        let end = all().filter_map(RpcRecord::answer).max_by_key(|m| m.stamp);
        self.step(
            name,
            start.map(|m| ("rpc-request", m)),
            end.map(|m| ("rpc-reply", m)),
        )
    }

    fn authentication(&self) -> Vec<SubPhase> {
        let Some(Authentication::Issued(login)) =
            self.story.asked.as_ref().map(|a| &a.authentication)
        else {
            return Vec::new();
        };
        let token = login.request;
        let discovery = login.discovery.and_then(|d| {
            self.step(
                "discovery",
                Some(("keystone-discovery-request", d)),
                Some(("keystone-token-request", token)),
            )
        });
        let token = self.step(
            "token",
            Some(("keystone-token-request", token)),
            Some(("keystone-token-response", login.response)),
        );
        discovery.into_iter().chain(token).collect()
    }

    fn initialization(&self, connect: Option<Stamp>) -> Vec<SubPhase> {
        let story = self.story;
        let mut out = Vec::new();
        if let Some(asked) = &story.asked {
            out.extend(asked.lookups.and_then(|(from, to)| {
                self.step(
                    "lookup",
                    Some(("server-lookup-request", first(from))),
                    Some(("server-lookup-response", first(to))),
                )
            }));
            let response = asked.response.map(|(_, m)| ("live-migrate-response", m));
            out.extend(self.step(
                "request",
                Some(("live-migrate-request", first(asked.begin))),
                response,
            ));
        }
        out.extend(self.rpcs_of("scheduling", &["select_destinations"]));
        out.extend(self.rpcs_of("pre-checks", &CHECKS));
        out.extend(self.span_of("port-bindings", &[Call::BindingCreate], None));
        let preparing = story.saved("preparing").and_then(RpcRecord::begin);
        if let Some(queued) = story.saved("queued").and_then(RpcRecord::begin) {
            out.extend(self.step(
                "queued",
                Some(("migration-queued-saved", queued)),
                preparing.map(|m| ("migration-preparing-saved", m)),
            ));
        }
        out.extend(self.rpcs_of("pre-live-migration", &["pre_live_migration"]));
        out.extend(self.vif_wait(connect));
        out
    }

    /// The source waits for the network to say that the ports are plugged.
    fn vif_wait(&self, connect: Option<Stamp>) -> Option<SubPhase> {
        let answer = self.story.rpc("pre_live_migration")?.answer()?;
        let running = self.story.saved("running").and_then(RpcRecord::begin);
        let until = running.map(|m| m.stamp).or(connect)?;
        let plugged = self
            .story
            .rpcs
            .iter()
            .filter(|r| r.events.iter().any(|e| e == "network-vif-plugged"))
            .filter_map(|r| r.delivered.or(r.published))
            .filter(|m| m.stamp >= answer.stamp && m.stamp <= until)
            .max_by_key(|m| m.stamp)?;
        self.step(
            "vif-wait",
            Some(("pre-live-migration-reply", answer)),
            Some(("network-vif-plugged", plugged)),
        )
    }

    fn post_migration(&self) -> Vec<SubPhase> {
        let story = self.story;
        let post = story.rpc("post_live_migration_at_destination");
        let running = story
            .saved("running")
            .and_then(RpcRecord::begin)
            .or_else(|| story.rpc("pre_live_migration")?.answer())
            .map(|m| m.stamp);
        let mut out: Vec<SubPhase> = Vec::new();
        let network = [Call::BindingShow, Call::BindingActivate];
        out.extend(self.span_of("network-activation", &network, running));
        let volumes = [Call::AttachmentDelete, Call::VolumeAction];
        out.extend(self.span_of("volume-detach", &volumes, running));
        out.extend(self.rpcs_of("post-call", &["post_live_migration_at_destination"]));
        out.extend(self.span_of(
            "port-update",
            &[Call::PortUpdate],
            post.and_then(|p| p.begin()).map(|m| m.stamp),
        ));
        out.extend(self.span_of(
            "binding-removal",
            &[Call::BindingDelete],
            post.and_then(|p| p.begin()).map(|m| m.stamp),
        ));
        let answer = post.and_then(RpcRecord::answer);
        let completed = story.saved("completed").and_then(RpcRecord::answer);
        if let (Some(from), Some(to)) = (answer, completed) {
            out.extend(self.step(
                "settle",
                Some(("post-live-migration-reply", from)),
                Some(("migration-completed-saved", to)),
            ));
        }
        out.sort_by_key(|s| s.start.offset_ns);
        out
    }
}

/// When the migration's record says that it is over, from the start of the first phase.
pub(in crate::migration) fn settled_of(
    story: &Story,
    phases: &[Phase],
    clock: Clock,
) -> Option<i64> {
    let end = story.saved("completed").and_then(RpcRecord::answer)?;
    let start = phases.first()?.start.as_ref()?;
    Some(clock.moment(end.stamp).offset_ns - start.offset_ns)
}

/// From the first sign to the last one, for a migration that did not come to its end.
pub(in crate::migration) fn elapsed_of(
    story: &Story,
    phases: &[Phase],
    clock: Clock,
) -> Option<i64> {
    let first = story.first.since(clock.first);
    let last = story.last.since(clock.first);
    let starts = phases.iter().filter_map(|p| p.start.as_ref());
    let ends = phases.iter().filter_map(|p| p.end.as_ref());
    let from = starts.map(|b| b.offset_ns).chain([first]).min()?;
    let to = ends.map(|b| b.offset_ns).chain([last]).max()?;
    Some(to - from)
}
