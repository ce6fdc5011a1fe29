//! libvirt RPC messages for built captures.
//!
//! Layouts: libvirt `src/remote/remote_protocol.x`, `src/rpc/virnetprotocol.x`.

pub const CALL: u32 = 0;
pub const REPLY: u32 = 1;
pub const EVENT: u32 = 2;
pub const STREAM: u32 = 3;

pub const OK: u32 = 0;
pub const ERROR: u32 = 1;
pub const CONTINUE: u32 = 2;

/// XDR items.
#[derive(Default, Clone)]
pub struct Xdr(pub Vec<u8>);

impl Xdr {
    pub fn u32(mut self, v: u32) -> Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub fn u64(mut self, v: u64) -> Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub fn opaque(mut self, b: &[u8]) -> Self {
        self = self.u32(b.len() as u32);
        self.0.extend(b);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn string(self, s: &str) -> Self {
        self.opaque(s.as_bytes())
    }

    pub fn optional(self, s: Option<&str>) -> Self {
        match s {
            Some(s) => self.u32(1).string(s),
            None => self.u32(0),
        }
    }

    pub fn domain(mut self, name: &str, uuid: [u8; 16]) -> Self {
        self = self.string(name);
        self.0.extend(uuid);
        self.u32(1)
    }

    /// Typed parameters, all strings.
    pub fn parameters(mut self, list: &[(&str, &str)]) -> Self {
        self = self.u32(list.len() as u32);
        for (name, value) in list {
            self = self.string(name).u32(7).string(value);
        }
        self
    }
}

/// A message of the remote program.
pub fn message(procedure: u32, kind: u32, serial: u32, status: u32, body: &Xdr) -> Vec<u8> {
    message_of(0x2000_8086, procedure, kind, serial, status, body)
}

/// A keepalive request: no reply has its serial, a PONG answers it.
pub fn ping() -> Vec<u8> {
    message_of(0x6b65_6570, 1, EVENT, 0, OK, &Xdr::default())
}

fn message_of(
    program: u32,
    procedure: u32,
    kind: u32,
    serial: u32,
    status: u32,
    body: &Xdr,
) -> Vec<u8> {
    let mut out = Xdr::default()
        .u32(28 + body.0.len() as u32)
        .u32(program)
        .u32(1)
        .u32(procedure)
        .u32(kind)
        .u32(serial)
        .u32(status)
        .0;
    out.extend(&body.0);
    out
}

/// The body of an error.
pub fn error(code: u32, text: &str) -> Xdr {
    error_from(code, 10, text)
}

/// The same from another part of libvirt (`virErrorDomain`).
pub fn error_from(code: u32, domain: u32, text: &str) -> Xdr {
    Xdr::default()
        .u32(code)
        .u32(domain)
        .optional(Some(text))
        .u32(2)
        .u32(0)
        .u32(0)
        .u32(0)
        .u32(0)
        .u32(0)
        .u32(0)
        .u32(0)
}

/// A cookie with its trailing NUL.
pub fn cookie(name: &str, uuid: &str, hostname: &str, more: &str) -> Vec<u8> {
    format!(
        "<qemu-migration>\n  <name>{name}</name>\n  <uuid>{uuid}</uuid>\n  \
         <hostname>{hostname}</hostname>\n{more}</qemu-migration>\n\0"
    )
    .into_bytes()
}
