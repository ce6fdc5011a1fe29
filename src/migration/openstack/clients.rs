//! Who logged in where, and which servers they asked for: what precedes the request to migrate.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::dissect::http::{Http, Request, Response};
use crate::dissect::secret::Token;
use crate::migration::records::Mark;
use crate::net::{Endpoint, Stamp};
use crate::time::Timestamp;
use phasescope_parsers::openstack::Call;

/// A Keystone request belongs to the login that follows if no more time than this lies between.
/// Nanoseconds.
const LOGIN_PAUSE_NS: i64 = 2_000_000_000;

/// A lookup belongs to the request that follows if no more time than this lies between.
/// Nanoseconds.
const LOOKUP_PAUSE_NS: i64 = 10_000_000_000;

/// A login that ended longer ago belongs to something else. Nanoseconds.
const LOOK_BACK_NS: i64 = 60_000_000_000;

/// Logins, and lookups, that are remembered; the oldest make room.
const MAX_REMEMBERED: usize = 4096;

/// Logins under way that are remembered.
const MAX_APPROACHES: usize = 256;

/// Keystone requests that may lead to a token.
#[derive(Debug, Clone)]
struct Approach {
    client: IpAddr,
    program: Option<String>,
    server: Endpoint,
    discovery: Option<Mark>,
    request: Option<Mark>,
    last: Stamp,
    refused: bool,
}

/// A token was issued.
#[derive(Debug, Clone)]
pub(super) struct Login {
    token: Token,
    /// The discovery directly before.
    pub(super) discovery: Option<Mark>,
    /// First byte of the first request for a token.
    pub(super) request: Mark,
    /// Last byte of the response with the token.
    pub(super) response: Mark,
    /// A request to migrate has used it.
    used: bool,
}

/// What is known of the token that a request to migrate gave.
#[derive(Debug, Clone)]
pub(super) enum Authentication {
    /// Issued for this request.
    Issued(Login),
    /// Issued for an earlier request to migrate.
    Shared,
    /// Issued in the capture, but long before.
    Older,
    /// Not issued in the capture.
    Unseen,
}

/// A question for a server.
#[derive(Debug, Clone)]
struct Lookup {
    client: IpAddr,
    token: Option<Token>,
    refused: bool,
    servers: Vec<String>,
    /// It asked for a name, and the answer could not be read.
    unread: bool,
    begin: Stamp,
    end: Stamp,
}

/// The clients of the cloud's interfaces.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients {
    approaches: Vec<Approach>,
    logins: VecDeque<Login>,
    lookups: VecDeque<Lookup>,
}

fn remember<T>(list: &mut VecDeque<T>, new: T) {
    if list.len() >= MAX_REMEMBERED {
        list.pop_front();
    }
    list.push_back(new);
}

impl Clients {
    /// A Keystone request that comes before the one for a token.
    pub(super) fn discovery(&mut self, client: IpAddr, server: Endpoint, q: &Request, end: Stamp) {
        let begin = Mark::at(q.begin);
        let a = self.approach(client, server, q, end);
        if a.request.is_none() {
            a.discovery.get_or_insert(begin);
        }
    }

    /// The answer to a request for a token.
    pub(super) fn login(
        &mut self,
        client: IpAddr,
        server: Endpoint,
        q: &Request,
        r: &Response,
        end: Stamp,
    ) {
        let begin = Mark::at(q.begin);
        let a = self.approach(client, server, q, end);
        let request = *a.request.get_or_insert(begin);
        let discovery = a.discovery;
        let (Some(token), 200..=299) = (r.token, r.status) else {
            a.refused = true;
            return;
        };
        let program = q.user_agent.clone();
        self.approaches
            .retain(|a| (a.client, a.server) != (client, server) || a.program != program);
        let login = Login {
            token,
            discovery,
            request,
            response: Mark::at(end),
            used: false,
        };
        remember(&mut self.logins, login);
    }

    fn approach(
        &mut self,
        client: IpAddr,
        server: Endpoint,
        q: &Request,
        end: Stamp,
    ) -> &mut Approach {
        let known = self.approaches.iter().position(|a| {
            (a.client, a.server) == (client, server)
                && a.program == q.user_agent
                && q.begin.time.since(a.last.time) <= LOGIN_PAUSE_NS
        });
        let i = known.unwrap_or_else(|| {
            self.approaches
                .retain(|a| (a.client, a.server) != (client, server) || a.program != q.user_agent);
            if self.approaches.len() >= MAX_APPROACHES {
                self.approaches.remove(0);
            }
            self.approaches.push(Approach {
                client,
                program: q.user_agent.clone(),
                server,
                discovery: None,
                request: None,
                last: end,
                refused: false,
            });
            self.approaches.len() - 1
        });
        self.approaches[i].last = end;
        &mut self.approaches[i]
    }

    /// A request to Nova: what the client asked of Keystone before has led to nothing.
    pub(super) fn nova(&mut self, client: IpAddr) {
        self.approaches.retain(|a| a.client != client || a.refused);
    }

    /// The answer to a question for servers.
    pub(super) fn lookup(&mut self, client: IpAddr, q: &Request, http: &Http, end: Stamp) {
        let path = q.call.as_ref().and_then(|c| c.server.clone());
        let status = http.response.as_ref().map(|r| r.status);
        // Clients that take ids and names alike try the name as an id first (`openstacksdk`,
        // `Resource.find`; `osc_lib.utils.find_resource`).
        let show = q.call.as_ref().is_some_and(|c| c.call == Call::ServerShow);
        let named = show && path.is_none() && matches!(status, Some(400 | 404));
        let mut servers: Vec<String> = path.into_iter().collect();
        servers.extend(http.fields.servers.iter().filter_map(|s| s.id.clone()));
        let lookup = Lookup {
            client,
            token: q.token,
            refused: status == Some(401),
            unread: servers.is_empty() && (q.by_name && status != Some(404) || named),
            servers,
            begin: q.begin,
            end,
        };
        if q.by_name || named || (show && !lookup.servers.is_empty()) {
            remember(&mut self.lookups, lookup);
        }
    }

    /// The questions for `server` that led to the request `q`: from the first byte to the last.
    /// They are forgotten: the next request needs its own. `before`: an earlier migration of the
    /// server was under way until then.
    pub(super) fn lookups_for(
        &mut self,
        client: IpAddr,
        server: &str,
        q: &Request,
        before: Option<Timestamp>,
    ) -> Option<(Stamp, Stamp)> {
        let mut found: Option<(Stamp, Stamp)> = None;
        let mut next = q.begin;
        for l in self.lookups.iter().rev() {
            let same = l.client == client && (l.refused || l.token == q.token);
            let about = l.unread || l.servers.iter().any(|s| s == server);
            if !same || !about || l.begin > q.begin {
                continue;
            }
            if before.is_some_and(|t| l.begin.time <= t) {
                break;
            }
            if next.time.since(l.end.time) > LOOKUP_PAUSE_NS {
                break;
            }
            next = l.begin;
            let last = found.map_or(l.end, |(_, last)| last);
            found = Some((l.begin, last));
        }
        if let Some((from, _)) = found {
            self.lookups.retain(|l| {
                l.client != client || l.begin < from || !l.servers.iter().any(|s| s == server)
            });
        }
        found
    }

    /// Where the token of a request to migrate came from; the request's story begins at `from`.
    pub(super) fn authentication(&mut self, token: Option<Token>, from: Stamp) -> Authentication {
        let login = token.and_then(|t| self.logins.iter_mut().rev().find(|l| l.token == t));
        match login {
            None => Authentication::Unseen,
            Some(l) if l.used => Authentication::Shared,
            Some(l) => {
                l.used = true;
                if from.time.since(l.response.stamp.time) > LOOK_BACK_NS {
                    return Authentication::Older;
                }
                Authentication::Issued(l.clone())
            }
        }
    }
}
