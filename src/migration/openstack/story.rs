//! What is remembered of one request to migrate until its migration can be told.

use phasescope_parsers::amqp::ContentMethod;
use phasescope_parsers::oslo::{Envelope, Kind};

use super::clients::Authentication;
use crate::dissect::amqp::Message;
use crate::dissect::http::Request;
use crate::migration::records::Mark;
use crate::net::Stamp;
use crate::time::Timestamp;

/// Messages, and requests, that are kept of one story.
pub(super) const MAX_KEPT: usize = 2048;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migration) enum Wish {
    /// A live migration.
    Live,
    /// A cold migration or a resize: the instance is shut down for it.
    Cold,
    /// Not seen.
    Unknown,
}

/// An RPC: a call with its reply, or a cast.
#[derive(Debug, Clone)]
pub(in crate::migration) struct RpcRecord {
    pub(in crate::migration) method: String,
    pub(in crate::migration) kind: Kind,
    pub(in crate::migration) version: Option<String>,
    pub(in crate::migration) routing_key: String,
    pub(in crate::migration) msg_id: Option<String>,
    pub(in crate::migration) unique_id: Option<String>,
    /// `Migration.save` and the like.
    pub(in crate::migration) object: Option<String>,
    /// The migration's status in the arguments.
    pub(in crate::migration) status: Option<String>,
    /// The instance's host in the arguments.
    pub(in crate::migration) host: Option<String>,
    /// External events.
    pub(in crate::migration) events: Vec<String>,
    /// Towards the broker.
    pub(in crate::migration) published: Option<Mark>,
    /// From the broker, first of all deliveries.
    pub(in crate::migration) delivered: Option<Mark>,
    /// The first answer towards the broker.
    pub(in crate::migration) reply_published: Option<Mark>,
    /// The first answer from the broker.
    pub(in crate::migration) reply_delivered: Option<Mark>,
    /// Exception that the answer holds.
    pub(in crate::migration) failure: Option<String>,
    /// Seen more than once: redelivered, or at two taps.
    pub(in crate::migration) repeats: u32,
}

impl RpcRecord {
    pub(super) fn new(m: &Message, e: &Envelope) -> Self {
        let object = e.object.as_ref().and_then(|o| {
            let (name, method) = (o.object.as_deref()?, o.method.as_deref()?);
            Some(format!("{name}.{method}"))
        });
        let method = e.method.clone().or_else(|| e.event_type.clone());
        Self {
            method: method.unwrap_or_default(),
            kind: e.kind,
            version: e.version.clone(),
            routing_key: m.routing_key.clone(),
            msg_id: e.msg_id.clone(),
            unique_id: e.unique_id.clone(),
            object,
            status: e.migration.as_ref().and_then(|m| m.status.clone()),
            host: e.instance.as_ref().and_then(|i| i.host.clone()),
            events: e.events.iter().map(|e| e.name.clone()).collect(),
            published: None,
            delivered: None,
            reply_published: None,
            reply_delivered: None,
            failure: None,
            repeats: 0,
        }
    }

    /// The request was seen once more, or on the other side of the broker.
    pub(super) fn request(&mut self, method: ContentMethod, mark: Mark) {
        let slot = match method {
            ContentMethod::Publish => &mut self.published,
            ContentMethod::Deliver | ContentMethod::GetOk => &mut self.delivered,
            _ => return,
        };
        self.repeats += u32::from(slot.is_some());
        slot.get_or_insert(mark);
    }

    /// The reply was seen. Later replies of the same call end it only.
    pub(super) fn reply(&mut self, method: ContentMethod, mark: Mark, e: &Envelope) {
        let slot = match method {
            ContentMethod::Publish => &mut self.reply_published,
            ContentMethod::Deliver | ContentMethod::GetOk => &mut self.reply_delivered,
            _ => return,
        };
        slot.get_or_insert(mark);
        if self.failure.is_none() {
            self.failure.clone_from(&e.failure);
        }
    }

    /// First byte of the request, where it was seen first.
    pub(in crate::migration) fn begin(&self) -> Option<Mark> {
        let first = self.published.into_iter().chain(self.delivered);
        first.min_by_key(|m| m.begin).map(|m| Mark::at(m.begin))
    }

    /// Last byte of the answer, as its receiver got it if that was seen.
    pub(in crate::migration) fn answer(&self) -> Option<Mark> {
        self.reply_delivered.or(self.reply_published)
    }
}

/// A request of HTTP and its response.
#[derive(Debug, Clone)]
pub(in crate::migration) struct HttpRecord {
    pub(in crate::migration) request: Request,
    pub(in crate::migration) status: u16,
    pub(in crate::migration) begin: Stamp,
    pub(in crate::migration) end: Mark,
}

/// The request to migrate.
#[derive(Debug, Clone)]
pub(in crate::migration) struct Asked {
    pub(in crate::migration) client: String,
    pub(in crate::migration) begin: Stamp,
    /// Status and last byte of the response.
    pub(in crate::migration) response: Option<(u16, Mark)>,
    pub(in crate::migration) api_version: Option<String>,
    pub(in crate::migration) lookups: Option<(Stamp, Stamp)>,
    pub(super) authentication: Authentication,
}

/// One request to migrate one instance, and all that it set off.
#[derive(Debug, Clone)]
pub(in crate::migration) struct Story {
    pub(in crate::migration) id: u64,
    pub(in crate::migration) wish: Wish,
    pub(in crate::migration) instance: Option<String>,
    pub(in crate::migration) request_id: Option<String>,
    pub(in crate::migration) migration_uuid: Option<String>,
    pub(in crate::migration) migration_id: Option<u64>,
    pub(in crate::migration) source_host: Option<String>,
    pub(in crate::migration) destination_host: Option<String>,
    pub(in crate::migration) asked: Option<Asked>,
    pub(in crate::migration) rpcs: Vec<RpcRecord>,
    pub(in crate::migration) requests: Vec<HttpRecord>,
    /// Statuses that the migration was saved with, in order.
    pub(in crate::migration) statuses: Vec<(String, usize)>,
    /// An abort was asked for.
    pub(in crate::migration) abort: Option<Stamp>,
    pub(in crate::migration) truncated: u32,
    /// Instance ports, from events and bindings.
    pub(super) ports: Vec<String>,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// Further messages were left out.
    pub(in crate::migration) left_out: u64,
}

impl Story {
    pub(super) fn new(id: u64, wish: Wish, at: Timestamp) -> Self {
        Self {
            id,
            wish,
            instance: None,
            request_id: None,
            migration_uuid: None,
            migration_id: None,
            source_host: None,
            destination_host: None,
            asked: None,
            rpcs: Vec::new(),
            requests: Vec::new(),
            statuses: Vec::new(),
            abort: None,
            truncated: 0,
            ports: Vec::new(),
            first: at,
            last: at,
            left_out: 0,
        }
    }

    /// The first RPC of this method that fits best: one with an answer before one without.
    pub(in crate::migration) fn rpc(&self, method: &str) -> Option<&RpcRecord> {
        let all = || self.rpcs.iter().filter(|r| r.method == method);
        all()
            .find(|r| r.answer().is_some())
            .or_else(|| all().next())
    }

    /// The RPC that saved the migration with this status.
    pub(in crate::migration) fn saved(&self, status: &str) -> Option<&RpcRecord> {
        let (_, i) = self.statuses.iter().find(|(s, _)| s == status)?;
        self.rpcs.get(*i)
    }

    /// The migration's latest status.
    pub(in crate::migration) fn status(&self) -> Option<&str> {
        self.statuses.last().map(|(s, _)| s.as_str())
    }

    /// Takes the fields of a request's arguments over.
    pub(super) fn learn(&mut self, m: &Message, e: &Envelope) {
        if self.instance.is_none() {
            self.instance.clone_from(&e.instance_uuid);
        }
        self.truncated += u32::from(e.truncated);
        if let Some(migration) = &e.migration {
            let keep = |old: &mut Option<String>, new: &Option<String>| {
                if new.is_some() {
                    old.clone_from(new);
                }
            };
            keep(&mut self.migration_uuid, &migration.uuid);
            keep(&mut self.source_host, &migration.source_compute);
            keep(&mut self.destination_host, &migration.dest_compute);
            self.migration_id = migration.id.or(self.migration_id);
        }
        // `compute.HOST`, where HOST may hold dots.
        let key = &m.routing_key;
        let host = key
            .strip_prefix("compute.")
            .or_else(|| key.strip_prefix("compute-alt."))
            .map(str::to_owned);
        match e.method.as_deref() {
            Some("live_migration") => {
                if e.dest.is_some() {
                    self.destination_host.clone_from(&e.dest);
                }
                self.source_host = host.or(self.source_host.take());
            }
            Some("check_can_live_migrate_source") => {
                self.source_host = host.or(self.source_host.take());
            }
            Some("pre_live_migration" | "post_live_migration_at_destination") => {
                self.destination_host = host.or(self.destination_host.take());
            }
            _ => {}
        }
        for event in &e.events {
            if let Some(port) = &event.tag
                && !self.ports.contains(port)
            {
                self.ports.push(port.clone());
            }
        }
    }
}
