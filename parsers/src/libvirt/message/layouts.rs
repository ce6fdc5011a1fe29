//! The layouts, one after the other as they are on the wire.
//!
//! Every function reads a payload to its layout's end; nothing if it does not fit. What is only
//! stepped over is read all the same, for it says what may remain of a blanked payload.
//!
//! Source: libvirt, `src/remote/remote_protocol.x`, `remote_…_args`, `…_ret` and `…_msg`.

use super::{
    super::{
        parameters,
        procedures::{
            AUTH_LIST, CONNECT_GET_HOSTNAME, CONNECT_GET_URI, CONNECT_OPEN,
            CONNECT_SUPPORTS_FEATURE, DOMAIN_ABORT_JOB, DOMAIN_ABORT_JOB_FLAGS,
            DOMAIN_EVENT_CALLBACK_JOB_COMPLETED, DOMAIN_EVENT_CALLBACK_LIFECYCLE,
            DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION, DOMAIN_EVENT_LIFECYCLE, DOMAIN_GET_JOB_INFO,
            DOMAIN_GET_JOB_STATS, DOMAIN_MIGRATE_BEGIN3, DOMAIN_MIGRATE_BEGIN3_PARAMS,
            DOMAIN_MIGRATE_CONFIRM3, DOMAIN_MIGRATE_CONFIRM3_PARAMS, DOMAIN_MIGRATE_FINISH,
            DOMAIN_MIGRATE_FINISH2, DOMAIN_MIGRATE_FINISH3, DOMAIN_MIGRATE_FINISH3_PARAMS,
            DOMAIN_MIGRATE_PERFORM, DOMAIN_MIGRATE_PERFORM3, DOMAIN_MIGRATE_PERFORM3_PARAMS,
            DOMAIN_MIGRATE_PREPARE, DOMAIN_MIGRATE_PREPARE_TUNNEL, DOMAIN_MIGRATE_PREPARE_TUNNEL3,
            DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS, DOMAIN_MIGRATE_PREPARE2,
            DOMAIN_MIGRATE_PREPARE3, DOMAIN_MIGRATE_PREPARE3_PARAMS,
            DOMAIN_MIGRATE_SET_MAX_DOWNTIME, DOMAIN_MIGRATE_SET_MAX_SPEED,
            DOMAIN_MIGRATE_START_POST_COPY,
        },
        reader::{Reader, Treatment},
    },
    Begin, Body, Confirm, Finish, JobInfo, Perform, Prepare, Progress, RpcError,
};

/// Most authentication methods of a list (`REMOTE_AUTH_TYPE_LIST_MAX`).
const MAX_AUTH_TYPES: u32 = 20;

// Procedures without a constant among the procedures', as no other part asks for them.
const CONNECT_GET_VERSION: i32 = 4;
const DOMAIN_CREATE: i32 = 9;
const DOMAIN_DESTROY: i32 = 12;
const DOMAIN_GET_XML_DESC: i32 = 14;
const DOMAIN_GET_INFO: i32 = 16;
const DOMAIN_LOOKUP_BY_ID: i32 = 22;
const DOMAIN_LOOKUP_BY_NAME: i32 = 23;
const DOMAIN_LOOKUP_BY_UUID: i32 = 24;
const DOMAIN_RESUME: i32 = 28;
const DOMAIN_SUSPEND: i32 = 34;
const DOMAIN_UNDEFINE: i32 = 35;
const CONNECT_IS_SECURE: i32 = 149;
const CONNECT_GET_LIB_VERSION: i32 = 157;
const DOMAIN_UNDEFINE_FLAGS: i32 = 231;
const DOMAIN_MIGRATE_GET_MAX_SPEED: i32 = 242;
const DOMAIN_MIGRATE_GET_COMPRESSION_CACHE: i32 = 299;
const DOMAIN_MIGRATE_SET_COMPRESSION_CACHE: i32 = 300;
const CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: i32 = 316;
const CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY: i32 = 317;
const CONNECT_EVENT_CONNECTION_CLOSED: i32 = 362;
const DOMAIN_MIGRATE_GET_MAX_DOWNTIME: i32 = 387;

/// `struct virNetMessageError`, up to where people read it.
pub(super) fn error(r: &mut Reader<'_>) -> Option<Body> {
    let code = r.i32()?;
    let domain = r.i32()?;
    let message = r.optional_text(Treatment::Keep)?;
    Some(Body::Error(RpcError {
        code,
        domain,
        level: r.i32()?,
        message,
    }))
}

/// A call's arguments.
pub(super) fn call(procedure: i32, r: &mut Reader<'_>) -> Option<Body> {
    match procedure {
        CONNECT_OPEN => {
            let uri = r.optional_text(Treatment::Uri)?;
            Some(Body::Open {
                uri,
                flags: r.u32()?,
            })
        }
        CONNECT_SUPPORTS_FEATURE => r.i32().map(Body::Feature),
        CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY => {
            r.i32()?;
            r.skip_optional_domain()?;
            Some(Body::Other)
        }
        CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY => r.i32().map(|_| Body::Other),
        DOMAIN_GET_INFO | DOMAIN_SUSPEND | DOMAIN_RESUME | DOMAIN_CREATE | DOMAIN_DESTROY
        | DOMAIN_UNDEFINE | DOMAIN_GET_JOB_INFO | DOMAIN_ABORT_JOB => r.domain().map(Body::Domain),
        DOMAIN_GET_XML_DESC
        | DOMAIN_UNDEFINE_FLAGS
        | DOMAIN_GET_JOB_STATS
        | DOMAIN_ABORT_JOB_FLAGS
        | DOMAIN_MIGRATE_GET_MAX_DOWNTIME
        | DOMAIN_MIGRATE_GET_MAX_SPEED
        | DOMAIN_MIGRATE_GET_COMPRESSION_CACHE
        | DOMAIN_MIGRATE_START_POST_COPY => {
            let domain = r.domain()?;
            r.u32()?;
            Some(Body::Domain(domain))
        }
        DOMAIN_MIGRATE_SET_MAX_DOWNTIME
        | DOMAIN_MIGRATE_SET_MAX_SPEED
        | DOMAIN_MIGRATE_SET_COMPRESSION_CACHE => {
            let domain = r.domain()?;
            r.u64()?;
            r.u32()?;
            Some(Body::Domain(domain))
        }
        DOMAIN_MIGRATE_BEGIN3 | DOMAIN_MIGRATE_BEGIN3_PARAMS => {
            begin(procedure, r).map(Body::Begin)
        }
        DOMAIN_MIGRATE_PREPARE
        | DOMAIN_MIGRATE_PREPARE2
        | DOMAIN_MIGRATE_PREPARE3
        | DOMAIN_MIGRATE_PREPARE_TUNNEL
        | DOMAIN_MIGRATE_PREPARE_TUNNEL3 => prepare(procedure, r).map(Body::Prepare),
        DOMAIN_MIGRATE_PREPARE3_PARAMS | DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS => {
            prepare_params(procedure, r).map(Body::Prepare)
        }
        DOMAIN_MIGRATE_PERFORM => perform(r).map(Body::Perform),
        DOMAIN_MIGRATE_PERFORM3 => perform3(r).map(Body::Perform),
        DOMAIN_MIGRATE_PERFORM3_PARAMS => perform3_params(r).map(Body::Perform),
        DOMAIN_MIGRATE_FINISH | DOMAIN_MIGRATE_FINISH2 | DOMAIN_MIGRATE_FINISH3 => {
            finish(procedure, r).map(Body::Finish)
        }
        DOMAIN_MIGRATE_FINISH3_PARAMS => finish3_params(r).map(Body::Finish),
        DOMAIN_MIGRATE_CONFIRM3 | DOMAIN_MIGRATE_CONFIRM3_PARAMS => {
            confirm(procedure, r).map(Body::Confirm)
        }
        _ => Some(Body::Other),
    }
}

/// The result of a call that succeeded.
pub(super) fn reply(procedure: i32, r: &mut Reader<'_>) -> Option<Body> {
    match procedure {
        AUTH_LIST => {
            let count = r.u32().filter(|&count| count <= MAX_AUTH_TYPES)?;
            (0..count)
                .map(|_| r.u32())
                .collect::<Option<_>>()
                .map(Body::AuthList)
        }
        CONNECT_SUPPORTS_FEATURE => r.i32().map(Body::FeatureSupported),
        CONNECT_GET_HOSTNAME => r.text(Treatment::Keep).map(Body::Hostname),
        DOMAIN_LOOKUP_BY_ID | DOMAIN_LOOKUP_BY_NAME | DOMAIN_LOOKUP_BY_UUID => {
            r.domain().map(Body::Domain)
        }
        CONNECT_GET_URI => r.skip(Treatment::Uri).map(|()| Body::Other),
        DOMAIN_GET_XML_DESC => r.skip(Treatment::Domain).map(|()| Body::Other),
        CONNECT_IS_SECURE | CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY => {
            r.i32().map(|_| Body::Other)
        }
        CONNECT_GET_VERSION
        | CONNECT_GET_LIB_VERSION
        | DOMAIN_MIGRATE_GET_MAX_DOWNTIME
        | DOMAIN_MIGRATE_GET_MAX_SPEED
        | DOMAIN_MIGRATE_GET_COMPRESSION_CACHE => r.u64().map(|_| Body::Other),
        DOMAIN_GET_JOB_INFO => job_info(r).map(Body::JobInfo),
        DOMAIN_GET_JOB_STATS => {
            let kind = r.i32()?;
            Some(Body::JobStatistics {
                kind,
                statistics: parameters::statistics(r)?,
            })
        }
        DOMAIN_MIGRATE_BEGIN3 | DOMAIN_MIGRATE_BEGIN3_PARAMS => {
            let cookie = unless_at_end(r, Reader::cookie)?;
            let domain = unless_at_end(r, Reader::domain_xml)?;
            Some(Body::BeginReply { cookie, domain })
        }
        DOMAIN_MIGRATE_PREPARE
        | DOMAIN_MIGRATE_PREPARE2
        | DOMAIN_MIGRATE_PREPARE3
        | DOMAIN_MIGRATE_PREPARE3_PARAMS => {
            let cookie = unless_at_end(r, Reader::cookie)?;
            let uri = unless_at_end(r, |r| r.optional_text(Treatment::Uri))?;
            Some(Body::PrepareReply { cookie, uri })
        }
        DOMAIN_MIGRATE_PREPARE_TUNNEL => Some(Body::PrepareReply {
            cookie: None,
            uri: None,
        }),
        DOMAIN_MIGRATE_PREPARE_TUNNEL3 | DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS => {
            let cookie = unless_at_end(r, Reader::cookie)?;
            Some(Body::PrepareReply { cookie, uri: None })
        }
        DOMAIN_MIGRATE_PERFORM => Some(Body::PerformReply { cookie: None }),
        DOMAIN_MIGRATE_PERFORM3 | DOMAIN_MIGRATE_PERFORM3_PARAMS => Some(Body::PerformReply {
            cookie: unless_at_end(r, Reader::cookie)?,
        }),
        DOMAIN_MIGRATE_FINISH | DOMAIN_MIGRATE_FINISH2 => {
            let domain = unless_at_end(r, |r| r.domain().map(Some))?;
            Some(Body::FinishReply {
                domain,
                cookie: None,
            })
        }
        DOMAIN_MIGRATE_FINISH3 | DOMAIN_MIGRATE_FINISH3_PARAMS => {
            let domain = unless_at_end(r, |r| r.domain().map(Some))?;
            let cookie = unless_at_end(r, Reader::cookie)?;
            Some(Body::FinishReply { domain, cookie })
        }
        _ => Some(Body::Other),
    }
}

/// An event.
pub(super) fn event(procedure: i32, r: &mut Reader<'_>) -> Option<Body> {
    match procedure {
        DOMAIN_EVENT_LIFECYCLE | DOMAIN_EVENT_CALLBACK_LIFECYCLE => {
            callback(procedure == DOMAIN_EVENT_CALLBACK_LIFECYCLE, r)?;
            let domain = r.domain()?;
            let event = r.i32()?;
            Some(Body::Lifecycle {
                domain,
                event,
                detail: r.i32()?,
            })
        }
        DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION => {
            callback(true, r)?;
            let domain = r.domain()?;
            Some(Body::Iteration {
                domain,
                iteration: r.i32()?,
            })
        }
        DOMAIN_EVENT_CALLBACK_JOB_COMPLETED => {
            callback(true, r)?;
            let domain = r.domain()?;
            Some(Body::JobCompleted {
                domain,
                statistics: parameters::statistics(r)?,
            })
        }
        CONNECT_EVENT_CONNECTION_CLOSED => r.i32().map(|_| Body::Other),
        _ => Some(Body::Other),
    }
}

/// The number of the callback that an event is for.
fn callback(present: bool, r: &mut Reader<'_>) -> Option<()> {
    if present {
        r.i32()?;
    }
    Some(())
}

/// The next item, or nothing within if the payload has come to its end.
fn unless_at_end<'a, T>(
    r: &mut Reader<'a>,
    item: impl FnOnce(&mut Reader<'a>) -> Option<Option<T>>,
) -> Option<Option<T>> {
    if r.is_empty() { Some(None) } else { item(r) }
}

fn begin(procedure: i32, r: &mut Reader<'_>) -> Option<Begin> {
    let domain = r.domain()?;
    if procedure == DOMAIN_MIGRATE_BEGIN3_PARAMS {
        let destination_name = parameters::migration(r)?.destination_name;
        let flags = r.u32()?.into();
        return Some(Begin {
            params: true,
            domain,
            flags,
            destination_name,
        });
    }
    r.skip_optional(Treatment::Domain)?;
    let flags = r.u64()?;
    let destination_name = r.optional_text(Treatment::Keep)?;
    r.u64()?;
    Some(Begin {
        params: false,
        domain,
        flags,
        destination_name,
    })
}

/// The forms without parameters: a cookie in protocol 3, a URI unless tunnelled, and the XML
/// from protocol 2 on.
fn prepare(procedure: i32, r: &mut Reader<'_>) -> Option<Prepare> {
    let (version, tunnelled) = match procedure {
        DOMAIN_MIGRATE_PREPARE => (1, false),
        DOMAIN_MIGRATE_PREPARE2 => (2, false),
        DOMAIN_MIGRATE_PREPARE_TUNNEL => (2, true),
        DOMAIN_MIGRATE_PREPARE3 => (3, false),
        _ => (3, true),
    };
    let cookie = if version == 3 { r.cookie()? } else { None };
    let uri_in = if tunnelled {
        None
    } else {
        r.optional_text(Treatment::Uri)?
    };
    let flags = r.u64()?;
    let destination_name = r.optional_text(Treatment::Keep)?;
    let bandwidth = Some(r.u64()?);
    let domain = if version == 1 { None } else { r.domain_xml()? };
    Some(Prepare {
        version,
        params: false,
        tunnelled,
        cookie,
        uri_in,
        destination_name,
        flags,
        bandwidth,
        domain,
        parallel_connections: None,
        disks_port: None,
        compression: Vec::new(),
        listen_address: None,
    })
}

fn prepare_params(procedure: i32, r: &mut Reader<'_>) -> Option<Prepare> {
    let parameters = parameters::migration(r)?;
    let cookie = r.cookie()?;
    let flags = r.u32()?.into();
    Some(Prepare {
        version: 3,
        params: true,
        tunnelled: procedure == DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS,
        cookie,
        uri_in: parameters.migrate_uri,
        destination_name: parameters.destination_name,
        flags,
        bandwidth: parameters.bandwidth,
        domain: parameters.destination,
        parallel_connections: parameters.parallel_connections,
        disks_port: parameters.disks_port,
        compression: parameters.compression,
        listen_address: parameters.listen_address,
    })
}

fn perform(r: &mut Reader<'_>) -> Option<Perform> {
    let domain = r.domain()?;
    let cookie = r.cookie()?;
    let uri = Some(r.text(Treatment::Uri)?);
    let flags = r.u64()?;
    r.skip_optional(Treatment::Blank)?;
    r.u64()?;
    Some(Perform {
        version: 1,
        params: false,
        domain,
        dconnuri: None,
        uri,
        flags,
        cookie,
    })
}

fn perform3(r: &mut Reader<'_>) -> Option<Perform> {
    let domain = r.domain()?;
    r.skip_optional(Treatment::Domain)?;
    let cookie = r.cookie()?;
    let dconnuri = r.optional_text(Treatment::Uri)?;
    let uri = r.optional_text(Treatment::Uri)?;
    let flags = r.u64()?;
    r.skip_optional(Treatment::Blank)?;
    r.u64()?;
    Some(Perform {
        version: 3,
        params: false,
        domain,
        dconnuri,
        uri,
        flags,
        cookie,
    })
}

fn perform3_params(r: &mut Reader<'_>) -> Option<Perform> {
    let domain = r.domain()?;
    let dconnuri = r.optional_text(Treatment::Uri)?;
    let uri = parameters::migration(r)?.migrate_uri;
    let cookie = r.cookie()?;
    let flags = r.u32()?.into();
    Some(Perform {
        version: 3,
        params: true,
        domain,
        dconnuri,
        uri,
        flags,
        cookie,
    })
}

fn finish(procedure: i32, r: &mut Reader<'_>) -> Option<Finish> {
    let version = match procedure {
        DOMAIN_MIGRATE_FINISH => 1,
        DOMAIN_MIGRATE_FINISH2 => 2,
        _ => 3,
    };
    let destination_name = Some(r.text(Treatment::Keep)?);
    let cookie = r.cookie()?;
    let (dconnuri, uri) = if version == 3 {
        (
            r.optional_text(Treatment::Uri)?,
            r.optional_text(Treatment::Uri)?,
        )
    } else {
        (None, Some(r.text(Treatment::Uri)?))
    };
    let flags = r.u64()?;
    let cancelled = if version == 1 { None } else { Some(r.i32()?) };
    Some(Finish {
        version,
        params: false,
        destination_name,
        cookie,
        uri,
        dconnuri,
        flags,
        cancelled,
    })
}

fn finish3_params(r: &mut Reader<'_>) -> Option<Finish> {
    let parameters = parameters::migration(r)?;
    let cookie = r.cookie()?;
    let flags = r.u32()?.into();
    Some(Finish {
        version: 3,
        params: true,
        destination_name: parameters.destination_name,
        cookie,
        uri: parameters.migrate_uri,
        dconnuri: None,
        flags,
        cancelled: Some(r.i32()?),
    })
}

fn confirm(procedure: i32, r: &mut Reader<'_>) -> Option<Confirm> {
    let domain = r.domain()?;
    let params = procedure == DOMAIN_MIGRATE_CONFIRM3_PARAMS;
    if params {
        parameters::migration(r)?;
    }
    let cookie = r.cookie()?;
    let flags = if params { r.u32()?.into() } else { r.u64()? };
    Some(Confirm {
        params,
        domain,
        cookie,
        flags,
        cancelled: r.i32()?,
    })
}

fn job_info(r: &mut Reader<'_>) -> Option<JobInfo> {
    let kind = r.i32()?;
    let time_elapsed = r.u64()?;
    let time_remaining = r.u64()?;
    let mut progress = || {
        Some(Progress {
            total: r.u64()?,
            processed: r.u64()?,
            remaining: r.u64()?,
        })
    };
    let (data, memory, file) = (progress()?, progress()?, progress()?);
    Some(JobInfo {
        kind,
        time_elapsed,
        time_remaining,
        data,
        memory,
        file,
    })
}
