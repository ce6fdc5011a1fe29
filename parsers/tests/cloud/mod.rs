//! Builders of wire bytes for the tests.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test uses some of it"
)]

use phasescope_parsers::http::{Decoder, Item, Side};
use phasescope_parsers::openstack::{Call, request_fields, response_fields};
use proptest::sample::Index;

pub const SECRET: &str = "gAAAAABplantedSecretToken";
pub const PASSWORD: &str = "plantedPassw0rd";
pub const INSTANCE: &str = "c88b8316-2246-4441-a4e1-e1be48aa3326";
pub const PORT: &str = "2032086f-4b51-40fd-854b-ca44dcc689c3";

/// A stand-in for the caller's keyed hash (FNV-1a).
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What the decoder of HTTP gives, and all that the bodies say as those of any call.
pub fn all_that_is_read(bytes: &[u8], side: Side, hash: &dyn Fn(&[u8]) -> u64) -> String {
    let mut text = String::new();
    let mut out = |item: Item<'_, u8>| {
        text.push_str(&format!("{item:?}\n"));
        let body = match &item {
            Item::Request(r) => r.content.body.bytes(),
            Item::Response(r) => r.content.body.bytes(),
            Item::Skipped { .. } => &[],
        };
        for call in [
            Call::LoginV3,
            Call::LoginV2,
            Call::ServerAction,
            Call::ServerShow,
            Call::ExternalEvents,
            Call::PortShow,
        ] {
            text.push_str(&format!("{:?}", request_fields(call, body, hash)));
            text.push_str(&format!("{:?}", response_fields(call, body, hash)));
        }
    };
    let mut decoder = Decoder::new(side);
    decoder.push(0, bytes, hash, &mut out);
    decoder.finish(&mut out);
    text
}

/// `bytes` with some of them changed, cut.
pub fn changed(mut bytes: Vec<u8>, changes: Vec<(Index, u8)>, cut: Index) -> Vec<u8> {
    for (at, byte) in changes {
        *at.get_mut(&mut bytes) = byte;
    }
    bytes.truncate(cut.index(bytes.len() + 1));
    bytes
}

pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xCE);
    bytes
}

pub fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(text.len()).unwrap()];
    bytes.extend(text.as_bytes());
    bytes
}

pub fn long(text: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text);
    bytes
}

pub fn table(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut inner = Vec::new();
    for (name, value) in fields {
        inner.extend(short(name));
        inner.push(b'S');
        inner.extend(long(value.as_bytes()));
    }
    long(&inner)
}

pub fn method(class: u16, number: u16, arguments: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(number.to_be_bytes());
    payload.extend(arguments.concat());
    payload
}

pub fn publish(exchange: &str, key: &str) -> Vec<u8> {
    method(60, 40, &[vec![0, 0], short(exchange), short(key), vec![0]])
}

pub fn deliver(tag: u64, exchange: &str, key: &str) -> Vec<u8> {
    method(
        60,
        60,
        &[
            short("1"),
            tag.to_be_bytes().to_vec(),
            vec![0],
            short(exchange),
            short(key),
        ],
    )
}

pub fn content_header(size: usize) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend((size as u64).to_be_bytes());
    payload.extend([0xF8, 0x10]);
    payload.extend(short("application/json"));
    payload.extend(short("utf-8"));
    payload.extend(table(&[("x-secret", PASSWORD)]));
    payload.extend([2, 0]);
    payload.extend(short(PASSWORD));
    payload
}

/// A message with its body in frames of `chunk` bytes.
pub fn message(channel: u16, carrier: &[u8], body: &[u8], chunk: usize) -> Vec<u8> {
    let mut bytes = frame(1, channel, carrier);
    bytes.extend(frame(2, channel, &content_header(body.len())));
    for part in body.chunks(chunk) {
        bytes.extend(frame(3, channel, part));
    }
    bytes
}

pub fn heartbeat() -> Vec<u8> {
    frame(8, 0, &[])
}

pub fn start_ok() -> Vec<u8> {
    method(
        10,
        11,
        &[
            table(&[
                ("product", "py-amqp"),
                ("connection_name", "nova-compute:42:abc"),
                ("other", PASSWORD),
            ]),
            short("PLAIN"),
            long(format!("\0guest\0{PASSWORD}").as_bytes()),
            short("en_US"),
        ],
    )
}

pub fn envelope(inner: &str) -> Vec<u8> {
    serde_json::json!({"oslo.version": "2.0", "oslo.message": inner})
        .to_string()
        .into_bytes()
}

/// The inner JSON of a `pre_live_migration` call, with planted secrets.
pub fn pre_live_migration() -> String {
    serde_json::json!({
        "method": "pre_live_migration",
        "args": {
            "instance": {
                "nova_object.name": "Instance",
                "nova_object.namespace": "nova",
                "nova_object.version": "2.7",
                "nova_object.data": {
                    "uuid": INSTANCE, "host": "compute1", "task_state": "migrating",
                    "vm_state": "active", "user_data": PASSWORD, "display_name": "vm \"1\" é",
                    "metadata": {"password": PASSWORD},
                },
            },
            "migration": {
                "nova_object.name": "Migration",
                "nova_object.data": {
                    "id": 4, "uuid": PORT, "status": "preparing", "instance_uuid": INSTANCE,
                    "source_compute": "compute1", "dest_compute": "compute2",
                    "migration_type": "live-migration",
                },
            },
            "block_migration": false,
            "disk": null,
        },
        "version": "6.0",
        "_msg_id": "8b3f6ef26c2f4a0d8b2a3a3a3a3a3a3a",
        "_reply_q": "reply_5ce98d7c7d73428ab78d2a2417408e84",
        "_timeout": null,
        "_unique_id": "0123456789abcdef0123456789abcdef",
        "_context_request_id": "req-16cf61bc-0000-4000-8000-000000000000",
        "_context_global_request_id": null,
        "_context_auth_token": SECRET,
        "_context_user_name": "admin",
        "_context_service_catalog": [{"url": PASSWORD}],
    })
    .to_string()
}
