//! A peer-to-peer migration of the guest `web`, step by step, on a built capture.

use phasescope::analysis::analyze;
use phasescope::migration::{Migration, Phase, PhaseName};
use phasescope::report::Report;

use super::rpc::{self, CALL, ERROR, OK, REPLY, Xdr, message};
use super::trace::{Connection, Side, Trace};

pub const MS: i64 = 1_000_000;
pub const UUID: &str = "01020304-0506-0708-090a-0b0c0d0e0f10";
pub const UUID_BYTES: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

pub const SOURCE: &str = "10.0.0.1";
pub const DESTINATION: &str = "10.0.0.2";

pub const LIVE_P2P: u32 = 0x1 | 0x2;

pub fn report(t: &Trace) -> Report {
    analyze(&mut t.capture(), |_| true).expect("reads")
}

pub fn one(t: &Trace) -> Migration {
    let mut r = report(t);
    assert_eq!(r.migrations.len(), 1, "{:#?}", r.migrations);
    r.migrations.remove(0)
}

pub fn names(m: &Migration) -> Vec<PhaseName> {
    m.phases.iter().map(|p| p.name).collect()
}

pub fn phase_of(m: &Migration, name: PhaseName) -> &Phase {
    m.phases.iter().find(|p| p.name == name).expect("the phase")
}

/// Where a phase begins and ends.
pub fn phase(m: &Migration, name: PhaseName) -> (Option<i64>, Option<i64>) {
    let p = phase_of(m, name);
    (
        p.start.as_ref().map(|b| b.offset_ns),
        p.end.as_ref().map(|b| b.offset_ns),
    )
}

/// `web`'s cookie from one of the hosts, `alpha` or `beta`.
pub fn cookie(host: &str, more: &str) -> Vec<u8> {
    rpc::cookie("web", UUID, host, more)
}

/// What PREPARE and FINISH begin with: a guest, and the source's cookie.
pub fn guest(name: &str, uuid: &str) -> Xdr {
    Xdr::default()
        .parameters(&[("destination_name", name)])
        .opaque(&rpc::cookie(name, uuid, "alpha", ""))
}

pub fn call(t: &mut Trace, c: &mut Connection, at: i64, (procedure, serial): (u32, u32), b: &Xdr) {
    let call = message(procedure, CALL, serial, OK, b);
    t.send(at, c, Side::Client, &call);
}

pub fn reply(t: &mut Trace, c: &mut Connection, at: i64, (procedure, serial): (u32, u32), b: &Xdr) {
    let reply = message(procedure, REPLY, serial, OK, b);
    t.send(at, c, Side::Server, &reply);
}

/// The daemons' connection up to CONNECT_OPEN's reply at 2 ms.
pub fn open(t: &mut Trace, port: u16) -> Connection {
    let mut c = t.connect(
        0,
        &format!("{SOURCE}:40000"),
        &format!("{DESTINATION}:{port}"),
    );
    let args = Xdr::default().optional(Some("qemu:///system")).u32(0);
    call(t, &mut c, MS, (1, 0), &args);
    reply(t, &mut c, 2 * MS, (1, 0), &Xdr::default());
    c
}

/// A capture up to the reply of PREPARE, at 50 ms.
pub fn begun(flags: u32, more: &str) -> (Trace, Connection) {
    let mut t = Trace::default();
    let mut c = open(&mut t, 16509);
    prepare(&mut t, &mut c, 3 * MS, flags);
    prepared(&mut t, &mut c, 50 * MS, Some("tcp:beta:49152"), more);
    (t, c)
}

/// FINISH, its reply and the end of the daemons' connection, 5 ms apart.
pub fn ended(t: &mut Trace, c: &mut Connection, at: i64) {
    finish(t, c, at, 0);
    finished(t, c, at + 5 * MS);
    t.close(at + 10 * MS, c);
}

pub fn prepare(t: &mut Trace, c: &mut Connection, at: i64, flags: u32) {
    call(t, c, at, (303, 1), &guest("web", UUID).u32(flags));
}

pub fn prepared(t: &mut Trace, c: &mut Connection, at: i64, uri: Option<&str>, more: &str) {
    let ret = Xdr::default().opaque(&cookie("beta", more)).optional(uri);
    reply(t, c, at, (303, 1), &ret);
}

pub fn finish(t: &mut Trace, c: &mut Connection, at: i64, cancelled: u32) {
    let args = guest("web", UUID).u32(LIVE_P2P).u32(cancelled);
    call(t, c, at, (306, 2), &args);
}

pub fn finished(t: &mut Trace, c: &mut Connection, at: i64) {
    let ret = Xdr::default()
        .domain("web", UUID_BYTES)
        .opaque(&cookie("beta", ""));
    reply(t, c, at, (306, 2), &ret);
}

pub fn failed(
    t: &mut Trace,
    c: &mut Connection,
    at: i64,
    procedure: u32,
    serial: u32,
    code: u32,
    text: &str,
) {
    let body = rpc::error(code, text);
    t.send(
        at,
        c,
        Side::Server,
        &message(procedure, REPLY, serial, ERROR, &body),
    );
}

/// The migration's own connection.
pub fn channel(t: &mut Trace, at: i64) -> Connection {
    t.connect(
        at,
        &format!("{SOURCE}:50000"),
        &format!("{DESTINATION}:49152"),
    )
}

pub fn stream(t: &mut Trace, at: i64, bytes: &[u8]) -> Connection {
    let mut m = channel(t, at);
    t.send(at + MS, &mut m, Side::Client, bytes);
    m
}
