//! A peer-to-peer migration of the guest `web`, step by step, on a built capture.

use phasescope::analysis::analyze;
use phasescope::migration::{Migration, PhaseName};
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

pub fn phase(m: &Migration, name: PhaseName) -> (Option<i64>, Option<i64>) {
    let p = m.phases.iter().find(|p| p.name == name).expect("the phase");
    (
        p.start.as_ref().map(|b| b.offset_ns),
        p.end.as_ref().map(|b| b.offset_ns),
    )
}

/// The daemons' connection up to CONNECT_OPEN's reply at 2 ms.
pub fn open(t: &mut Trace, port: u16) -> Connection {
    let mut c = t.connect(
        0,
        &format!("{SOURCE}:40000"),
        &format!("{DESTINATION}:{port}"),
    );
    let args = Xdr::default().optional(Some("qemu:///system")).u32(0);
    t.send(MS, &mut c, Side::Client, &message(1, CALL, 0, OK, &args));
    t.send(
        2 * MS,
        &mut c,
        Side::Server,
        &message(1, REPLY, 0, OK, &Xdr::default()),
    );
    c
}

pub fn prepare(t: &mut Trace, c: &mut Connection, at: i64, flags: u32) {
    let args = Xdr::default()
        .parameters(&[("destination_name", "web")])
        .opaque(&rpc::cookie("web", UUID, "alpha", ""))
        .u32(flags);
    t.send(at, c, Side::Client, &message(303, CALL, 1, OK, &args));
}

pub fn prepared(t: &mut Trace, c: &mut Connection, at: i64, uri: Option<&str>, more: &str) {
    let ret = Xdr::default()
        .opaque(&rpc::cookie("web", UUID, "beta", more))
        .optional(uri);
    t.send(at, c, Side::Server, &message(303, REPLY, 1, OK, &ret));
}

pub fn finish(t: &mut Trace, c: &mut Connection, at: i64, cancelled: u32) {
    let args = Xdr::default()
        .parameters(&[("destination_name", "web")])
        .opaque(&rpc::cookie("web", UUID, "alpha", ""))
        .u32(LIVE_P2P)
        .u32(cancelled);
    t.send(at, c, Side::Client, &message(306, CALL, 2, OK, &args));
}

pub fn finished(t: &mut Trace, c: &mut Connection, at: i64) {
    let ret = Xdr::default()
        .domain("web", UUID_BYTES)
        .opaque(&rpc::cookie("web", UUID, "beta", ""));
    t.send(at, c, Side::Server, &message(306, REPLY, 2, OK, &ret));
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

pub fn stream(t: &mut Trace, at: i64, bytes: &[u8]) -> Connection {
    let mut m = t.connect(
        at,
        &format!("{SOURCE}:50000"),
        &format!("{DESTINATION}:49152"),
    );
    t.send(at + MS, &mut m, Side::Client, bytes);
    m
}
